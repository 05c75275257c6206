/**
 * The life of a step: planned into ranges, leased, computed, reduced, voted on, committed. A lost
 * worker's ranges are planned anew, and the reduction is tried again; the tree stays the same.
 */
import { assert } from '../base/index.ts';
import type { WorkerMessage } from '../protocol/index.ts';
import { beginCheckpoint } from './checkpoints.ts';
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
import type { CommittedStep, Failure, Vote, WorkerRecord } from './state.ts';
import { members, note, say, speeds, type Turn, updateWorker } from './turn.ts';

/** Reductions of one step that may fail in a row before the run stops: then it is no passing fault. */
const ATTEMPTS_MAX = 20;
/** Weight of the newest measurement in a worker's smoothed speed. */
const SPEED_SMOOTHING = 0.5;

export function onLeased(
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
  turn.state.activity = { ...activity, ledger: verdict.ledger, progressMs: turn.state.nowMs };
  say(turn, worker.incarnation, { type: 'granted', job: message.job });
}

export function onComputed(
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
  turn.state.activity = { ...activity, ledger, progressMs: turn.state.nowMs };
  if (isComplete(ledger)) startReduction(turn, ledger, activity.attempt);
}

/** What came of a vote. */
export type Verdict =
  /** Not all votes are in yet, or the step has committed. */
  | { readonly kind: 'goOn' }
  /** Workers whose bits differ from those of the majority, with the reason. */
  | { readonly kind: 'quarantine'; readonly workers: ReadonlyMap<string, string> }
  | { readonly kind: 'failed'; readonly failure: Failure };

const GO_ON: Verdict = { kind: 'goOn' };

/** A member's vote on the attempt under way; the last one settles it. */
export function onVote(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'vote' }>,
): Verdict {
  const { activity, generation } = turn.state;
  if (activity.phase !== 'reducing') return GO_ON;
  const isCurrent =
    message.generation === generation &&
    message.step === activity.ledger.step &&
    message.attempt === activity.attempt;
  if (!isCurrent) return GO_ON;
  if (message.times !== null) updateWorker(turn, worker.incarnation, { times: message.times });
  const { gradientDigest, parametersDigest } = message;
  const votes = new Map(activity.votes).set(worker.incarnation, { gradientDigest, parametersDigest });
  turn.state.activity = { ...activity, votes };
  if (votes.size < members(turn.state).length) return GO_ON;
  return settleVotes(turn, activity.ledger, activity.attempt, votes);
}

/** Why a gradient that is not finite ends the run; null when the message is of another step. */
export function onNotFinite(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'notFinite' }>,
): Failure | null {
  const { stateStep } = turn.state;
  if (message.step !== stateStep + 1) return null;
  const where = message.slot === null ? 'the sum over all slots' : `slot ${message.slot}`;
  return {
    code: 'NOT_FINITE',
    message:
      `step ${message.step}, ${where}, at ${worker.worker}: ${message.reason}; step ${stateStep} stands. ` +
      'Start anew with a lower optimizer.learningRate or with optimizer.clipNorm set',
  };
}

