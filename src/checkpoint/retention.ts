/** Which checkpoints may go once a new one is complete. Pure. */
import type { CheckpointConfig } from '../config/index.ts';

/**
 * Steps whose checkpoints are no longer kept after `committed` was written: all but the newest
 * `keepLast` up to it and the multiples of `keepEvery`. `committed` itself always stays, so a valid one
 * does. Checkpoints of later steps are left over from before a resume; they neither count nor go,
 * for they are written anew when the run gets there.
 */
export function obsoleteSteps(
  steps: readonly number[],
  committed: number,
  { keepLast, keepEvery }: Pick<CheckpointConfig, 'keepLast' | 'keepEvery'>,
): number[] {
  const past = steps.filter((step) => step < committed).sort((a, b) => b - a);
  return past.slice(keepLast - 1).filter((step) => keepEvery === null || step % keepEvery !== 0);
}
