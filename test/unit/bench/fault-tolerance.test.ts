/** The cost of fault tolerance: medians added up, set against the step and against 250 ms. */
import { expect, test } from 'vitest';
import { costOfFaultTolerance, measureDigests } from '../../../src/bench/fault-tolerance.ts';

test('is settlement and digests, as shares of a step', () => {
  expect(costOfFaultTolerance([9, 1, 2], [100, 50, 400], 0.5)).toEqual({
    settlement: 2,
    digests: 0.5,
    total: 2.5,
    shareOfStep: 0.025,
    shareOf250Ms: 0.01,
  });
});

test('is unknown when no step has told its times', () => {
  expect(costOfFaultTolerance([], [100], 0.5)).toBeNull();
});

test('digests of a longer vector take longer', () => {
  expect(measureDigests(4_000_000)).toBeGreaterThan(measureDigests(40_000));
});
