import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../src/base/index.ts';
import { CHAIN_START, decodeLine, encodeLine } from '../../../src/history/line-codec.ts';
import { OPENED, recordsOf } from '../../support/history-fixtures.ts';
import { naiveCrc32c, naiveLog } from '../../support/naive-history.ts';

const withoutNewline = (bytes: Uint8Array) => bytes.subarray(0, -1);

describe('lines of the log', () => {
  it('agree with the naive twin, whose checksum is the published one', () => {
    expect(naiveCrc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    const records = recordsOf(4);
    let link = CHAIN_START;
    let text = '';
    for (const record of records) {
      const encoded = encodeLine(link, record);
      expect(decodeLine(link, withoutNewline(encoded.bytes))).toEqual({ record, link: encoded.link });
      text += Buffer.from(encoded.bytes).toString('utf8');
      link = encoded.link;
    }
    expect(text).toBe(naiveLog(records));
  });

  it('carry any text, on one line', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), (reason) => {
        const record = { kind: 'resumed', fromStep: 0, reason, time: '2026-11-21T12:00:00Z' } as const;
        const { bytes } = encodeLine(7, record);
        expect(bytes.indexOf(0x0a)).toBe(bytes.length - 1);
        expect(decodeLine(7, withoutNewline(bytes))).toMatchObject({ record });
      }),
    );
  });

  it('do not decode behind another line than their own', () => {
    const { bytes } = encodeLine(1, OPENED);
    expect(decodeLine(2, withoutNewline(bytes))).toMatchObject({ record: null, intact: false });
  });

  it('tell a damaged line from one that was written by something else', () => {
    const line = (json: string) => {
      const crc = naiveCrc32c(Buffer.from(`00000000${json}`));
      return Buffer.from(`${crc.toString(16).padStart(8, '0')} ${json}`);
    };
    expect(decodeLine(0, line('{"kind":"renamed"}'))).toMatchObject({ record: null, intact: true });
    expect(decodeLine(0, line('{"kind"'))).toMatchObject({ record: null, intact: true });
    expect(decodeLine(0, Buffer.from(''))).toMatchObject({ record: null, intact: false });
    expect(decodeLine(0, Buffer.from('0000000g {}'))).toMatchObject({ record: null, intact: false });
  });

  it('refuse a record that could not be read back', () => {
    expect(() => encodeLine(0, { ...OPENED, runId: '' } as typeof OPENED)).toThrow(InvariantError);
  });
});
