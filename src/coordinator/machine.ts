/**
 * The coordinator's decisions: membership, plan, commit and checkpoint, as a pure state machine.
 *
 * `transition` is synchronous, total and deterministic. Time enters as `tick`; what is decided
 * leaves as effects, which the driver (coordinator.ts) carries out in list order. A commit is
 * appended to the log before anyone hears of it. DESIGN section 4 draws the life of a step.
 */
import { assert, unreachable } from '../base/index.ts';
import type { CoordinatorMessage, Said, WorkerMessage } from '../protocol/index.ts';
import {
  complete,
  isComplete,
  type Ledger,
  lease,
  openLedger,
  outcomes,
  type RangeRecord,
  reclaim,
  waiting,
} from './ledger.ts';
import { learningRateAt } from './schedule.ts';
import type {
  CheckpointInFlight,
  CommittedStep,
  CoordinatorEffect,
  CoordinatorEvent,
  CoordinatorSettings,
  CoordinatorState,
  Failure,
  RecordedStep,
  Vote,
  WorkerRecord,
} from './state.ts';

/** Reductions of one step that may fail in a row before the run stops: then it is no passing fault. */
const ATTEMPTS_MAX = 20;
/** Checkpoints that may fail in a row before the run stops. */
const UPLOAD_FAILURES_MAX = 3;
/** Weight of the newest measurement in a worker's smoothed speed. */
const SPEED_SMOOTHING = 0.5;

export interface Transition {
  readonly state: CoordinatorState;
  readonly effects: readonly CoordinatorEffect[];
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** One transition under way: a shallow draft of the state, and the effects so far. */
interface Turn {
  readonly state: Mutable<CoordinatorState>;
  readonly effects: CoordinatorEffect[];
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
  switch (event.type) {
    case 'tick':
      turn.state.nowMs = event.nowMs;
      loseSilentWorkers(turn);
      break;
    case 'messageArrived':
      onMessage(turn, event.message);
      break;
    case 'connectionLost':
      loseWorkers(turn, new Map([[event.incarnation, event.reason]]));
      break;
    case 'stopRequested':
      turn.state.stopRequested = true;
      if (turn.state.activity.phase === 'gathering') proceed(turn);
      break;
    case 'queueEmptied':
      enqueueWaiting(turn);
      break;
    case 'checkpointStored':
      onCheckpointStored(turn, event.step);
      break;
    case 'checkpointFailed':
      fail(turn, { code: event.code, message: event.reason });
      break;
    default:
      unreachable(event);
  }
  return { state: turn.state, effects: turn.effects };
}

// ---- messages ---------------------------------------------------------------------------------

function onMessage(turn: Turn, message: WorkerMessage): void {
  const { incarnation } = message;
  if (message.type === 'hello') {
    onHello(turn, message);
    return;
  }
  const worker = turn.state.workers.get(incarnation);
  if (worker === undefined) {
    // A worker that was declared lost, or one of another run: it must come back as new.
    refuse(turn, incarnation, 'unknown incarnation: say hello again');
    return;
  }
  updateWorker(turn, incarnation, { lastHeardMs: turn.state.nowMs });
  switch (message.type) {
    case 'heartbeat':
      updateWorker(turn, incarnation, { residentBytes: message.residentBytes });
      return;
    case 'prepared':
      onPrepared(turn, worker, message);
      return;
    case 'ready':
      onReady(turn, worker, message);
      return;
    case 'leased':
      onLeased(turn, worker, message);
      return;
    case 'computed':
      onComputed(turn, worker, message);
      return;
    case 'vote':
      onVote(turn, worker, message);
      return;
    case 'notFinite':
      onNotFinite(turn, worker, message);
      return;
    case 'reduceFailed':
      onReduceFailed(turn, worker, message);
      return;
    case 'uploaded':
      onUploaded(turn, worker, message);
      return;
    case 'uploadFailed':
      onUploadFailed(turn, worker, message);
      return;
    case 'leaving':
      loseWorkers(turn, new Map([[incarnation, message.reason]]));
      return;
    default:
      unreachable(message);
  }
}

function onHello(turn: Turn, message: Extract<WorkerMessage, { type: 'hello' }>): void {
  const { incarnation } = message;
  if (message.run !== '' && message.run !== turn.state.settings.run) {
    refuse(turn, incarnation, `this is run ${turn.state.settings.run}, not ${message.run}`);
    return;
  }
  const known = turn.state.workers.get(incarnation);
  if (known !== undefined) {
    // The first welcome may have been lost on the way; saying it again is harmless.
    turn.effects.push({ type: 'welcome', to: incarnation, worker: known.worker });
    return;
  }
  const taken = new Set([...turn.state.workers.values()].map((worker) => worker.worker));
  if (message.name !== null && taken.has(message.name)) {
    refuse(turn, incarnation, `a worker named ${message.name} is in the run already`);
    return;
  }
  let number = 0;
  while (taken.has(`worker-${number}`)) number += 1;
  const worker = message.name ?? `worker-${number}`;
  turn.state.workers = new Map(turn.state.workers).set(incarnation, {
    incarnation,
    worker,
    host: message.host,
    pid: message.pid,
    peerEndpoint: message.peerEndpoint,
    device: '',
    phase: 'preparing',
    lastHeardMs: turn.state.nowMs,
    speed: null,
    parametersDigest: null,
    residentBytes: 0,
    times: null,
  });
  turn.effects.push({ type: 'welcome', to: incarnation, worker });
  note(turn, 'info', 'workerJoined', { worker, host: message.host, pid: message.pid });
}

function onPrepared(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'prepared' }>,
): void {
  if (worker.phase !== 'preparing') return;
  const layoutKey = JSON.stringify(message.layout.map(({ name, shape }) => [name, shape]));
  turn.state.layoutKey ??= layoutKey;
  if (turn.state.layoutKey !== layoutKey) {
    refuse(turn, worker.incarnation, 'its parameters have other names or shapes than those of this run');
    loseWorkers(turn, new Map([[worker.incarnation, 'its parameter layout differs']]));
    return;
  }
  // Two versions of a library round differently, and the replicas' work would not add up to one run.
  turn.state.engineVersion ??= message.engineVersion;
  if (turn.state.engineVersion !== message.engineVersion) {
    const reason = `it computes with ${message.engineVersion}, the run with ${turn.state.engineVersion}`;
    refuse(turn, worker.incarnation, `${reason}: install the same on every host`);
    loseWorkers(turn, new Map([[worker.incarnation, reason]]));
    return;
  }
  updateWorker(turn, worker.incarnation, { phase: 'prepared', device: message.device });
  if (turn.state.activity.phase === 'gathering') proceed(turn);
}

