/**
 * Whether a checkpoint is the one that its run's commit log speaks of. Pure: the caller has checked
 * that the checkpoint's bytes are those of its manifest.
 *
 * The log is the truth and a checkpoint is a view of it (DESIGN section 1), so where the two differ
 * the checkpoint is refused, naming the line of the log that it contradicts.
 */
import { LockstepError } from '../base/index.ts';
import type { VerifiedLog } from './verify.ts';

/** What a checkpoint says of itself in its manifest, and what its parameters digest to. */
export interface CheckpointClaims {
  /** Its folder, for messages. */
  readonly dir: string;
  readonly step: number;
  readonly runId: string;
  readonly fingerprint: string;
  readonly datasetSha256: string;
  readonly tokensSeen: number;
  /** The digests of the step's commit; null at step 0 and at a step that was skipped: nobody voted for them. */
  readonly commit: { readonly gradientDigest: string; readonly parametersDigest: string } | null;
  readonly weightsSha256: string;
  /** Of its own parameters, in the way of the votes: computed, for no manifest records it. */
  readonly parametersDigest: string;
}

/** One claim, and what the log says instead. */
interface Comparison {
  readonly field: string;
  readonly recorded: string | number | null;
  readonly expected: string | number | null;
  /** Of the log. */
  readonly line: number;
}

/**
 * Throws CHECKPOINT_INVALID naming its folder, the step, what it records, and the line of the log
 * with what was expected; its context holds them apart. `log` has to be read with this step among
 * its `checkpointSteps`, and after the checkpoint was seen: a step commits before it is stored.
 */
export function verifyClaims(log: VerifiedLog, checkpoint: CheckpointClaims): void {
  const { dir: path, step } = checkpoint;
  if (step > log.history.lastStep) {
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${path}: step ${step} is committed nowhere in ${log.path}, which ends with step ${log.history.lastStep}; ` +
        'is it the log of this run, and all of it?',
      { context: { path, step, field: 'step', recorded: step, expected: log.history.lastStep } },
    );
  }
  for (const { field, recorded, expected, line } of comparisonsOf(log, checkpoint)) {
    if (recorded === expected) continue;
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${path}: step ${step}: ${field}: ${recorded} recorded, ${expected} expected (line ${line} of ${log.path}); ` +
        'take another checkpoint',
      { context: { path, line, step, field, recorded, expected } },
    );
  }
}

/** In the order in which they are to be reported: a checkpoint of another run differs in all of them. */
function comparisonsOf(log: VerifiedLog, checkpoint: CheckpointClaims): Comparison[] {
  const { step, commit } = checkpoint;
  // A log without "opened" has no steps; a checkpoint of step 0 then has nothing to be compared with.
  const { opened } = log.history;
  const own = log.claims.get(step);
  const next = log.nextCommits.get(step);
  const announcement = log.announced.get(step);
  const comparisons: Comparison[] = [];
  const compare = (
    line: number,
    field: string,
    recorded: Comparison['recorded'],
    expected: typeof recorded,
  ) => comparisons.push({ field, recorded, expected, line });
  if (opened !== null) {
    compare(1, 'runId', checkpoint.runId, opened.runId);
    compare(1, 'fingerprint', checkpoint.fingerprint, opened.fingerprint);
    compare(1, 'datasetSha256', checkpoint.datasetSha256, opened.datasetSha256);
  }
  const line = own?.line ?? 1;
  compare(line, 'commit.gradientDigest', commit?.gradientDigest ?? null, own?.gradientDigest ?? null);
  compare(line, 'commit.parametersDigest', commit?.parametersDigest ?? null, own?.parametersDigest ?? null);
  compare(line, 'tokensSeen', checkpoint.tokensSeen, own?.tokensSeen ?? 0);
  if (step === 0 && log.startWeightsSha256 !== null) {
    compare(1, 'weightsSha256', checkpoint.weightsSha256, log.startWeightsSha256);
  }
  if (announcement !== undefined) {
    compare(announcement.line, 'weightsSha256', checkpoint.weightsSha256, announcement.weightsSha256);
  }
  if (next !== undefined) {
    compare(next.line, 'digest of its parameters', checkpoint.parametersDigest, next.parametersDigest);
  }
  return comparisons;
}
