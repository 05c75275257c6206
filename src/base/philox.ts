/**
 * Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy
 * as 1, 2, 3" (SC 2011), section 4.3, and typed draws on top of it.
 *
 * Every random choice of a run is a function of (seed, stream, step, slot) and a position, never of
 * what was drawn before elsewhere: this is half of "same bits" (DESIGN section 3).
 */
import { assert } from './assert.ts';

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** What a stream of random numbers is for; each purpose draws from its own, so none disturbs another. */
export const RANDOM_STREAMS = {
  dataOrder: 1,
  noise: 2,
  dropout: 3,
  exitLayers: 4,
  initialization: 5,
  sampling: 6,
  faults: 7,
  goldTokens: 8,
  targetSlots: 9,
} as const;
export type RandomStream = keyof typeof RANDOM_STREAMS;

export interface RandomKey {
  /** 0 .. 2^53-1 */
  readonly seed: number;
  readonly stream: RandomStream;
  /** Tells draws of one stream apart within a slot (a dropout site, a row of the micro-batch): 0 .. 2^24-1. */
  readonly substream: number;
  readonly step: number;
  readonly slot: number;
}

/** High 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const cross = aHigh * bLow + (low >>> 16);
  // `cross` stays below 2^53 and its low half cannot overflow when the second cross term joins.
  const crossLow = (cross % 0x10000) + aLow * bHigh;
  return (aHigh * bHigh + Math.floor(cross / 0x10000) + Math.floor(crossLow / 0x10000)) >>> 0;
}

/** One block: writes four unsigned 32-bit words for counter (c0..c3) and key (k0, k1) to `out`. */
export function philox4x32(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
): void {
  for (let round = 0; round < ROUNDS; round += 1) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** The Philox key and the three fixed counter words of a random key; counter word 0 is the position. */
export interface PhiloxBase {
  readonly k0: number;
  readonly k1: number;
  readonly c1: number;
  readonly c2: number;
  readonly c3: number;
}

export function philoxBase(key: RandomKey): PhiloxBase {
  assert(
    Number.isSafeInteger(key.seed) && key.seed >= 0,
    `seed ${key.seed} is not an integer of 0 .. 2^53-1`,
  );
  assert(key.substream >= 0 && key.substream < 2 ** 24, `substream ${key.substream} is not below 2^24`);
  return {
    k0: key.seed >>> 0,
    k1: Math.floor(key.seed / 2 ** 32) >>> 0,
    c1: key.slot >>> 0,
    c2: key.step >>> 0,
    c3: ((RANDOM_STREAMS[key.stream] << 24) | key.substream) >>> 0,
  };
}

/** Draws in sequence from one key's stream. Two generators of one key give the same sequence. */
export class PhiloxRng {
  readonly #base: PhiloxBase;
  readonly #block = new Uint32Array(4);
  #position = 0;
  #used = 4;
  #spareNormal: number | null = null;

  constructor(key: RandomKey) {
    this.#base = philoxBase(key);
  }

  /** Uniform over 0 .. 2^32-1. */
  nextUint32(): number {
    if (this.#used === 4) {
      const { k0, k1, c1, c2, c3 } = this.#base;
      philox4x32(this.#block, this.#position >>> 0, c1, c2, c3, k0, k1);
      this.#position += 1;
      this.#used = 0;
    }
    const word = this.#block[this.#used]!;
    this.#used += 1;
    return word;
  }

  /** Uniform over [0, 1) in steps of 2^-32. */
  nextFloat(): number {
    return this.nextUint32() / 2 ** 32;
  }

  /** Uniform over 0 .. bound-1, without modulo bias (words beyond the last whole multiple are redrawn). */
  nextInt(bound: number): number {
    assert(Number.isInteger(bound) && bound >= 1 && bound <= 2 ** 32, `bound ${bound} is not in 1 .. 2^32`);
    const limit = 2 ** 32 - (2 ** 32 % bound);
    for (;;) {
      const word = this.nextUint32();
      if (word < limit) return word % bound;
    }
  }

  /** Standard normal by the Box-Muller transform. */
  nextNormal(): number {
    if (this.#spareNormal !== null) {
      const value = this.#spareNormal;
      this.#spareNormal = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log((this.nextUint32() + 1) / 2 ** 32));
    const angle = 2 * Math.PI * this.nextFloat();
    this.#spareNormal = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** A uniformly random order of 0 .. length-1 (Fisher-Yates). */
  permutation(length: number): Int32Array {
    const order = Int32Array.from({ length }, (_, index) => index);
    for (let last = length - 1; last > 0; last -= 1) {
      const other = this.nextInt(last + 1);
      const kept = order[last]!;
      order[last] = order[other]!;
      order[other] = kept;
    }
    return order;
  }
}