function onReady(turn: Turn, worker: WorkerRecord, message: Extract<WorkerMessage, { type: 'ready' }>): void {
  if (worker.phase !== 'entering' || message.step !== turn.state.stateStep) return;
  const { parametersDigest } = message;
  const expected = expectedParametersDigest(turn.state);
  if (expected !== null && expected !== parametersDigest) {
    const reason = `its parameters at step ${message.step} have digest ${parametersDigest}, those of the run ${expected}`;
    refuse(turn, worker.incarnation, reason);
    note(turn, 'error', 'workerDiverged', { worker: worker.worker, reason });
    loseWorkers(turn, new Map([[worker.incarnation, reason]]));
    return;
  }
  updateWorker(turn, worker.incarnation, { phase: 'member', parametersDigest });
  turn.state.generation += 1;
  note(turn, 'info', 'workerEntered', {
    worker: worker.worker,
    generation: turn.state.generation,
    step: message.step,
    device: worker.device,
  });
  if (turn.state.activity.phase === 'gathering') proceed(turn);
}

/** What the parameters of the current state must digest to, if the log or a member tells. */
function expectedParametersDigest(state: CoordinatorState): string | null {
  const recorded = state.recorded.get(state.stateStep + 1);
  if (recorded !== undefined) return recorded.parametersDigest;
  // A member's digest dates from its entry: it speaks of this state only before the first step.
  return state.startedComputing ? null : (members(state)[0]?.parametersDigest ?? null);
}

function onLeased(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'leased' }>,
): void {
  const { activity } = turn.state;
  const deny = (reason: string) =>
    say(turn, worker.incarnation, { type: 'denied', job: message.job, reason });
  if (worker.phase !== 'member') {
    deny('the worker is not a member yet');
    return;
  }
  if (activity.phase !== 'computing') {
    deny('nothing is to be computed');
    return;
  }
  const verdict = lease(activity.ledger, message.job, worker.incarnation);
  if (!verdict.granted) {
    deny(verdict.reason);
    return;
  }
  turn.state.activity = { ...activity, ledger: verdict.ledger };
  say(turn, worker.incarnation, { type: 'granted', job: message.job });
}

