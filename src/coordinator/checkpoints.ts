/**
 * The life of a checkpoint: begun, uploaded in parts by the members, stored by the driver; or given
 * up, and tried again at the next commit or when someone needs it. Training goes on meanwhile.
 */
import { assert } from '../base/index.ts';
import type { WorkerMessage } from '../protocol/index.ts';
import type { CheckpointInFlight, Failure, WorkerRecord } from './state.ts';
import { layoutFloats, members, note, say, type Turn } from './turn.ts';
import { GO_ON, majorityOf, type Verdict } from './verdict.ts';

/** Checkpoints that may fail in a row before the run stops. */
const UPLOAD_FAILURES_MAX = 3;

/** Asks every member for its part of the current state; training goes on meanwhile. */
export function beginCheckpoint(turn: Turn): void {
  const { state } = turn;
  if (state.checkpoint !== null) {
    state.checkpointDue = state.checkpoint.step !== state.stateStep;
    return;
  }
  if (state.storedStep === state.stateStep) return;
  const present = members(state);
  if (present.length === 0) {
    state.checkpointDue = true;
    return;
  }
  // One that lags would upload only when it has caught up.
  const current = present.filter(({ isLagging }) => !isLagging);
  const uploaders = current.length === 0 ? present : current;
  state.checkpointDue = false;
  const step = state.stateStep;
  const pending = new Set(uploaders.map(({ incarnation }) => incarnation));
  state.numCheckpoints += 1;
  const attempt = state.numCheckpoints;
  state.checkpoint = { step, attempt, pending, digests: new Map() };
  turn.effects.push({ type: 'beginCheckpoint', step, attempt });
  const size = layoutFloats(state);
  uploaders.forEach((worker, rank) => {
    const offset = Math.floor((size * rank) / uploaders.length);
    const end = Math.floor((size * (rank + 1)) / uploaders.length);
    say(turn, worker.incarnation, { type: 'snapshot', offset, length: end - offset }, { step, attempt });
  });
}

/**
 * A member's part is there. The last one has the checkpoint stored, if all are of the same parameters:
 * otherwise it is given up, and the verdict says whose parts differ.
 */
export function onUploaded(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'uploaded' }>,
): Verdict {
  const { checkpoint } = turn.state;
  if (checkpoint === null || !isUploading(checkpoint, message)) return GO_ON;
  const { step } = checkpoint;
  const pending = new Set(checkpoint.pending);
  pending.delete(worker.incarnation);
  const digests = new Map(checkpoint.digests).set(worker.incarnation, message.parametersDigest);
  turn.state.checkpoint = { ...checkpoint, pending, digests };
  if (pending.size > 0) return GO_ON;
  const agreed = majorityOf([...digests.values()], (digest) => digest);
  if (agreed === null) {
    abandonCheckpoint(turn, 'its parts are of different parameters');
    const message = `step ${step}: replicas disagree on the parameters and none has a majority: ${[...digests.values()].join(', ')}`;
    return { kind: 'failed', failure: { code: 'DIVERGED', message } };
  }
  const differing = [...digests].filter(([, digest]) => digest !== agreed);
  if (differing.length > 0) {
    abandonCheckpoint(turn, 'one of its parts is of other parameters than the rest');
    const reason = `its parameters at step ${step} differ from the majority's`;
    return { kind: 'quarantine', workers: new Map(differing.map(([incarnation]) => [incarnation, reason])) };
  }
  turn.effects.push({ type: 'storeCheckpoint', step });
  return GO_ON;
}

/** A worker could not upload its part: the checkpoint is given up. A failure when that happens too often. */
export function onUploadFailed(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'uploadFailed' }>,
): Failure | null {
  const { state } = turn;
  if (state.checkpoint === null || !isUploading(state.checkpoint, message)) return null;
  abandonCheckpoint(turn, `${worker.worker}: ${message.reason}`);
  state.uploadFailures += 1;
  if (state.uploadFailures < UPLOAD_FAILURES_MAX) return null;
  const reason = `${UPLOAD_FAILURES_MAX} checkpoints in a row could not be uploaded, at last by ${worker.worker}`;
  return { code: 'WORKER_LOST', message: `${reason}: ${message.reason}` };
}

function isUploading(checkpoint: CheckpointInFlight, { incarnation, step, attempt }: WorkerMessage): boolean {
  return checkpoint.step === step && checkpoint.attempt === attempt && checkpoint.pending.has(incarnation);
}

export function onCheckpointStored(turn: Turn, step: number): void {
  const { state } = turn;
  if (state.checkpoint?.step !== step) return;
  state.checkpoint = null;
  state.uploadFailures = 0;
  state.storedStep = step;
  // Steps up to the checkpoint are never repeated.
  state.recorded = new Map([...state.recorded].filter(([recordedStep]) => recordedStep > step));
  note(turn, 'info', 'checkpointStored', { step });
}

export function abandonCheckpoint(turn: Turn, reason: string): void {
  const { state } = turn;
  assert(state.checkpoint !== null, 'a checkpoint is in flight');
  turn.effects.push({ type: 'abortCheckpoint', step: state.checkpoint.step, reason });
  note(turn, 'warn', 'checkpointAbandoned', { step: state.checkpoint.step, reason });
  state.checkpoint = null;
  state.checkpointDue = true;
}
