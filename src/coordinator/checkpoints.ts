/**
 * The life of a checkpoint: begun, uploaded in parts by every member, stored by the driver; or given
 * up, and tried again at the next commit. Training goes on meanwhile.
 */
import { assert } from '../base/index.ts';
import type { WorkerMessage } from '../protocol/index.ts';
import type { CheckpointInFlight, Failure, WorkerRecord } from './state.ts';
import { layoutFloats, members, note, say, type Turn } from './turn.ts';

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
  const uploaders = members(state);
  if (uploaders.length === 0) {
    state.checkpointDue = true;
    return;
  }
  state.checkpointDue = false;
  const step = state.stateStep;
  const pending = new Set(uploaders.map(({ incarnation }) => incarnation));
  state.numCheckpoints += 1;
  const attempt = state.numCheckpoints;
  state.checkpoint = { step, attempt, pending };
  turn.effects.push({ type: 'beginCheckpoint', step, attempt });
  const size = layoutFloats(state);
  uploaders.forEach((worker, rank) => {
    const offset = Math.floor((size * rank) / uploaders.length);
    const end = Math.floor((size * (rank + 1)) / uploaders.length);
    say(turn, worker.incarnation, { type: 'snapshot', offset, length: end - offset }, { step, attempt });
  });
}

export function onUploaded(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'uploaded' }>,
): void {
  const { checkpoint } = turn.state;
  if (checkpoint === null || !isUploading(checkpoint, message)) return;
  const pending = new Set(checkpoint.pending);
  pending.delete(worker.incarnation);
  turn.state.checkpoint = { ...checkpoint, pending };
  if (pending.size === 0) turn.effects.push({ type: 'storeCheckpoint', step: checkpoint.step });
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
