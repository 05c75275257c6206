/**
 * What the benchmark says of a series of measurements: the median and the range. Pure.
 */
import { quantile } from '../base/index.ts';

export interface Summary {
  readonly count: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function summarize(samples: readonly number[]): Summary {
  return {
    count: samples.length,
    median: quantile(samples, 0.5),
    min: quantile(samples, 0),
    max: quantile(samples, 1),
  };
}
