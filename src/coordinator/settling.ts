/**
 * How a step ends: reduced, voted on by all participants, and committed, or skipped on all of them alike.
 * A reduction that fails is tried again; the tree stays the same.
 */
import { assert } from '../base/index.ts';
import type { WorkerMessage } from '../protocol/index.ts';
import { beginCheckpoint } from './checkpoints.ts';
import { type Ledger, outcomes } from './ledger.ts';
import { learningRateAt } from './schedule.ts';
import type { CommittedStep, Failure, RecordedStep, Vote, WorkerRecord } from './state.ts';
import { note, participants, say, type Turn, updateWorker } from './turn.ts';
import { GO_ON, majorityOf, type Verdict } from './verdict.ts';

/** Reductions of one step that may fail in a row before the run stops: then it is no passing fault. */
const ATTEMPTS_MAX = 20;
/** Steps in a row that may be skipped before the run stops: then it learns nothing any more. */
const SKIPPED_IN_ROW_MAX = 10;

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
  const { gradientDigest, parametersDigest } = message;
  const isLagging = worker.phase === 'member' && parametersDigest === null;
  const times = message.times ?? worker.times;
  updateWorker(turn, worker.incarnation, { times, isLagging });
  const votes = new Map(activity.votes).set(worker.incarnation, { gradientDigest, parametersDigest });
  turn.state.activity = { ...activity, votes };
  if (votes.size < participants(turn.state).length) return GO_ON;
  return settleVotes(turn, activity.ledger, activity.attempt, votes);
}

/** A gradient is not finite: the step is skipped on all replicas alike, or the run ends; see the configuration. */
export function onNotFinite(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'notFinite' }>,
): Failure | null {
  const { stateStep, settings, recorded, skippedInRow } = turn.state;
  const { step, slot, reason } = message;
  if (step !== stateStep + 1) return null;
  const where = slot === null ? 'the sum over all slots' : `slot ${slot}`;
  const what = `step ${step}, ${where}, at ${worker.worker}: ${reason}; step ${stateStep} stands`;
  const before = recorded.get(step);
  if (before?.kind === 'committed') {
    const message = `${what}, but the log holds a commit of step ${step}; was the run moved to another kind of device?`;
    return { code: 'DIVERGED', message };
  }
  if (settings.optimizer.onNotFinite === 'skip' && skippedInRow < SKIPPED_IN_ROW_MAX) {
    skip(turn, worker, message, before !== undefined);
    return null;
  }
  const remedy = 'Start anew with a lower optimizer.learningRate or with optimizer.clipNorm set';
  const many = skippedInRow === 0 ? '' : `, after ${skippedInRow} steps in a row that were skipped`;
  return { code: 'NOT_FINITE', message: `${what}${many}. ${remedy}` };
}

