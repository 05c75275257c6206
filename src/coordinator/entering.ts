/**
 * How a prepared worker gets the state and becomes a member, while the others go on.
 *
 * It follows first: from one step boundary on it takes part in reductions and so has every later
 * gradient. The state of that boundary comes from a checkpoint that is stored or made for it, or it has
 * kept a state that is new enough; it takes in the gradients since and has caught up. A replica whose
 * bits differ goes the same way from the start.
 *
 * While nobody holds the state, those who may come back with it are waited for; without them the run
 * goes back to its newest checkpoint and repeats the steps since, which the log proves equal.
 */
import type { StateSource, WorkerMessage } from '../protocol/index.ts';
import { abandonCheckpoint, beginCheckpoint } from './checkpoints.ts';
import { letGo } from './leaving.ts';
import { learningRateAt } from './schedule.ts';
import { restartReduction } from './settling.ts';
import type { CoordinatorState, RecordedStep, WorkerRecord } from './state.ts';
import { members, note, participants, refuse, say, type Turn, updateWorker } from './turn.ts';

/** Tries to get a state before a worker is sent away. */
const STATE_FAILURES_MAX = 3;
/** Times that a replica is healed before it is sent away: then its memory or device is broken. */
const QUARANTINES_MAX = 2;

/** Lets in whoever can be let in now. Asking twice changes nothing. */
export function admit(turn: Turn): void {
  const { state } = turn;
  if (!participants(state).some(({ phase, isEntering }) => phase === 'member' || isEntering)) {
    // A checkpoint that is being stored is complete: better to go on from it than from the one before.
    if (state.checkpoint !== null || isAwaiting(state)) return;
    if (!chooseState(turn)) return;
  }
  for (const worker of [...state.workers.values()]) if (worker.phase === 'prepared') letIn(turn, worker);
  for (const worker of participants(state)) {
    if (worker.phase !== 'following' || worker.isEntering) continue;
    if (state.storedStep >= worker.followsFrom) sendIn(turn, worker, storedSource(state));
    else beginCheckpoint(turn);
  }
}

/** Whether someone may still come back with a newer state than the newest checkpoint. */
function isAwaiting({ awaited, nowMs, workers }: CoordinatorState): boolean {
  if (awaited === null) return false;
  const prepared = [...workers.values()].filter(({ phase }) => phase === 'prepared');
  const back = new Set(prepared.map(({ worker }) => worker));
  if ([...awaited.names].every((name) => back.has(name))) return false;
  return awaited.untilMs === null || nowMs < awaited.untilMs;
}

/** Nobody holds the state: that of the best prepared worker becomes the run's. False when there is nobody at all. */
function chooseState(turn: Turn): boolean {
  const { state } = turn;
  const waiting = [...state.workers.values()].filter(
    ({ phase }) => phase === 'prepared' || phase === 'following',
  );
  if (waiting.length === 0) return false;
  const kept = waiting.flatMap((worker) => reachOf(state, worker) ?? []);
  const step = Math.max(state.storedStep, ...kept);
  if (step > state.storedStep) {
    note(turn, 'info', 'stateKept', { step, stored: state.storedStep });
    state.startedComputing = true;
  } else if (state.stateStep > state.storedStep) {
    note(turn, 'warn', 'rewound', { from: state.stateStep, to: state.storedStep });
  }
  state.stateStep = step;
  state.awaited = null;
  // Those who follow repeat the steps as well.
  for (const { incarnation, phase, followsFrom } of waiting) {
    if (phase === 'following') updateWorker(turn, incarnation, { followsFrom: Math.min(followsFrom, step) });
  }
  return true;
}

/** The step that a worker can be at with what it has kept; null when that is of no use. */
function reachOf(state: CoordinatorState, { held, phase }: WorkerRecord): number | null {
  if (held === null || phase !== 'prepared' || held.step < state.storedStep) return null;
  const newest = Math.max(state.stateStep, ...state.recorded.keys());
  if (held.step > newest) return null;
  const expected = parametersDigestAt(state, held.step);
  if (expected !== null && expected !== held.parametersDigest) return null;
  const next = committedAt(state, held.step + 1);
  const { pending } = held;
  const isNext = next !== null && pending?.step === held.step + 1;
  return isNext && pending.gradientDigest === next.gradientDigest ? held.step + 1 : held.step;
}

function letIn(turn: Turn, worker: WorkerRecord): void {
  const { state } = turn;
  const { activity, stateStep, storedStep, checkpoint } = state;
  const isReducing = activity.phase === 'reducing';
  if (reachOf(state, worker) === stateStep && worker.held !== null) {
    follow(turn, worker);
    sendIn(turn, worker, keptSource(state, worker.held.step));
    if (isReducing) restartReduction(turn, `${worker.worker} has come back`);
    return;
  }
  // The gradient of the step that is being reduced would be missed.
  if (isReducing) return;
  const canCatchUp =
    stateStep === storedStep || (members(state).length > 0 && (checkpoint?.step ?? stateStep) === stateStep);
  if (canCatchUp) follow(turn, worker);
}

