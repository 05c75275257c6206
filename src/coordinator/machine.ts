/**
 * The coordinator's decisions: membership, plan, commit and checkpoint, as a pure state machine.
 *
 * `transition` is synchronous, total and deterministic. Time enters as `tick`; what is decided
 * leaves as effects, which the driver (coordinator.ts) carries out in list order. A commit is
 * appended to the log before anyone hears of it. DESIGN section 4 draws the life of a step.
 *
 * membership.ts, step.ts and checkpoints.ts each take in what concerns them; when no step is under
 * way after that, `advance` here decides what comes next, in one place.
 */
import { unreachable } from '../base/index.ts';
import type { WorkerMessage } from '../protocol/index.ts';
import {
  abandonCheckpoint,
  beginCheckpoint,
  onCheckpointStored,
  onUploaded,
  onUploadFailed,
} from './checkpoints.ts';
import {
  admitPrepared,
  onHello,
  onPrepared,
  onReady,
  removeWorkers,
  rewindToStored,
  silentWorkers,
} from './membership.ts';
import type {
  CoordinatorEffect,
  CoordinatorEvent,
  CoordinatorSettings,
  CoordinatorState,
  Failure,
  RecordedStep,
  WorkerRecord,
} from './state.ts';
import {
  beginStep,
  continueWithout,
  enqueueWaiting,
  onComputed,
  onLeased,
  onNotFinite,
  onReduceFailed,
  onVote,
  type Verdict,
} from './step.ts';
import { members, note, refuse, say, type Turn, updateWorker } from './turn.ts';

export interface Transition {
  readonly state: CoordinatorState;
  readonly effects: readonly CoordinatorEffect[];
}

/** Where a run starts: at step 0, or at the checkpoint it resumes from. */
export function initialState(
  settings: CoordinatorSettings,
  from: { step: number; recorded: ReadonlyMap<number, RecordedStep>; layoutKey: string | null },
): CoordinatorState {
  return {
    settings,
    nowMs: 0,
    generation: 0,
    stateStep: from.step,
    storedStep: from.step,
    recorded: from.recorded,
    workers: new Map(),
    layoutKey: from.layoutKey,
    engineVersion: null,
    checkpoint: null,
    checkpointDue: false,
    numCheckpoints: 0,
    uploadFailures: 0,
    stopRequested: false,
    startedComputing: false,
    activity: { phase: 'gathering' },
  };
}

export function transition(state: CoordinatorState, event: CoordinatorEvent): Transition {
  if (state.activity.phase === 'finished') return { state, effects: [] };
  const turn: Turn = { state: { ...state }, effects: [] };
  const failure = takeIn(turn, event);
  if (failure !== null) fail(turn, failure);
  advance(turn);
  return { state: turn.state, effects: turn.effects };
}

/** Returns why the run cannot go on, or null. */
function takeIn(turn: Turn, event: CoordinatorEvent): Failure | null {
  switch (event.type) {
    case 'tick':
      turn.state.nowMs = event.nowMs;
      loseWorkers(turn, silentWorkers(turn.state));
      return null;
    case 'messageArrived':
      return onMessage(turn, event.message);
    case 'connectionLost':
      loseWorkers(turn, new Map([[event.incarnation, event.reason]]));
      return null;
    case 'stopRequested':
      turn.state.stopRequested = true;
      return null;
    case 'queueEmptied':
      enqueueWaiting(turn);
      return null;
    case 'checkpointStored':
      onCheckpointStored(turn, event.step);
      return null;
    case 'checkpointFailed':
      return { code: event.code, message: event.reason };
    default:
      return unreachable(event);
  }
}