function onComputed(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'computed' }>,
): void {
  const { activity } = turn.state;
  if (activity.phase !== 'computing') return;
  const ledger = complete(activity.ledger, message.job, worker.incarnation, message.results);
  if (ledger === null) {
    note(turn, 'warn', 'resultRefused', { worker: worker.worker, job: message.job });
    return;
  }
  const measured = (message.results.length * 1000) / Math.max(message.milliseconds, 0.001);
  const speed = worker.speed === null ? measured : worker.speed + SPEED_SMOOTHING * (measured - worker.speed);
  updateWorker(turn, worker.incarnation, { speed });
  turn.state.activity = { ...activity, ledger };
  if (isComplete(ledger)) startReduction(turn, ledger, activity.attempt);
}

function onVote(turn: Turn, worker: WorkerRecord, message: Extract<WorkerMessage, { type: 'vote' }>): void {
  const { activity, generation } = turn.state;
  if (activity.phase !== 'reducing') return;
  const isCurrent =
    message.generation === generation &&
    message.step === activity.ledger.step &&
    message.attempt === activity.attempt;
  if (!isCurrent) return;
  if (message.times !== null) updateWorker(turn, worker.incarnation, { times: message.times });
  const { gradientDigest, parametersDigest } = message;
  const votes = new Map(activity.votes).set(worker.incarnation, { gradientDigest, parametersDigest });
  turn.state.activity = { ...activity, votes };
  if (votes.size === members(turn.state).length) settleVotes(turn, activity.ledger, activity.attempt, votes);
}

function onNotFinite(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'notFinite' }>,
): void {
  if (message.step !== turn.state.stateStep + 1) return;
  const where = message.slot === null ? 'the sum over all slots' : `slot ${message.slot}`;
  fail(turn, {
    code: 'NOT_FINITE',
    message:
      `step ${message.step}, ${where}, at ${worker.worker}: ${message.reason}; step ${turn.state.stateStep} stands. ` +
      'Start anew with a lower optimizer.learningRate or with optimizer.clipNorm set',
  });
}

function onReduceFailed(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'reduceFailed' }>,
): void {
  const { activity } = turn.state;
  if (activity.phase !== 'reducing' || message.attempt !== activity.attempt) return;
  if (message.generation !== turn.state.generation) return;
  note(turn, 'warn', 'attemptAborted', {
    step: activity.ledger.step,
    attempt: activity.attempt,
    worker: worker.worker,
    reason: message.reason,
  });
  abortReduction(turn, message.reason);
  if (activity.attempt >= ATTEMPTS_MAX) {
    fail(turn, {
      code: 'WORKER_LOST',
      message: `step ${activity.ledger.step} could not be reduced in ${ATTEMPTS_MAX} attempts: ${message.reason}`,
    });
    return;
  }
  startReduction(turn, activity.ledger, activity.attempt + 1);
}

// ---- the life of a step -----------------------------------------------------------------------

/** Decides what comes next whenever no step is under way: wait, let joiners in, plan, or close. */
function proceed(turn: Turn): void {
  const { state } = turn;
  const { settings } = state;
  // A checkpoint that is being stored is complete: better to go on from it than from the one before.
  if (members(state).length === 0 && state.checkpoint === null) rewindToStored(turn);
  const { stateStep } = state;
  const done = stateStep >= settings.totalSteps;
  if (done || state.stopRequested) {
    close(turn);
    return;
  }
  state.activity = { phase: 'gathering' };
  admitPrepared(turn);
  const anyEntering = [...state.workers.values()].some((worker) => worker.phase === 'entering');
  const present = members(state).length;
  const needed = state.startedComputing ? 1 : settings.minWorkers;
  const anyWaiting = [...state.workers.values()].some((worker) => worker.phase === 'prepared');
  if (present < needed || anyEntering || anyWaiting) return;
  state.startedComputing = true;
  const ledger = openLedger(
    settings.run,
    state.generation,
    stateStep + 1,
    settings.microBatches,
    speeds(state),
  );
  state.activity = { phase: 'computing', ledger, attempt: 1 };
  enqueue(turn, ledger.ranges);
}

/** Sends prepared workers to the state they enter with, or has a checkpoint made for them. */
function admitPrepared(turn: Turn): void {
  const { state } = turn;
  const prepared = [...state.workers.values()].filter((worker) => worker.phase === 'prepared');
  if (prepared.length === 0) return;
  if (members(state).length === 0 && state.checkpoint !== null) return;
  if (state.stateStep === state.storedStep) {
    for (const worker of prepared) {
      updateWorker(turn, worker.incarnation, { phase: 'entering' });
      const kind = state.stateStep === 0 ? 'initial' : 'checkpoint';
      say(turn, worker.incarnation, { type: 'enter', source: { kind } });
    }
  } else {
    beginCheckpoint(turn);
  }
}

