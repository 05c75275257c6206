/**
 * What surviving faults costs while there are none: the digests that a vote carries, and its settlement,
 * which is the way of the last vote to the coordinator, the record in the commit log with its fsync, and
 * the way of the commit back. Taken from undisturbed runs of `npm run bench`.
 *
 * The cost does not grow with the work in a step, so it is also told as a share of a step of 250 ms.
 */
import { performance } from 'node:perf_hooks';
import { quantile } from '../base/index.ts';
import { createKernels, numBlocks } from '../kernels/index.ts';

export interface FaultToleranceFigures {
  /** Milliseconds per step, medians. */
  readonly settlement: number;
  readonly digests: number;
  readonly total: number;
  readonly shareOfStep: number;
  readonly shareOf250Ms: number;
}

const REFERENCE_STEP_MS = 250;
const DIGEST_ROUNDS = 21;

/**
 * `settlementsMs` and `stepsMs` are those of the measured steps. A step's settlement is the shortest time
 * from vote to commit among its workers: the others had to wait for votes, which they would without a
 * commit log as well. Null when no step has told.
 */
export function costOfFaultTolerance(
  settlementsMs: readonly number[],
  stepsMs: readonly number[],
  digestsMs: number,
): FaultToleranceFigures | null {
  if (settlementsMs.length === 0 || stepsMs.length === 0) return null;
  const settlement = quantile(settlementsMs, 0.5);
  const total = settlement + digestsMs;
  return {
    settlement,
    digests: digestsMs,
    total,
    shareOfStep: total / quantile(stepsMs, 0.5),
    shareOf250Ms: total / REFERENCE_STEP_MS,
  };
}

/** Milliseconds for one step's two digests, of the parameters and of the reduced gradient; a median. */
export function measureDigests(numParameters: number): number {
  const kernels = createKernels();
  const vector = new Float32Array(new SharedArrayBuffer(numParameters * 4));
  const digests = new BigUint64Array(numBlocks(numParameters));
  const times = Array.from({ length: DIGEST_ROUNDS }, () => {
    const startMs = performance.now();
    kernels.digestBlocks(vector, digests, 0);
    kernels.digestBlocks(vector, digests, 0);
    return performance.now() - startMs;
  });
  return quantile(times, 0.5);
}
