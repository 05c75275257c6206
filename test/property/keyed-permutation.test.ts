import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KeyedPermutation } from '../../src/data/index.ts';

const all = (seed: number, epoch: number, count: number) => {
  const permutation = new KeyedPermutation(seed, epoch, count);
  return Array.from({ length: count }, (_, place) => permutation.at(place));
};

describe('KeyedPermutation', () => {
  it('holds every item once, for any seed, epoch and count', () => {
    fc.assert(
      fc.property(
        fc.maxSafeNat(),
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        fc.integer({ min: 1, max: 700 }),
        (seed, epoch, count) => {
          expect(all(seed, epoch, count).sort((a, b) => a - b)).toEqual(
            Array.from({ length: count }, (_, i) => i),
          );
        },
      ),
      { numRuns: 100, seed: 1 },
    );
  });

  it('differs between seeds and between epochs', () => {
    expect(all(1, 0, 500)).not.toEqual(all(2, 0, 500));
    expect(all(1, 0, 500)).not.toEqual(all(1, 1, 500));
    expect(all(1, 0, 500)).toEqual(all(1, 0, 500));
  });

  it('spreads items evenly over places', () => {
    const count = 8;
    const tally = new Float64Array(count * count);
    const epochs = 4000;
    for (let epoch = 0; epoch < epochs; epoch += 1) {
      all(5, epoch, count).forEach((item, place) => {
        tally[place * count + item]! += 1;
      });
    }
    const expected = epochs / count;
    const chiSquare = tally.reduce((sum, seen) => sum + (seen - expected) ** 2 / expected, 0);
    // 49 degrees of freedom: 99.99 % of uniform tables stay below 96.
    expect(chiSquare).toBeLessThan(96);
  });

  it('reaches counts beyond 32 bits', () => {
    const count = 2 ** 40 + 123;
    const permutation = new KeyedPermutation(3, 1, count);
    const seen = new Set(Array.from({ length: 2000 }, (_, place) => permutation.at(place)));
    expect(seen.size).toBe(2000);
    for (const item of seen) expect(item >= 0 && item < count).toBe(true);
  });
});
