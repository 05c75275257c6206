import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LockstepError, layoutOf, layoutSize } from '../../../src/base/index.ts';
import { encodeTensorHeader, parseTensorHeader } from '../../../src/checkpoint/index.ts';
import { naiveSafetensors, safetensorsFile } from '../../support/naive-checkpoint.ts';

const shapes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 3 });
const layouts = fc
  .uniqueArray(
    fc.string({ unit: 'grapheme' }).filter((name) => name !== '__metadata__'),
    { maxLength: 8 },
  )
  .chain((names) => fc.tuple(...names.map((name) => fc.record({ name: fc.constant(name), shape: shapes }))))
  .map(layoutOf);

function parse(file: Uint8Array) {
  return parseTensorHeader(file, file.length, 'model.safetensors');
}

function messageOfParsing(file: Uint8Array): string {
  try {
    parse(file);
  } catch (error) {
    if (error instanceof LockstepError && error.code === 'CHECKPOINT_INVALID') return error.message;
    throw error;
  }
  return 'accepted';
}

describe('safetensors header', () => {
  it('comes back as it was written, padded to 8 bytes', () => {
    fc.assert(
      fc.property(layouts, fc.dictionary(fc.string(), fc.string()), (layout, metadata) => {
        const header = encodeTensorHeader(layout, metadata);
        expect(header.length % 8).toBe(0);
        const parsed = parseTensorHeader(header, header.length + 4 * layoutSize(layout), 'x');
        // Two empty tensors at one place have no order among themselves in a file.
        const ordered = layout.filter(({ size }) => size > 0);
        expect(parsed.layout.filter(({ size }) => size > 0)).toEqual(ordered);
        expect(new Set(parsed.layout)).toEqual(new Set(layout));
        expect(Object.entries(parsed.metadata)).toEqual(expect.arrayContaining(Object.entries(metadata)));
        expect(parsed.dataStart).toBe(header.length);
      }),
    );
  });

  it('equals its naive twin byte for byte', () => {
    const layout = layoutOf([
      { name: 'a', shape: [2, 3] },
      { name: 'b', shape: [] },
    ]);
    const data = new Uint8Array(28).fill(7);
    const file = Buffer.concat([encodeTensorHeader(layout), data]);
    expect(new Uint8Array(file)).toEqual(naiveSafetensors(layout, data));
  });

  it('follows the data, not the listing', () => {
    const file = safetensorsFile(
      '{"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
      new Uint8Array(12),
    );
    expect(parse(file).layout.map(({ name, offset }) => [name, offset])).toEqual([
      ['a', 0],
      ['b', 2],
    ]);
  });

  it('keeps names that an object would reorder or swallow', () => {
    const layout = layoutOf(['10', '2', '__proto__', 'constructor'].map((name) => ({ name, shape: [1] })));
    const header = encodeTensorHeader(layout);
    expect(parseTensorHeader(header, header.length + 16, 'x').layout).toEqual(layout);
  });

  const tensor = (dtype: string, shape: string, offsets: string) =>
    `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
  const one = tensor('F32', '[1]', '[0,4]');
  const faults: [string, string, number, RegExp][] = [
    ['another type', `{"w":${tensor('F16', '[2]', '[0,4]')}}`, 4, /tensor "w" is of type F16/],
    ['a size that its shape denies', `{"w":${tensor('F32', '[2]', '[0,4]')}}`, 4, /"w": shape \[2\] takes 8/],
    ['an overlap', `{"a":${one},"b":${one}}`, 4, /tensor "b" overlaps/],
    ['a hole', `{"a":${one},"b":${tensor('F32', '[1]', '[8,12]')}}`, 12, /4 to 8, before tensor "b"/],
    ['a hole at the start', `{"a":${tensor('F32', '[1]', '[4,8]')}}`, 8, /0 to 4, before tensor "a"/],
    ['bounds beyond the file', `{"a":${one}}`, 3, /is cut short/],
    ['bytes at the end', `{"a":${one}}`, 5, /has bytes after its last tensor/],
    ['a name twice', `{"a":${one},"a":${tensor('F32', '[1]', '[4,8]')}}`, 8, /names "a" twice/],
    ['a name twice, escaped', `{"a":${one},"\\u0061":${one}}`, 4, /names "a" twice/],
    ['a key twice within', `{"a":{"dtype":"F16",${one.slice(1)}}`, 4, /names "dtype" twice/],
    ['backward offsets', `{"a":${tensor('F32', '[1]', '[4,0]')}}`, 4, /takes 4 bytes, not -4/],
    ['a negative side', `{"a":${tensor('F32', '[-1]', '[0,4]')}}`, 4, /tensor "a", shape.0/],
    ['a huge shape', `{"a":${tensor('F32', '[4294967296,4294967296]', '[0,4]')}}`, 4, /too large/],
    ['metadata of numbers', '{"__metadata__":{"a":1}}', 0, /__metadata__ is not a map/],
    ['an unknown member', `{"a":{"x":1,${one.slice(1)}}`, 4, /tensor "a"/],
    ['no JSON', '{"a":', 0, /header is not JSON/],
    ['no object', '[]', 0, /does not begin with "\{"/],
  ];
  it.each(faults)('refuses %s', (_, json, dataBytes, message) => {
    expect(messageOfParsing(safetensorsFile(json, new Uint8Array(dataBytes)))).toMatch(message);
  });

  it('refuses lengths that a header cannot have', () => {
    const withLength = (length: bigint) => {
      const file = new Uint8Array(16).fill(0x20);
      new DataView(file.buffer).setBigUint64(0, length, true);
      return messageOfParsing(file);
    };
    expect(withLength(100_000_001n)).toMatch(/exceeds 100000000/);
    expect(withLength(2n ** 64n - 1n)).toMatch(/exceeds/);
    expect(withLength(9n)).toMatch(/header ends at byte 17, the file at 16/);
    expect(withLength(0n)).toMatch(/does not begin/);
    expect(messageOfParsing(new Uint8Array(7))).toMatch(/7 bytes, too few/);
  });

  it('survives any damaged header: the same tensors, or one clear refusal', () => {
    const layout = layoutOf([
      { name: 'model.a', shape: [2, 2] },
      { name: 'model.b', shape: [3] },
    ]);
    const whole = naiveSafetensors(layout, new Uint8Array(28));
    const headerBytes = whole.length - 28;
    const byte = fc.integer({ min: 1, max: 255 });
    fc.assert(
      fc.property(fc.nat(headerBytes - 1), byte, (at, flip) => {
        const damaged = whole.slice();
        damaged[at]! ^= flip;
        const message = messageOfParsing(damaged);
        if (message !== 'accepted') expect(message).toMatch(/^model\.safetensors: .*; take another/);
      }),
    );
    for (let length = 0; length < whole.length; length += 1) {
      expect(messageOfParsing(whole.subarray(0, length))).toMatch(/^model\.safetensors: /);
    }
  });
});
