/**
 * How a worker leaves politely: it gets no more slots, hands back those it has not begun, takes part in
 * the reduction of the step under way, and goes at the boundary after it. The last one that holds the
 * state stays until that is stored.
 */
import { beginCheckpoint } from './checkpoints.ts';
import type { WorkerRecord } from './state.ts';
import { hasHands, members, note, participants, say, type Turn, updateWorker } from './turn.ts';

export function onDraining(turn: Turn, worker: WorkerRecord): void {
  const { state } = turn;
  if (worker.isDraining || worker.phase === 'leaving') return;
  note(turn, 'info', 'workerDraining', { worker: worker.worker, step: state.stateStep + 1 });
  if (worker.phase !== 'member' && worker.phase !== 'following') {
    letGo(turn, worker);
    return;
  }
  updateWorker(turn, worker.incarnation, { isDraining: true });
  // Nobody is left to finish the step: it is begun anew when there is.
  if (state.activity.phase === 'computing' && !hasHands(state)) state.activity = { phase: 'gathering' };
}

/** Between two steps: lets go who may go. */
export function releaseDrained(turn: Turn): void {
  const { state } = turn;
  for (const worker of participants(state)) {
    if (!worker.isDraining || state.checkpoint?.pending.has(worker.incarnation)) continue;
    const isLast = worker.phase === 'member' && members(state).length === 1;
    if (isLast && state.storedStep !== state.stateStep) beginCheckpoint(turn);
    else letGo(turn, worker);
  }
}

/** It stays known until its connection is gone: it may have taken a job from the queue at the last moment. */
export function letGo(turn: Turn, { incarnation, worker, phase }: WorkerRecord): void {
  say(turn, incarnation, { type: 'stop', reason: 'it has left the run as it was asked to' });
  updateWorker(turn, incarnation, { phase: 'leaving' });
  if (phase === 'member' || phase === 'following') turn.state.generation += 1;
  note(turn, 'info', 'workerLeft', { worker, reason: 'it was asked to', step: turn.state.stateStep + 1 });
}