export function onReduceFailed(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'reduceFailed' }>,
): Failure | null {
  const { activity } = turn.state;
  if (activity.phase !== 'reducing' || message.attempt !== activity.attempt) return null;
  if (message.generation !== turn.state.generation) return null;
  note(turn, 'warn', 'attemptAborted', {
    step: activity.ledger.step,
    attempt: activity.attempt,
    worker: worker.worker,
    reason: message.reason,
  });
  abortReduction(turn, message.reason);
  if (activity.attempt >= ATTEMPTS_MAX) {
    const reason = `step ${activity.ledger.step} could not be reduced in ${ATTEMPTS_MAX} attempts: ${message.reason}`;
    return { code: 'WORKER_LOST', message: reason };
  }
  startReduction(turn, activity.ledger, activity.attempt + 1);
  return null;
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

function settleVotes(turn: Turn, ledger: Ledger, attempt: number, votes: ReadonlyMap<string, Vote>): Verdict {
  const { state } = turn;
  const vote = majorityOf([...votes.values()]);
  if (vote === null) return failed('DIVERGED', noMajority(turn, ledger.step, votes));
  const differing = [...votes].filter(([, other]) => !sameVote(other, vote));
  if (differing.length > 0) {
    // What it computed may be wrong as well, so its slots are computed again by the others.
    const reason = `its replica differs from the majority at step ${ledger.step}: quarantined`;
    return { kind: 'quarantine', workers: new Map(differing.map(([incarnation]) => [incarnation, reason])) };
  }
  const record = commitRecord(turn, ledger, attempt, vote);
  if (record.tokens === 0) {
    return failed('CONFIG_MISMATCH', `step ${ledger.step} has no target token: the data set is empty`);
  }
  const recorded = state.recorded.get(ledger.step);
  if (recorded !== undefined && !(sameVote(recorded, vote) && recorded.tokens === record.tokens)) {
    return failed(
      'DIVERGED',
      `step ${ledger.step}, repeated after a resume, gives gradient ${vote.gradientDigest} from parameters ` +
        `${vote.parametersDigest}, but the log holds ${recorded.gradientDigest} from ${recorded.parametersDigest}; ` +
        'was the run moved to another kind of device?',
    );
  }
  if (recorded === undefined) turn.effects.push({ type: 'appendCommit', record });
  announceCommit(turn, record, recorded !== undefined);
  return GO_ON;
}

function failed(code: Failure['code'], message: string): Verdict {
  return { kind: 'failed', failure: { code, message } };
}

/** The vote that more than half of the members cast, or null. */
function majorityOf(votes: readonly Vote[]): Vote | null {
  return (
    votes.find((vote) => 2 * votes.filter((other) => sameVote(other, vote)).length > votes.length) ?? null
  );
}

function noMajority(turn: Turn, step: number, votes: ReadonlyMap<string, Vote>): string {
  const { workers, stateStep } = turn.state;
  const ballots = [...votes].map(([incarnation, { parametersDigest, gradientDigest }]) => {
    const name = workers.get(incarnation)?.worker ?? incarnation;
    return `${name} ${parametersDigest}/${gradientDigest}`;
  });
  return (
    `step ${step}: replicas disagree on parameters/gradient and none has a majority: ${ballots.join(', ')}; ` +
    `step ${stateStep} stands`
  );
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
}

function abortReduction(turn: Turn, reason: string): void {
  for (const worker of members(turn.state)) say(turn, worker.incarnation, { type: 'abort', reason });
}

/** Goes on with a step after members were lost: their slots are planned anew, the survivors keep theirs. */
export function continueWithout(turn: Turn, lost: ReadonlyMap<string, string>): void {
  const { state } = turn;
  const { activity } = state;
  if (activity.phase !== 'computing' && activity.phase !== 'reducing') return;
  if (activity.phase === 'reducing') abortReduction(turn, 'a member was lost');
  if (members(state).length === 0) {
    state.activity = { phase: 'gathering' };
    return;
  }
  const attempt = activity.phase === 'reducing' ? activity.attempt + 1 : activity.attempt;
  const isLost = (incarnation: string) => lost.has(incarnation);
  const { ledger, reopened } = reclaim(activity.ledger, state.generation, isLost, speeds(state));
  state.activity = { phase: 'computing', ledger, attempt, progressMs: state.nowMs };
  enqueue(turn, reopened);
  if (isComplete(ledger)) startReduction(turn, ledger, attempt);
}

/** Plans the step after the one the members hold. */
export function beginStep(turn: Turn): void {
  const { state } = turn;
  const { run, microBatches } = state.settings;
  state.startedComputing = true;
  const ledger = openLedger(run, state.generation, state.stateStep + 1, microBatches, speeds(state));
  state.activity = { phase: 'computing', ledger, attempt: 1, progressMs: state.nowMs };
  enqueue(turn, ledger.ranges);
}

/** One that takes no part any more has taken a range from the queue: nobody else will find it there. */
export function onLeasedByStranger(turn: Turn, job: string): void {
  const { activity } = turn.state;
  if (activity.phase !== 'computing') return;
  if (waiting(activity.ledger).some(({ id }) => id === job)) replanWaiting(turn);
}

/**
 * Plans ranges anew that wait although a member has had nothing to do for the heartbeat limit: whoever
 * took them from the queue is cut off from here, and keeps their locks alive all the same. Each plan of a
 * step is given longer than the one before: while Redis is away, plans would pile up for when it is back.
 */
export function replanUnclaimed(turn: Turn): void {
  const { activity, nowMs, settings } = turn.state;
  if (activity.phase !== 'computing' || waiting(activity.ledger).length === 0) return;
  if (nowMs - activity.progressMs <= settings.heartbeatLimitMs * (activity.ledger.plan + 1)) return;
  const busy = new Set(
    activity.ledger.ranges.filter(({ results }) => results === null).map(({ holder }) => holder),
  );
  if (members(turn.state).some(({ incarnation }) => !busy.has(incarnation))) replanWaiting(turn);
}

function replanWaiting(turn: Turn): void {
  const { state } = turn;
  const { activity } = state;
  if (activity.phase !== 'computing') return;
  const { ledger, reopened } = reclaim(activity.ledger, state.generation, () => false, speeds(state));
  state.activity = { ...activity, ledger, progressMs: state.nowMs };
  note(turn, 'warn', 'rangesReplanned', { step: ledger.step, ranges: reopened.length });
  enqueue(turn, reopened);
}

function sameVote(a: Vote, b: Vote): boolean {
  return a.gradientDigest === b.gradientDigest && a.parametersDigest === b.parametersDigest;
}

function enqueue(turn: Turn, ranges: readonly RangeRecord[]): void {
  if (ranges.length > 0) turn.effects.push({ type: 'enqueue', jobs: ranges.map((range) => range.job) });
}

export function enqueueWaiting(turn: Turn): void {
  const { activity } = turn.state;
  if (activity.phase === 'computing') enqueue(turn, waiting(activity.ledger));
}