function onMessage(turn: Turn, message: WorkerMessage): Failure | null {
  const { incarnation } = message;
  if (message.type === 'hello') {
    onHello(turn, message);
    return null;
  }
  const worker = turn.state.workers.get(incarnation);
  if (worker === undefined) {
    // Declared lost while it was frozen or cut off, or known to a coordinator that has died since.
    say(turn, incarnation, { type: 'evicted', reason: 'this incarnation takes no part any more' });
    return null;
  }
  updateWorker(turn, incarnation, { lastHeardMs: turn.state.nowMs });
  switch (message.type) {
    case 'heartbeat': {
      const { residentBytes, sentBytes, receivedBytes } = message;
      updateWorker(turn, incarnation, { residentBytes, sentBytes, receivedBytes });
      return null;
    }
    case 'prepared':
      return turnAway(turn, worker, onPrepared(turn, worker, message));
    case 'ready':
      return turnAway(turn, worker, onReady(turn, worker, message));
    case 'leased':
      onLeased(turn, worker, message);
      return null;
    case 'computed':
      onComputed(turn, worker, message);
      return null;
    case 'vote':
      return settle(turn, onVote(turn, worker, message));
    case 'notFinite':
      return onNotFinite(turn, worker, message);
    case 'reduceFailed':
      return onReduceFailed(turn, worker, message);
    case 'uploaded':
      onUploaded(turn, worker, message);
      return null;
    case 'uploadFailed':
      return onUploadFailed(turn, worker, message);
    case 'leaving':
      loseWorkers(turn, new Map([[incarnation, message.reason]]));
      return null;
    default:
      return unreachable(message);
  }
}

/** Refuses a worker that cannot take part, if there is a reason. The run itself goes on: never a failure. */
function turnAway(turn: Turn, worker: WorkerRecord, reason: string | null): null {
  if (reason !== null) {
    refuse(turn, worker.incarnation, reason);
    loseWorkers(turn, new Map([[worker.incarnation, reason]]));
  }
  return null;
}

/** Acts on the votes: a minority that holds other bits is quarantined, and its slots are computed again. */
function settle(turn: Turn, verdict: Verdict): Failure | null {
  if (verdict.kind === 'failed') return verdict.failure;
  if (verdict.kind === 'quarantine') {
    for (const [incarnation, reason] of verdict.workers) refuse(turn, incarnation, reason);
    loseWorkers(turn, verdict.workers);
  }
  return null;
}

/** Removes workers, gives their slots to others and lets the survivors keep what they have. */
function loseWorkers(turn: Turn, lost: ReadonlyMap<string, string>): void {
  const wereMembers = removeWorkers(turn, lost);
  if (wereMembers) continueWithout(turn, lost);
}

/** While no step is under way: wait, let joiners in, plan the next step, or close. Asking twice changes nothing. */
function advance(turn: Turn): void {
  const { state } = turn;
  if (state.activity.phase !== 'gathering' && state.activity.phase !== 'closing') return;
  // A checkpoint that is being stored is complete: better to go on from it than from the one before.
  if (members(state).length === 0 && state.checkpoint === null) rewindToStored(turn);
  if (state.stateStep >= state.settings.totalSteps || state.stopRequested) {
    close(turn);
    return;
  }
  state.activity = { phase: 'gathering' };
  admitPrepared(turn);
  const isOnTheWay = ({ phase }: WorkerRecord) => phase === 'entering' || phase === 'prepared';
  const needed = state.startedComputing ? 1 : state.settings.minWorkers;
  if (members(state).length < needed || [...state.workers.values()].some(isOnTheWay)) return;
  beginStep(turn);
}

/** The run has come to its end: the newest state is stored, then everyone goes. */
function close(turn: Turn): void {
  const { state } = turn;
  state.activity = { phase: 'closing' };
  if (state.checkpoint !== null) return;
  if (state.storedStep !== state.stateStep) {
    beginCheckpoint(turn);
    return;
  }
  const step = state.stateStep;
  const completed = step >= state.settings.totalSteps;
  turn.effects.push({ type: 'appendFinished', step });
  endAll(turn, completed ? 'the run is complete' : 'the run was stopped');
  turn.effects.push({ type: 'finish', outcome: { kind: completed ? 'completed' : 'stopped', step } });
}

function fail(turn: Turn, failure: Failure): void {
  const { state } = turn;
  note(turn, 'error', 'runFailed', { code: failure.code, reason: failure.message });
  if (state.checkpoint !== null) abandonCheckpoint(turn, 'the run failed');
  endAll(turn, failure.message);
  turn.effects.push({ type: 'finish', outcome: { kind: 'failed', step: state.stateStep, failure } });
}

function endAll(turn: Turn, reason: string): void {
  for (const { incarnation } of turn.state.workers.values()) say(turn, incarnation, { type: 'stop', reason });
  turn.state.activity = { phase: 'finished' };
}
