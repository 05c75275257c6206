/** What the benchmark says of its samples. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { quantile } from '../../../src/base/index.ts';
import { slowestOf } from '../../../src/bench/all-reduce.ts';
import { summarize } from '../../../src/bench/statistics.ts';
import { naiveQuantile } from '../../support/naive-quantile.ts';

/** Without -0, which sorts as 0 but is not the same to a test. */
const sample = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
const samples = fc.array(sample, { minLength: 1, maxLength: 60 });
const share = fc.double({ min: 0, max: 1, noNaN: true });

describe('quantile', () => {
  test('is the nearest-rank one', () => {
    const five = [15, 20, 35, 40, 50];
    expect([0, 0.05, 0.3, 0.4, 0.5, 0.99, 1].map((part) => quantile(five, part))).toEqual([
      15, 15, 20, 20, 35, 50, 50,
    ]);
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2);
  });

  test('equals its naive twin, whatever the order, and leaves the samples as they are', () => {
    fc.assert(
      fc.property(samples, share, (values, part) => {
        const before = [...values];
        expect(quantile(values, part)).toBe(naiveQuantile(values, part));
        expect(quantile([...values].reverse(), part)).toBe(quantile(values, part));
        expect(values).toEqual(before);
      }),
    );
  });

  test('refuses no samples and no share', () => {
    expect(() => quantile([], 0.5)).toThrow('at least one sample');
    expect(() => quantile([1], 1.5)).toThrow('share 1.5');
  });
});

test('a summary holds count, median and range', () => {
  expect(summarize([9, 1, 5])).toEqual({ count: 3, median: 5, min: 1, max: 9 });
});

test('an iteration takes as long as its slowest rank', () => {
  const byRank = [
    [1, 5, 2],
    [3, 4, 2],
  ];
  expect(slowestOf(byRank)).toEqual([3, 5, 2]);
});