function follow(turn: Turn, { incarnation }: WorkerRecord): void {
  turn.state.generation += 1;
  updateWorker(turn, incarnation, { phase: 'following', followsFrom: turn.state.stateStep });
}

function sendIn(turn: Turn, { incarnation }: WorkerRecord, source: StateSource): void {
  updateWorker(turn, incarnation, { isEntering: true });
  say(turn, incarnation, { type: 'enter', source }, { step: turn.state.stateStep });
}

function storedSource({ storedStep, settings }: CoordinatorState): StateSource {
  if (storedStep === 0 && !settings.startsFromCheckpoint) return { kind: 'initial' };
  return { kind: 'checkpoint', step: storedStep };
}

function keptSource(state: CoordinatorState, heldStep: number): StateSource {
  const { stateStep, settings } = state;
  const next = committedAt(state, stateStep);
  if (heldStep === stateStep || next === null) return { kind: 'held' };
  const learningRate = learningRateAt(stateStep, settings.optimizer, settings.totalSteps);
  return { kind: 'pending', tokens: next.tokens, learningRate };
}

/** The worker holds the state and has caught up. Returns why it cannot take part, or null. */
export function onReady(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'ready' }>,
): string | null {
  const { state } = turn;
  if (worker.phase !== 'following' || message.step > state.stateStep) return null;
  const { parametersDigest, step } = message;
  const expected = parametersDigestAt(state, step);
  if (expected !== null && expected !== parametersDigest) {
    return `its parameters at step ${step} have digest ${parametersDigest}, those of the run ${expected}`;
  }
  updateWorker(turn, worker.incarnation, { phase: 'member', parametersDigest, isLagging: false });
  note(turn, 'info', 'workerEntered', {
    worker: worker.worker,
    generation: state.generation,
    step,
    device: worker.device,
  });
  return null;
}

/** The state could not be had, perhaps because a newer checkpoint took its place. Returns why no more is tried. */
export function onStateFailed(turn: Turn, worker: WorkerRecord, reason: string): string | null {
  if (worker.phase !== 'following') return null;
  const numStateFailures = worker.numStateFailures + 1;
  note(turn, 'warn', 'stateFailed', { worker: worker.worker, reason });
  if (numStateFailures >= STATE_FAILURES_MAX) {
    return `it could not get the state in ${STATE_FAILURES_MAX} tries: ${reason}`;
  }
  updateWorker(turn, worker.incarnation, { isEntering: false, numStateFailures });
  return null;
}

/**
 * Replicas that hold other bits than the majority forget them and follow until they are given the right
 * ones. Returns those that were found wrong too often, which are sent away instead.
 */
export function quarantine(turn: Turn, differing: ReadonlyMap<string, string>): Map<string, string> {
  const { state } = turn;
  const hopeless = new Map<string, string>();
  for (const [incarnation, reason] of differing) {
    const worker = state.workers.get(incarnation);
    if (worker === undefined) continue;
    if (worker.isDraining) {
      // It goes anyway: there is nothing to heal it for.
      letGo(turn, worker);
      continue;
    }
    const numQuarantines = worker.numQuarantines + 1;
    note(turn, 'error', 'workerQuarantined', { worker: worker.worker, reason, times: numQuarantines });
    if (numQuarantines > QUARANTINES_MAX) {
      refuse(
        turn,
        incarnation,
        `${reason}; it was healed ${QUARANTINES_MAX} times: test its memory and device`,
      );
      hopeless.set(incarnation, reason);
      continue;
    }
    say(turn, incarnation, { type: 'quarantined', reason });
    updateWorker(turn, incarnation, {
      ...{ phase: 'following', followsFrom: state.stateStep, isEntering: false, numQuarantines },
      isLagging: false,
    });
  }
  state.generation += 1;
  // A part of it is wrong, or may be.
  if (state.checkpoint !== null) abandonCheckpoint(turn, 'a replica that has its part in it was quarantined');
  return hopeless;
}

/** What the parameters of a step's state must digest to, if the log or a member tells. */
function parametersDigestAt(state: CoordinatorState, step: number): string | null {
  for (let next = step + 1; ; next += 1) {
    const recorded: RecordedStep | undefined = state.recorded.get(next);
    if (recorded === undefined) break;
    // A step that was skipped has left them as they were.
    if (recorded.kind === 'committed') return recorded.parametersDigest;
  }
  // A member's digest dates from its entry: it speaks of this state only before the first step.
  return state.startedComputing ? null : (members(state)[0]?.parametersDigest ?? null);
}

function committedAt(state: CoordinatorState, step: number) {
  const recorded = state.recorded.get(step);
  return recorded?.kind === 'committed' ? recorded : null;
}
