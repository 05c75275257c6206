/** Quantiles by nearest rank (Hyndman & Fan 1996, definition 1): each is a value that was measured. */
import { assert } from './assert.ts';

/** The smallest sample that at least `share` (0 .. 1) of all samples do not exceed. At least one sample. */
export function quantile(samples: readonly number[], share: number): number {
  assert(samples.length > 0, 'a quantile needs at least one sample');
  assert(share >= 0 && share <= 1, `share ${share} is not in 0 .. 1`);
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
}
