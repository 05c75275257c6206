import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { LockstepError } from '../../../src/base/index.ts';
import { CommitLog, type HistoryRecord, readHistory } from '../../../src/history/index.ts';
import { recordsOf } from '../../support/history-fixtures.ts';
import { naiveLog } from '../../support/naive-history.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const RECORDS = recordsOf(3, 1);
const LINES = naiveLog(RECORDS).match(/.*\n/g)!;
const WHOLE = Buffer.from(LINES.join(''));
let path: string;

beforeAll(async () => {
  path = join(await temporaryFolder(), 'history.log');
});

/** What opening makes of a log of these bytes: how many records it leaves, or the error. */
async function open(bytes: Uint8Array) {
  writeFileSync(path, bytes);
  let log: CommitLog;
  try {
    log = await CommitLog.open(path);
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    expect(error.code).toBe('HISTORY_CORRUPT');
    expect(error.message).toMatch(/^[^\n]*history\.log: line \d+ \(byte \d+\) [^\n]+; restore/);
    expect(Buffer.compare(readFileSync(path), bytes)).toBe(0);
    return { records: null, note: null, error };
  }
  await log.close();
  const records: HistoryRecord[] = [];
  for await (const record of readHistory(path)) records.push(record);
  expect(RECORDS.slice(0, records.length)).toEqual(records);
  expect(readFileSync(path, 'utf8')).toBe(LINES.slice(0, records.length).join(''));
  return { records: records.length, note: log.note, error: null };
}

describe('a damaged log', () => {
  it('is cut anywhere: what is left is every whole record before the cut', async () => {
    for (let length = 0; length <= WHOLE.length; length += 1) {
      // Every fifth place, and every one around the ends of lines.
      const nearEnd = WHOLE.subarray(Math.max(0, length - 3), length + 3).includes(0x0a);
      if (length % 5 !== 0 && !nearEnd) continue;
      const newlines = WHOLE.subarray(0, length).filter((byte) => byte === 0x0a).length;
      const torn = length > 0 && WHOLE[length - 1] !== 0x0a;
      const { records, note } = await open(WHOLE.subarray(0, length));
      expect(records).toBe(newlines);
      if (torn) expect(note).toMatch(new RegExp(`line ${newlines + 1} .* does not end with a newline`));
      else expect(note).toBeNull();
    }
  }, 60_000);

  it('has one byte changed: refused, or the last record dropped, never believed', async () => {
    const lastLine = WHOLE.length - LINES.at(-1)!.length;
    await fc.assert(
      fc.asyncProperty(fc.nat(WHOLE.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const damaged = Buffer.from(WHOLE);
        damaged[at]! ^= flip;
        const { records, note, error } = await open(damaged);
        if (error !== null) return;
        expect(note).toMatch(/dropped \d+ bytes/);
        // The newline before the last line may have gone, which makes one line of two.
        expect(at).toBeGreaterThanOrEqual(lastLine - 1);
        expect(records).toBe(at === lastLine - 1 ? LINES.length - 2 : LINES.length - 1);
      }),
      { numRuns: 300 },
    );
  }, 60_000);

  it('has a line removed, doubled or two exchanged: refused at that line', async () => {
    const numLines = LINES.length;
    for (let index = 0; index < numLines - 2; index += 1) {
      const removed = LINES.toSpliced(index, 1);
      const doubled = LINES.toSpliced(index, 0, LINES[index]!);
      const exchanged = LINES.with(index, LINES[index + 1]!).with(index + 1, LINES[index]!);
      for (const [lines, line] of [
        [removed, index + 1],
        [doubled, index + 2],
        [exchanged, index + 1],
      ] as const) {
        const { error } = await open(Buffer.from(lines.join('')));
        expect(error?.context).toMatchObject({ line, offset: lines.slice(0, line - 1).join('').length });
      }
    }
  });

  it('ends in zeros, as a file system may leave it: they go', async () => {
    const { records, note } = await open(Buffer.concat([WHOLE, Buffer.alloc(5000)]));
    expect(records).toBe(LINES.length);
    expect(note).toMatch(/dropped 5000 bytes/);
  });

  it('ends in a whole record that it cannot be: refused, not dropped', async () => {
    const forged = naiveLog([...RECORDS, { ...RECORDS[1]!, kind: 'committed', step: 9 } as HistoryRecord]);
    expect((await open(Buffer.from(forged))).error?.message).toMatch(/step 9 committed after step 3/);
    const unknown = naiveLog([...RECORDS, { kind: 'renamed' } as unknown as HistoryRecord]);
    expect((await open(Buffer.from(unknown))).error?.message).toMatch(/holds no known record: kind/);
  });
});
