/** The page's columns grow as the server's would: points one by one end in what a fetch of the whole would bring. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Series } from '../../../src/dashboard/view/series.ts';
import type { SeriesPoint } from '../../../web/contract.ts';
import { alignLosses, appendPoints, EMPTY_SERIES } from '../../../web/series.ts';

function pointOf(step: number, noise: number): SeriesPoint {
  const rate = 1000 + noise * 10;
  return {
    step,
    loss: 3 + noise / 100,
    learningRate: 1 / (step + 1),
    tokensPerSecond: noise % 7 === 0 ? null : rate,
    stepMs: 1e6 / rate,
    goodput: 0.9,
    at: step * 1000,
  };
}

function serverSeries(points: readonly SeriesPoint[]): Series {
  const series = new Series();
  for (const point of points) series.add(point);
  return series;
}

describe('appending points', () => {
  it('ends in the same columns as fetching them', () => {
    const lengths = fc.record({
      before: fc.integer({ min: 0, max: 2100 }),
      after: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(lengths, fc.infiniteStream(fc.nat({ max: 500 })), ({ before, after }, noise) => {
        const points = Array.from({ length: before + after }, (_, index) =>
          pointOf(index + 1, noise.next().value as number),
        );
        const appended = appendPoints(serverSeries(points.slice(0, before)).view(), points.slice(before));
        const fetched = serverSeries(points).view();
        // Null asks for a fetch: only when the server has joined buckets meanwhile.
        if (appended === null) {
          expect(fetched.stride).toBeGreaterThan(serverSeries(points.slice(0, before)).view().stride);
          return;
        }
        expect(appended.step).toEqual(fetched.step);
        for (const column of ['loss', 'lossMin', 'lossMax', 'learningRate'] as const) {
          for (const [index, value] of fetched[column].entries()) {
            expect(appended[column][index]).toBeCloseTo(value, 4);
          }
        }
      }),
      { numRuns: 20 },
    );
  });

  it('asks for a fetch when a step is missing or comes again after a rewind', () => {
    const series = appendPoints(EMPTY_SERIES, [pointOf(1, 0), pointOf(2, 0)])!;
    expect(appendPoints(series, [pointOf(4, 0)])).toBeNull();
    expect(appendPoints(series, [pointOf(1, 0)])).toBeNull();
    expect(appendPoints(series, [pointOf(2, 0)])?.step).toEqual([1, 2]);
  });

  it('leaves the columns it was given as they were', () => {
    const series = appendPoints(EMPTY_SERIES, [pointOf(1, 0)])!;
    appendPoints(series, [pointOf(2, 0)]);
    expect(series.step).toEqual([1]);
    expect(EMPTY_SERIES.step).toEqual([]);
  });
});

describe('the axis of the loss chart', () => {
  it('holds the steps of training and of validation once each, in order', () => {
    const series = appendPoints(EMPTY_SERIES, [pointOf(1, 0), pointOf(2, 0), pointOf(3, 0)])!;
    const aligned = alignLosses({ ...series, validation: { step: [0, 2], loss: [9, 8] } });
    expect(aligned.step).toEqual([0, 1, 2, 3]);
    expect(aligned.validation).toEqual([9, null, 8, null]);
    expect(aligned.loss[0]).toBeNull();
    expect(aligned.loss.slice(1)).toEqual(series.loss);
  });
});
