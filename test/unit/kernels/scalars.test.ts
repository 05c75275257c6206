/** What the kernels' results are combined with, outside WebAssembly: digests, norms and AdamW's scalars. */
import { describe, expect, test } from 'vitest';
import { adamwScalars, combineDigests, globalNorm, powerOf } from '../../../src/kernels/index.ts';

describe('powerOf', () => {
  test('is exact where float64 is, and close to the true power elsewhere', () => {
    expect(powerOf(2, 10)).toBe(1024);
    expect(powerOf(0.5, 50)).toBe(2 ** -50);
    expect(powerOf(0.9, 0)).toBe(1);
    expect(powerOf(0, 3)).toBe(0);
    for (const step of [1, 2, 3, 17, 1000, 12_345]) {
      let product = 1;
      for (let factor = 0; factor < step; factor += 1) product *= 0.999;
      expect(powerOf(0.999, step) / product).toBeCloseTo(1, 11);
    }
  });

  test('vanishes for exponents beyond 32 bits instead of wrapping around', () => {
    expect(powerOf(0.999, 2 ** 33)).toBe(0);
  });
});

describe('adamwScalars', () => {
  const optimizer = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.01 };

  test('are float32, with the bias corrections of the step', () => {
    const scalars = adamwScalars(optimizer, { step: 2, learningRate: 3e-4, gradientScale: 1 / 3 });
    for (const value of Object.values(scalars)) expect(Math.fround(value)).toBe(value);
    expect(scalars.correction1).toBeCloseTo(0.19, 7);
    expect(scalars.correction2).toBeCloseTo(0.0396, 7);
    // One minus the float64, not one minus the rounded float32.
    expect(scalars.oneMinusBeta2).toBe(Math.fround(1 - 0.98));
  });

  test('refuse a step before the first', () => {
    const moment = { step: 0, learningRate: 1, gradientScale: 1 };
    expect(() => adamwScalars(optimizer, moment)).toThrow('AdamW step 0');
  });
});

describe('combineDigests', () => {
  test('is 32 hex digits that depend on each digest and on their order', () => {
    const combined = [[], [0n], [1n], [1n, 2n], [2n, 1n], [1n, 2n, 0n]].map((digests) =>
      combineDigests(BigUint64Array.from(digests)),
    );
    for (const digest of combined) expect(digest).toMatch(/^[0-9a-f]{32}$/);
    expect(new Set(combined).size).toBe(combined.length);
  });

  test('takes the bytes in little-endian order and digests in shared memory', () => {
    // printf '\x01\0\0\0\0\0\0\0' | sha256sum
    const shared = new BigUint64Array(new SharedArrayBuffer(8));
    shared[0] = 1n;
    expect(combineDigests(shared)).toBe('7c9fa136d4413fa6173637e883b6998d');
  });
});

describe('globalNorm', () => {
  test('is the root of the sum over blocks, and not finite if a block is not', () => {
    expect(globalNorm(Float64Array.of(9, 16))).toBe(5);
    expect(globalNorm(new Float64Array(0))).toBe(0);
    expect(globalNorm(Float64Array.of(1, Infinity))).toBe(Infinity);
    expect(globalNorm(Float64Array.of(NaN, 1))).toBeNaN();
  });
});