/**
 * With no member left nobody holds the newest state: the run goes back to the newest checkpoint and
 * repeats the steps after it, which the log proves equal.
 */
function rewindToStored(turn: Turn): void {
  const { state } = turn;
  if (state.stateStep === state.storedStep) return;
  note(turn, 'warn', 'rewound', { from: state.stateStep, to: state.storedStep });
  state.stateStep = state.storedStep;
}

function startReduction(turn: Turn, ledger: Ledger, attempt: number): void {
  const { state } = turn;
  const ranked = members(state);
  const rankOf = new Map(ranked.map((worker, rank) => [worker.incarnation, rank]));
  state.activity = { phase: 'reducing', ledger, attempt, votes: new Map() };
  const slotOwners = outcomes(ledger).map(({ holder }) => {
    const rank = rankOf.get(holder);
    assert(rank !== undefined, `slot holder ${holder} is not a member`);
    return rank;
  });
  const addresses = ranked.map(({ incarnation, worker, peerEndpoint }) => ({
    incarnation,
    worker,
    peerEndpoint,
  }));
  for (const worker of ranked) {
    say(turn, worker.incarnation, { type: 'reduce', members: addresses, slotOwners });
  }
}

function settleVotes(turn: Turn, ledger: Ledger, attempt: number, votes: ReadonlyMap<string, Vote>): void {
  const { state } = turn;
  const names = (incarnation: string) => state.workers.get(incarnation)?.worker ?? incarnation;
  const [first] = votes.values();
  assert(first !== undefined, 'a reduction has votes');
  const differing = [...votes].filter(([, vote]) => !sameVote(vote, first));
  if (differing.length > 0) {
    const ballots = [...votes].map(
      ([incarnation, vote]) => `${names(incarnation)} ${vote.parametersDigest}/${vote.gradientDigest}`,
    );
    fail(turn, {
      code: 'DIVERGED',
      message: `step ${ledger.step}: replicas disagree on parameters/gradient: ${ballots.join(', ')}; step ${state.stateStep} stands`,
    });
    return;
  }
  const record = commitRecord(turn, ledger, attempt, first);
  if (record.tokens === 0) {
    fail(turn, {
      code: 'CONFIG_MISMATCH',
      message: `step ${ledger.step} has no target token: the data set is empty`,
    });
    return;
  }
  const recorded = state.recorded.get(ledger.step);
  if (recorded !== undefined && !(sameVote(recorded, first) && recorded.tokens === record.tokens)) {
    fail(turn, {
      code: 'DIVERGED',
      message:
        `step ${ledger.step}, repeated after a resume, gives gradient ${first.gradientDigest} from parameters ` +
        `${first.parametersDigest}, but the log holds ${recorded.gradientDigest} from ${recorded.parametersDigest}; ` +
        'was the run moved to another kind of device?',
    });
    return;
  }
  if (recorded === undefined) turn.effects.push({ type: 'appendCommit', record });
  announceCommit(turn, record, recorded !== undefined);
}

function commitRecord(turn: Turn, ledger: Ledger, attempt: number, vote: Vote): CommittedStep {
  const { state } = turn;
  const slots = outcomes(ledger).map(({ holder, result }) => ({
    ...result,
    worker: state.workers.get(holder)?.worker ?? holder,
  }));
  return {
    step: ledger.step,
    generation: state.generation,
    attempt,
    tokens: slots.reduce((sum, slot) => sum + slot.tokens, 0),
    // Summed in slot order, so that the figure does not depend on who computed what.
    lossSum: slots.reduce((sum, slot) => sum + slot.lossSum, 0),
    learningRate: learningRateAt(ledger.step, state.settings.optimizer, state.settings.totalSteps),
    gradientDigest: vote.gradientDigest,
    parametersDigest: vote.parametersDigest,
    slots,
  };
}

function announceCommit(turn: Turn, record: CommittedStep, repeated: boolean): void {
  const { state } = turn;
  const { attempt } = record;
  for (const worker of members(state)) {
    say(
      turn,
      worker.incarnation,
      { type: 'commit', tokens: record.tokens, learningRate: record.learningRate },
      { step: record.step, attempt },
    );
  }
  turn.effects.push({ type: 'committed', record, repeated });
  state.stateStep = record.step;
  const { gradientDigest, parametersDigest, tokens } = record;
  state.recorded = new Map(state.recorded).set(record.step, { gradientDigest, parametersDigest, tokens });
  state.activity = { phase: 'gathering' };
  const isDue = state.checkpointDue || record.step % state.settings.checkpointEvery === 0;
  if (isDue) beginCheckpoint(turn);
  proceed(turn);
}

