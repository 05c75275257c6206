/**
 * The coordinator's decisions: membership, plan, commit and checkpoint, as a pure state machine.
 *
 * `transition` is synchronous, total and deterministic. Time enters as `tick`; what is decided
 * leaves as effects, which the driver (coordinator.ts) carries out in list order. A commit is
 * appended to the log before anyone hears of it. DESIGN section 4 draws the life of a step.
 *
 * membership.ts, entering.ts, leaving.ts, computing.ts, settling.ts and checkpoints.ts each take in what
 * concerns them; after that, `advance` here decides what comes next, in one place.
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
  beginStep,
  continueWithout,
  enqueueWaiting,
  onComputed,
  onHandedBack,
  onLeased,
  onLeasedByStranger,
  rebalance,
  replanUnclaimed,
} from './computing.ts';
import { admit, onReady, onStateFailed, quarantine } from './entering.ts';
import { onDraining, releaseDrained } from './leaving.ts';
import { onHello, onPrepared, removeWorkers, silentWorkers } from './membership.ts';
import { onNotFinite, onReduceFailed, onVote } from './settling.ts';
import type {
  CoordinatorEffect,
  CoordinatorEvent,
  CoordinatorSettings,
  CoordinatorState,
  Failure,
  RecordedStep,
  WorkerRecord,
} from './state.ts';
import { hasHands, members, note, participants, refuse, say, type Turn, updateWorker } from './turn.ts';
import type { Verdict } from './verdict.ts';

export interface Transition {
  readonly state: CoordinatorState;
  readonly effects: readonly CoordinatorEffect[];
}

/** Where a run starts: at step 0, or at the checkpoint it resumes from. */
export function initialState(
  settings: CoordinatorSettings,
  from: {
    step: number;
    recorded: ReadonlyMap<number, RecordedStep>;
    /** Who computed the newest step on record: they may still hold its result. */
    lastWorkers: readonly string[];
    layoutKey: string | null;
  },
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
    skippedInRow: 0,
    awaited: from.lastWorkers.length === 0 ? null : { names: new Set(from.lastWorkers), untilMs: null },
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
      startWaiting(turn);
      loseWorkers(turn, silentWorkers(turn.state));
      replanUnclaimed(turn);
      return null;
    case 'messageArrived':
      return onMessage(turn, event.message);
    case 'connectionLost':
      loseWorkers(turn, new Map([[event.incarnation, event.reason]]));
      return null;
    case 'stopRequested':
      turn.state.stopRequested = true;
      return null;
    case 'drainRequested':
      if (turn.state.workers.has(event.incarnation)) say(turn, event.incarnation, { type: 'drain' });
      return null;
    case 'evictRequested': {
      const reason = 'evicted by an operator';
      if (turn.state.workers.has(event.incarnation)) say(turn, event.incarnation, { type: 'stop', reason });
      loseWorkers(turn, new Map([[event.incarnation, reason]]), 'workerLeft');
      return null;
    }
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
    if (message.formerly !== null && turn.state.workers.has(message.formerly)) {
      loseWorkers(turn, new Map([[message.formerly, 'its process has come back as new']]));
    }
    onHello(turn, message);
    return null;
  }
  const worker = turn.state.workers.get(incarnation);
  if (worker === undefined) {
    // Declared lost while it was frozen or cut off, or known to a coordinator that has died since.
    say(turn, incarnation, { type: 'evicted', reason: 'this incarnation takes no part any more' });
    if (message.type === 'leased') onLeasedByStranger(turn, message.job);
    return null;
  }
  const isSignOfLife = message.type !== 'heartbeat' || message.hears;
  if (isSignOfLife) updateWorker(turn, incarnation, { lastHeardMs: turn.state.nowMs });
  switch (message.type) {
    case 'heartbeat': {
      const { residentBytes, engineBytes, sentBytes, receivedBytes } = message;
      updateWorker(turn, incarnation, { residentBytes, engineBytes, sentBytes, receivedBytes });
      return null;
    }
    case 'prepared':
      return turnAway(turn, worker, onPrepared(turn, worker, message));
    case 'ready':
      return turnAway(turn, worker, onReady(turn, worker, message));
    case 'stateFailed':
      return turnAway(turn, worker, onStateFailed(turn, worker, message.reason));
    case 'handedBack':
      onHandedBack(turn, worker, message);
      return null;
    case 'draining':
      onDraining(turn, worker);
      return null;
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
      return settle(turn, onUploaded(turn, worker, message));
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

/** Acts on what comparing replicas has shown: a minority that holds other bits is quarantined, and its slots are computed again. */
function settle(turn: Turn, verdict: Verdict): Failure | null {
  if (verdict.kind === 'failed') return verdict.failure;
  if (verdict.kind === 'quarantine') {
    const hopeless = quarantine(turn, verdict.workers);
    removeWorkers(turn, hopeless);
    continueWithout(turn, verdict.workers, 'a replica was quarantined');
  }
  return null;
}

/** Removes workers, gives their slots to others and lets the survivors keep what they have. */
function loseWorkers(
  turn: Turn,
  lost: ReadonlyMap<string, string>,
  event: 'workerLost' | 'workerLeft' = 'workerLost',
): void {
  const isUnderWay = turn.state.activity.phase === 'reducing';
  const removed = removeWorkers(turn, lost, event);
  // One that was about to leave had no part in a reduction, but may have taken a job.
  const wereConcerned = removed.some(({ phase }) => phase === 'member' || phase === 'following');
  if (wereConcerned || (!isUnderWay && removed.some(({ phase }) => phase === 'leaving'))) {
    continueWithout(turn, lost, 'a member was lost');
  }
}

/** From the first tick on it is known until when those who may come back are waited for. */
function startWaiting({ state }: Turn): void {
  const { awaited, nowMs, settings } = state;
  if (awaited === null || awaited.untilMs !== null) return;
  state.awaited = { ...awaited, untilMs: nowMs + settings.heartbeatLimitMs };
}

/** Lets in whoever can be, and while no step is under way: plan the next one, wait, or close. Asking twice changes nothing. */
function advance(turn: Turn): void {
  const { state } = turn;
  if (state.activity.phase === 'finished') return;
  const isBetween = state.activity.phase === 'gathering' || state.activity.phase === 'closing';
  const isOver = () => state.stateStep >= state.settings.totalSteps || state.stopRequested;
  if (isBetween) releaseDrained(turn);
  // At the end nobody is let in any more, unless the state is lost and has to be come by again.
  if (!(isBetween && isOver() && members(state).length > 0)) admit(turn);
  if (state.activity.phase === 'computing') rebalance(turn);
  if (!isBetween) return;
  if (isOver()) {
    close(turn);
    return;
  }
  state.activity = { phase: 'gathering' };
  const needed = state.startedComputing ? 1 : state.settings.minWorkers;
  if (members(state).length < needed || !hasHands(state)) return;
  // A first step waits for those who are about to be ready for it.
  if (!state.startedComputing && participants(state).some(({ phase }) => phase === 'following')) return;
  beginStep(turn);
}

/** The run has come to its end: the newest state is stored, then everyone goes. */
function close(turn: Turn): void {
  const { state } = turn;
  state.activity = { phase: 'closing' };
  if (state.checkpoint !== null) return;
  // Whoever wants to stop does not wait for workers to come back with what has not been stored.
  if (state.stopRequested && participants(state).length === 0) state.stateStep = state.storedStep;
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
