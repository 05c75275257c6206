/**
 * Float vectors for tests: reproducible from a seed, hard on arithmetic (exponents all over, so that
 * every order of addition gives other bits), with the special values where asked for; and comparison
 * by bits, in which -0 and +0 differ.
 */
import { PhiloxRng } from '../../src/base/index.ts';

/** Denormals, zeros, infinities, NaNs of several payloads, and the neighbours of the flush's threshold. */
const SPECIAL_BITS = [
  0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000, 0x00800001,
  0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7fc12345, 0x3f800000, 0xbf800000,
];

export interface FloatsOptions {
  /** Share of special values, 0 unless given. */
  readonly specials?: number;
  /** Offset of the array in its buffer, in floats. */
  readonly offset?: number;
  readonly shared?: boolean;
}

export function emptyFloats(
  length: number,
  { offset = 0, shared = false }: FloatsOptions = {},
): Float32Array {
  const bytes = (offset + length + 3) * 4;
  const buffer = shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
  return new Float32Array(buffer, offset * 4, length);
}

/** Signed floats with exponents of 2^-20 .. 2^11. */
export function randomFloats(length: number, seed: number, options: FloatsOptions = {}): Float32Array {
  const rng = new PhiloxRng({ seed, stream: 'sampling', substream: 0, step: 0, slot: 0 });
  const floats = emptyFloats(length, options);
  const bits = bitsOf(floats);
  const limit = (options.specials ?? 0) * 2 ** 32;
  for (let index = 0; index < length; index += 1) {
    const word = rng.nextUint32();
    if (limit > 0 && rng.nextUint32() < limit) bits[index] = SPECIAL_BITS[word % SPECIAL_BITS.length]!;
    else bits[index] = (word & 0x807fffff) | ((107 + ((word >>> 23) & 31)) << 23);
  }
  return floats;
}

/** The same memory as unsigned words. */
export function bitsOf(floats: Float32Array): Uint32Array {
  return new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
}

/** Where two vectors first differ in a bit, in words; null when they do not. */
export function firstDifference(actual: Float32Array, expected: Float32Array): string | null {
  if (actual.length !== expected.length) return `lengths ${actual.length} and ${expected.length}`;
  const ours = bitsOf(actual);
  const theirs = bitsOf(expected);
  const index = ours.findIndex((word, at) => word !== theirs[at]);
  if (index === -1) return null;
  return `[${index}]: ${actual[index]} (${ours[index]!.toString(16)}), expected ${expected[index]} (${theirs[index]!.toString(16)})`;
}