/** Ends a step without an update. Whether it has to be is a matter of the micro-batch, not of who computed it. */
function skip(
  turn: Turn,
  { worker }: WorkerRecord,
  { step, slot, reason }: Extract<WorkerMessage, { type: 'notFinite' }>,
  isRepeated: boolean,
): void {
  const { state } = turn;
  const { generation } = state;
  if (!isRepeated)
    turn.effects.push({ type: 'appendSkipped', record: { step, generation, slot, worker, reason } });
  note(turn, 'warn', 'stepSkipped', { step, slot, worker, reason });
  for (const { incarnation } of participants(state)) {
    say(turn, incarnation, { type: 'skip', reason }, { step });
  }
  turn.effects.push({ type: 'skipped', step });
  state.stateStep = step;
  state.skippedInRow += 1;
  state.recorded = new Map(state.recorded).set(step, { kind: 'skipped' });
  state.activity = { phase: 'gathering' };
  if (state.checkpointDue || step % state.settings.checkpointEvery === 0) beginCheckpoint(turn);
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

/** Another attempt with the participants as they are now. */
export function restartReduction(turn: Turn, reason: string): void {
  const { activity } = turn.state;
  if (activity.phase !== 'reducing') return;
  abortReduction(turn, reason);
  startReduction(turn, activity.ledger, activity.attempt + 1);
}

export function startReduction(turn: Turn, ledger: Ledger, attempt: number): void {
  const { state } = turn;
  const ranked = participants(state);
  const rankOf = new Map(ranked.map((worker, rank) => [worker.incarnation, rank]));
  state.activity = { phase: 'reducing', ledger, attempt, votes: new Map() };
  const slotOwners = outcomes(ledger).map(({ holder }) => {
    const rank = rankOf.get(holder);
    assert(rank !== undefined, `slot holder ${holder} is not a member`);
    return rank;
  });
  tellMembers(turn, ranked);
  for (const worker of ranked) say(turn, worker.incarnation, { type: 'reduce', slotOwners });
}

/**
 * The addresses of all to each, once per generation: they are the same as long as it lasts. That none is
 * lost is the links' affair, where a gap ends the incarnation; a coordinator started anew knows nobody.
 */
function tellMembers(turn: Turn, ranked: readonly WorkerRecord[]): void {
  const { generation } = turn.state;
  const members = ranked.map(({ incarnation, worker, peerEndpoint, peerMemory }) => ({
    incarnation,
    worker,
    peerEndpoint,
    peerMemory,
  }));
  for (const { incarnation, membersTold } of ranked) {
    if (membersTold === generation) continue;
    say(turn, incarnation, { type: 'members', members });
    updateWorker(turn, incarnation, { membersTold: generation });
  }
}

function settleVotes(turn: Turn, ledger: Ledger, attempt: number, votes: ReadonlyMap<string, Vote>): Verdict {
  const { state } = turn;
  const vote = agreedVote([...votes.values()]);
  // Whoever computed a slot holds the parameters, so that one vote at least is complete.
  if (vote === null || vote.parametersDigest === null)
    return failed('DIVERGED', noMajority(turn, ledger.step, votes));
  const { parametersDigest } = vote;
  const agreed = { ...vote, parametersDigest };
  const differing = [...votes].filter(([, other]) => !agrees(other, agreed));
  if (differing.length > 0) {
    // What it computed may be wrong as well, so its slots are computed again by the others.
    const reason = `its replica differs from the majority at step ${ledger.step}: quarantined`;
    return { kind: 'quarantine', workers: new Map(differing.map(([incarnation]) => [incarnation, reason])) };
  }
  const record = commitRecord(turn, ledger, attempt, agreed);
  if (record.tokens === 0) {
    return failed('CONFIG_MISMATCH', `step ${ledger.step} has no target token: the data set is empty`);
  }
  const recorded = state.recorded.get(ledger.step);
  if (recorded !== undefined && !isRepetition(recorded, agreed, record.tokens)) {
    const held =
      recorded.kind === 'skipped'
        ? 'that it was skipped'
        : `${recorded.gradientDigest} from ${recorded.parametersDigest}`;
    return failed(
      'DIVERGED',
      `step ${ledger.step}, repeated after a resume, gives gradient ${vote.gradientDigest} from parameters ` +
        `${parametersDigest}, but the log holds ${held}; ${whyDifferent(state.settings.mixedEngines)}`,
    );
  }
  if (recorded === undefined) turn.effects.push({ type: 'appendCommit', record });
  announceCommit(turn, record, recorded !== undefined);
  return GO_ON;
}

function whyDifferent(mixedEngines: boolean): string {
  return mixedEngines
    ? 'with mixedEngines a step depends on who computed what: start a new run from the checkpoint with --from'
    : 'was the run moved to another kind of device?';
}

function failed(code: Failure['code'], message: string): Verdict {
  return { kind: 'failed', failure: { code, message } };
}

/** The vote that more than half of those who hold the parameters cast, or null. */
function agreedVote(votes: readonly Vote[]): Vote | null {
  const complete = votes.filter(({ parametersDigest }) => parametersDigest !== null);
  return majorityOf(
    complete,
    ({ gradientDigest, parametersDigest }) => `${gradientDigest} ${parametersDigest}`,
  );
}

/** Whether a vote says the same, as far as it says anything. */
function agrees(vote: Vote, { gradientDigest, parametersDigest }: Vote): boolean {
  if (vote.gradientDigest !== gradientDigest) return false;
  return vote.parametersDigest === null || vote.parametersDigest === parametersDigest;
}

function isRepetition(recorded: RecordedStep, agreed: Vote, tokens: number): boolean {
  return recorded.kind === 'committed' && agrees(recorded, agreed) && recorded.tokens === tokens;
}

function noMajority(turn: Turn, step: number, votes: ReadonlyMap<string, Vote>): string {
  const { workers, stateStep } = turn.state;
  const ballots = [...votes].map(([incarnation, { parametersDigest, gradientDigest }]) => {
    const name = workers.get(incarnation)?.worker ?? incarnation;
    return `${name} ${parametersDigest ?? 'none yet'}/${gradientDigest}`;
  });
  return (
    `step ${step}: replicas disagree on parameters/gradient and none has a majority: ${ballots.join(', ')}; ` +
    `step ${stateStep} stands`
  );
}

function commitRecord(
  turn: Turn,
  ledger: Ledger,
  attempt: number,
  vote: { gradientDigest: string; parametersDigest: string },
): CommittedStep {
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
  for (const worker of participants(state)) {
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
  state.recorded = new Map(state.recorded).set(record.step, {
    ...{ kind: 'committed', gradientDigest, parametersDigest, tokens },
  });
  state.skippedInRow = 0;
  state.activity = { phase: 'gathering' };
  const isDue = state.checkpointDue || record.step % state.settings.checkpointEvery === 0;
  if (isDue) beginCheckpoint(turn);
}

export function abortReduction(turn: Turn, reason: string): void {
  for (const { incarnation } of participants(turn.state)) say(turn, incarnation, { type: 'abort', reason });
}
