/** Curves of any length in bounded memory: every step stays represented, and extremes survive. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BUCKETS_MAX, Series } from '../../../src/dashboard/view/series.ts';

const point = (step: number, loss: number) => ({
  ...{ step, loss, learningRate: 1 / step, tokensPerSecond: null, stepMs: null, goodput: null, at: 0 },
});

test('any number of points: few buckets, the newest step, the mean and the extremes of all', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 1, max: 1000 }), (length, scale) => {
      const series = new Series();
      // Whole numbers, so that sums in any grouping are exact.
      const losses = Array.from({ length }, (_, index) => ((index * 7919) % scale) + 1);
      for (const [index, loss] of losses.entries()) series.add(point(index + 1, loss));
      const view = series.view();
      const buckets = view.step.length;
      expect(buckets).toBeLessThanOrEqual(BUCKETS_MAX);
      expect(buckets).toBe(Math.ceil(length / view.stride));
      expect(view.step.at(-1)).toBe(length);
      expect(Math.min(...view.lossMin)).toBe(Math.min(...losses));
      expect(Math.max(...view.lossMax)).toBe(Math.max(...losses));
      view.step.forEach((last, bucket) => {
        const first = bucket === 0 ? 1 : view.step[bucket - 1]! + 1;
        const own = losses.slice(first - 1, last);
        const mean = own.reduce((sum, loss) => sum + loss, 0) / own.length;
        expect(view.loss[bucket]).toBeCloseTo(mean, 2);
      });
      for (const column of [
        view.lossMin,
        view.lossMax,
        view.learningRate,
        view.tokensPerSecond,
        view.goodput,
      ]) {
        expect(column).toHaveLength(buckets);
      }
    }),
    { numRuns: 30 },
  );
});

test('100,000 steps are a page of at most 100 KB', () => {
  const series = new Series();
  for (let step = 1; step <= 100_000; step += 1) {
    const figures = { tokensPerSecond: 8000 + Math.sin(step), stepMs: 900 + Math.cos(step), goodput: 0.97 };
    series.add({ ...point(step, 9 * Math.exp(-step / 3e4) + Math.sin(step) / 7), ...figures });
  }
  const { stride, step } = series.view();
  expect(stride).toBe(128);
  expect(step.at(-1)).toBe(100_000);
  expect(JSON.stringify(series.view()).length).toBeLessThan(100_000);
});

test('figures that are not known leave a gap, and do not pull a mean down', () => {
  const series = new Series();
  for (let step = 1; step <= 2 * BUCKETS_MAX; step += 1) {
    series.add({ ...point(step, 1), tokensPerSecond: step % 2 === 0 ? 100 : null });
  }
  expect(new Set(series.view().tokensPerSecond)).toEqual(new Set([100]));
  const gaps = new Series();
  gaps.add(point(1, 1));
  expect(gaps.view().tokensPerSecond).toEqual([null]);
});