function close(turn: Turn): void {
  const { state } = turn;
  state.activity = { phase: 'closing' };
  if (state.checkpoint !== null) return;
  if (state.storedStep === state.stateStep) finishRun(turn);
  else beginCheckpoint(turn);
}

function finishRun(turn: Turn): void {
  const { state } = turn;
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

// ---- checkpoints ------------------------------------------------------------------------------

/** Asks every member for its part of the current state; training goes on meanwhile. */
function beginCheckpoint(turn: Turn): void {
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

function onUploaded(
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

function onUploadFailed(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'uploadFailed' }>,
): void {
  const { state } = turn;
  if (state.checkpoint === null || !isUploading(state.checkpoint, message)) return;
  abandonCheckpoint(turn, `${worker.worker}: ${message.reason}`);
  state.uploadFailures += 1;
  if (state.uploadFailures >= UPLOAD_FAILURES_MAX) {
    const reason = `${UPLOAD_FAILURES_MAX} checkpoints in a row could not be uploaded, at last by ${worker.worker}`;
    fail(turn, { code: 'WORKER_LOST', message: `${reason}: ${message.reason}` });
  } else {
    proceedIfWaiting(turn);
  }
}

function isUploading(checkpoint: CheckpointInFlight, { incarnation, step, attempt }: WorkerMessage): boolean {
  return checkpoint.step === step && checkpoint.attempt === attempt && checkpoint.pending.has(incarnation);
}

/** Whatever waited for the checkpoint's end goes on, or asks for another; a step under way looks when it commits. */
function proceedIfWaiting(turn: Turn): void {
  const { phase } = turn.state.activity;
  if (phase === 'closing' || phase === 'gathering') proceed(turn);
}

function onCheckpointStored(turn: Turn, step: number): void {
  const { state } = turn;
  if (state.checkpoint?.step !== step) return;
  state.checkpoint = null;
  state.uploadFailures = 0;
  state.storedStep = step;
  // Steps up to the checkpoint are never repeated.
  state.recorded = new Map([...state.recorded].filter(([recordedStep]) => recordedStep > step));
  note(turn, 'info', 'checkpointStored', { step });
  proceedIfWaiting(turn);
}

function abandonCheckpoint(turn: Turn, reason: string): void {
  const { state } = turn;
  assert(state.checkpoint !== null, 'a checkpoint is in flight');
  turn.effects.push({ type: 'abortCheckpoint', step: state.checkpoint.step, reason });
  note(turn, 'warn', 'checkpointAbandoned', { step: state.checkpoint.step, reason });
  state.checkpoint = null;
  state.checkpointDue = true;
}

// ---- membership -------------------------------------------------------------------------------

function loseSilentWorkers(turn: Turn): void {
  const { nowMs, settings, workers } = turn.state;
  const silent = new Map<string, string>();
  for (const worker of workers.values()) {
    const silenceMs = nowMs - worker.lastHeardMs;
    if (silenceMs > settings.heartbeatLimitMs)
      silent.set(worker.incarnation, `silent for ${Math.round(silenceMs)} ms`);
  }
  loseWorkers(turn, silent);
}

/** Removes workers, gives their slots to others and lets the survivors keep what they have. */
function loseWorkers(turn: Turn, lost: ReadonlyMap<string, string>): void {
  const { state } = turn;
  const removed = [...lost.keys()].flatMap((incarnation) => state.workers.get(incarnation) ?? []);
  if (removed.length === 0) return;
  state.workers = new Map([...state.workers].filter(([incarnation]) => !lost.has(incarnation)));
  for (const worker of removed) {
    turn.effects.push({ type: 'dismiss', incarnation: worker.incarnation });
    note(turn, 'warn', 'workerLost', {
      worker: worker.worker,
      reason: lost.get(worker.incarnation),
      phase: worker.phase,
      step: state.stateStep + 1,
    });
  }
  const wereMembers = removed.some((worker) => worker.phase === 'member');
  if (wereMembers) state.generation += 1;
  const uploader = removed.find((worker) => state.checkpoint?.pending.has(worker.incarnation));
  if (uploader !== undefined) {
    abandonCheckpoint(turn, `${uploader.worker} was lost while it uploaded its part`);
  }
  continueWithout(turn, wereMembers, lost);
}

function continueWithout(turn: Turn, wereMembers: boolean, lost: ReadonlyMap<string, string>): void {
  const { state } = turn;
  const { activity } = state;
  switch (activity.phase) {
    case 'computing':
    case 'reducing': {
      if (!wereMembers) return;
      if (activity.phase === 'reducing') abortReduction(turn, 'a member was lost');
      if (members(state).length === 0) {
        proceed(turn);
        return;
      }
      const attempt = activity.phase === 'reducing' ? activity.attempt + 1 : activity.attempt;
      const isLost = (incarnation: string) => lost.has(incarnation);
      const { ledger, reopened } = reclaim(activity.ledger, state.generation, isLost, speeds(state));
      state.activity = { phase: 'computing', ledger, attempt };
      enqueue(turn, reopened);
      if (isComplete(ledger)) startReduction(turn, ledger, attempt);
      return;
    }
    case 'gathering':
    case 'closing':
      proceed(turn);
      return;
    case 'finished':
      return;
    default:
      unreachable(activity);
  }
}

function abortReduction(turn: Turn, reason: string): void {
  for (const worker of members(turn.state)) say(turn, worker.incarnation, { type: 'abort', reason });
}

// ---- small helpers ----------------------------------------------------------------------------

/** The members in rank order: by name, which does not change while a worker lives. */
export function members(state: CoordinatorState): WorkerRecord[] {
  return [...state.workers.values()]
    .filter((worker) => worker.phase === 'member')
    .sort((a, b) => (a.worker < b.worker ? -1 : 1));
}

/** Speeds of the members; one not measured yet counts as an average one. */
function speeds(state: CoordinatorState): number[] {
  const present = members(state);
  const known = present.flatMap((worker) => worker.speed ?? []);
  const average = known.length === 0 ? 1 : known.reduce((sum, speed) => sum + speed, 0) / known.length;
  return present.map((worker) => worker.speed ?? average);
}

function layoutFloats(state: CoordinatorState): number {
  assert(state.layoutKey !== null, 'members have told their layout');
  const tensors = JSON.parse(state.layoutKey) as [string, number[]][];
  return tensors.reduce((sum, [, shape]) => sum + shape.reduce((size, side) => size * side, 1), 0);
}

function sameVote(a: Vote, b: Vote): boolean {
  return a.gradientDigest === b.gradientDigest && a.parametersDigest === b.parametersDigest;
}

function enqueue(turn: Turn, ranges: readonly RangeRecord[]): void {
  if (ranges.length > 0) turn.effects.push({ type: 'enqueue', jobs: ranges.map((range) => range.job) });
}

function enqueueWaiting(turn: Turn): void {
  const { activity } = turn.state;
  if (activity.phase === 'computing') enqueue(turn, waiting(activity.ledger));
}

function updateWorker(turn: Turn, incarnation: string, change: Partial<WorkerRecord>): void {
  const worker = turn.state.workers.get(incarnation);
  if (worker === undefined) return;
  turn.state.workers = new Map(turn.state.workers).set(incarnation, { ...worker, ...change });
}

/** Says something about the step under way; `about` overrides for messages on a committed one. */
function say(
  turn: Turn,
  to: string,
  // Distributes over the union, so that each message keeps its own fields.
  message: Said<CoordinatorMessage> extends infer M
    ? M extends unknown
      ? Omit<M, 'generation' | 'step' | 'attempt'>
      : never
    : never,
  about: { step?: number; attempt?: number } = {},
): void {
  const { activity, generation, stateStep } = turn.state;
  const isUnderWay = activity.phase === 'computing' || activity.phase === 'reducing';
  const step = about.step ?? (isUnderWay ? activity.ledger.step : stateStep);
  const attempt = about.attempt ?? (isUnderWay ? activity.attempt : 0);
  // The three fields complete what the parameter's type leaves out of its union member.
  turn.effects.push({
    type: 'send',
    to,
    message: { ...message, generation, step, attempt } as Said<CoordinatorMessage>,
  });
}

function refuse(turn: Turn, to: string, reason: string): void {
  say(turn, to, { type: 'refused', reason });
  note(turn, 'warn', 'workerRefused', { incarnation: to, reason });
}

function note(
  turn: Turn,
  level: 'info' | 'warn' | 'error',
  event: string,
  fields: Record<string, unknown>,
): void {
  turn.effects.push({ type: 'note', level, event, fields });
}
