/**
 * How a step is computed: planned into ranges, leased, and told of slot by slot. Slots of a worker that is
 * lost, drains or is too slow are planned anew; the survivors keep theirs. How it ends is in settling.ts.
 */
import { hostsOf, type WorkerMessage } from '../protocol/index.ts';
import {
  complete,
  handBack,
  isComplete,
  isOpen,
  type Ledger,
  lease,
  noteTakingBack,
  openLedger,
  type RangeRecord,
  reclaim,
  waiting,
} from './ledger.ts';
import { placeNearHost } from './placement.ts';
import { abortReduction, startReduction } from './settling.ts';
import type { WorkerRecord } from './state.ts';
import { planTakeBack } from './take-back.ts';
import { hands, hasHands, members, note, say, speeds, type Turn, updateWorker } from './turn.ts';

/** A worker this many times slower than the fastest is named when slots are taken back from it. */
const STRAGGLER_RATIO = 3;
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
    deny('the worker is not a member');
    // It ends the job in the queue, so that whoever is to have the range needs another.
    reopen(turn, worker, message.job, message.first);
    return;
  }
  if (activity.phase !== 'computing') {
    deny('nothing is to be computed');
    return;
  }
  const placed = placedFor(turn, activity.ledger, worker, message.job);
  const verdict = lease(placed, message.job, worker.incarnation, turn.state.nowMs);
  if (!verdict.granted) {
    deny(verdict.reason);
    return;
  }
  turn.state.activity = { ...activity, ledger: verdict.ledger, progressMs: turn.state.nowMs };
  say(turn, worker.incarnation, { type: 'granted', job: message.job, first: verdict.first });
}

/** Where some hosts have several workers, each host's ranges are kept together. */
function placedFor({ state }: Turn, ledger: Ledger, { incarnation }: WorkerRecord, job: string): Ledger {
  const present = [...state.workers.values()].filter(({ phase }) => phase === 'member');
  const numbers = hostsOf(present);
  const numHosts = new Set(numbers).size;
  if (numHosts === 1 || numHosts === present.length) return ledger;
  const hosts = new Map(present.map((member, index) => [member.incarnation, numbers[index]]));
  const host = hosts.get(incarnation);
  return placeNearHost(ledger, job, (holder) => hosts.get(holder) === host);
}

export function onComputed(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'computed' }>,
): void {
  const { activity } = turn.state;
  if (activity.phase !== 'computing') return;
  const { job, results } = message;
  const ledger = complete(activity.ledger, job, worker.incarnation, results, turn.state.nowMs);
  if (ledger === null) {
    note(turn, 'warn', 'resultRefused', { worker: worker.worker, job });
    return;
  }
  const measured = (results.length * 1000) / Math.max(message.milliseconds, 0.001);
  const speed = worker.speed === null ? measured : worker.speed + SPEED_SMOOTHING * (measured - worker.speed);
  updateWorker(turn, worker.incarnation, { speed });
  turn.state.activity = { ...activity, ledger, progressMs: turn.state.nowMs };
  if (isComplete(ledger)) startReduction(turn, ledger, activity.attempt);
}

/** A worker does not keep slots it has: it was asked to, it drains, or it lags behind. */
export function onHandedBack(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'handedBack' }>,
): void {
  reopen(turn, worker, message.job, message.first);
}

/** Plans slots anew that a worker has or took from the queue, from `first` on. */
function reopen(turn: Turn, { incarnation }: WorkerRecord, job: string, first: number): void {
  const { activity, generation, nowMs } = turn.state;
  if (activity.phase !== 'computing') return;
  const result = handBack(activity.ledger, job, incarnation, first, generation, speeds(turn.state), nowMs);
  if (result === null) return;
  const { ledger, reopened } = result;
  turn.state.activity = { ...activity, ledger };
  enqueue(turn, reopened);
  if (isComplete(ledger)) startReduction(turn, ledger, activity.attempt);
}

/** Has slots taken back from whoever would finish them later than a worker that has nothing to do. */
export function rebalance(turn: Turn): void {
  const { state } = turn;
  const { activity } = state;
  if (activity.phase !== 'computing') return;
  const all = hands(state);
  const found = planTakeBack(activity.ledger, all, state.nowMs);
  if (found === null) return;
  const { range, first } = found;
  const holder = state.workers.get(range.holder!)!;
  state.activity = { ...activity, ledger: noteTakingBack(activity.ledger, range.id) };
  say(turn, holder.incarnation, { type: 'takeBack', job: range.id, first });
  const best = Math.max(...all.filter(({ takesSlots }) => takesSlots).map(({ speed }) => speed));
  const own = holder.speed ?? best;
  // As slow as it has been, or as it is just now.
  const slotMs = Math.max(1000 / own, state.nowMs - range.sinceMs);
  const isStraggler = slotMs > (STRAGGLER_RATIO * 1000) / best;
  if (isStraggler && !holder.isStraggler) {
    note(turn, 'warn', 'straggler', {
      worker: holder.worker,
      step: activity.ledger.step,
      slotsTakenBack: range.first + range.count - first,
      slotsPerSecond: own,
      bestSlotsPerSecond: best,
    });
  }
  updateWorker(turn, holder.incarnation, { isStraggler });
}

/** Goes on with a step without some workers: their slots are planned anew, the survivors keep theirs. */
export function continueWithout(turn: Turn, lost: ReadonlyMap<string, string>, reason: string): void {
  const { state } = turn;
  const { activity } = state;
  if (activity.phase !== 'computing' && activity.phase !== 'reducing') return;
  if (activity.phase === 'reducing') abortReduction(turn, reason);
  if (members(state).length === 0) {
    state.activity = { phase: 'gathering' };
    return;
  }
  const attempt = activity.phase === 'reducing' ? activity.attempt + 1 : activity.attempt;
  const isLost = (incarnation: string) => lost.has(incarnation);
  const { ledger, reopened } = reclaim(activity.ledger, state.generation, isLost, speeds(state));
  if (!isComplete(ledger) && !hasHands(state)) {
    // Those who are left only wait to leave: the step is begun anew when someone is there to finish it.
    state.activity = { phase: 'gathering' };
    return;
  }
  state.activity = { phase: 'computing', ledger, attempt, progressMs: state.nowMs, patience: 1 };
  enqueue(turn, reopened);
  if (isComplete(ledger)) startReduction(turn, ledger, attempt);
}

/** Plans the step after the one the members hold. */
export function beginStep(turn: Turn): void {
  const { state } = turn;
  const { run, microBatches } = state.settings;
  state.startedComputing = true;
  const ledger = openLedger(run, state.generation, state.stateStep + 1, microBatches, speeds(state));
  state.activity = { phase: 'computing', ledger, attempt: 1, progressMs: state.nowMs, patience: 1 };
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
  if (nowMs - activity.progressMs <= settings.heartbeatLimitMs * activity.patience) return;
  const busy = new Set(activity.ledger.ranges.filter(isOpen).map(({ holder }) => holder));
  const isIdle = hands(turn.state).some(
    ({ incarnation, takesSlots }) => takesSlots && !busy.has(incarnation),
  );
  if (isIdle) replanWaiting(turn);
}

function replanWaiting(turn: Turn): void {
  const { state } = turn;
  const { activity } = state;
  if (activity.phase !== 'computing') return;
  const { ledger, reopened } = reclaim(activity.ledger, state.generation, () => false, speeds(state));
  state.activity = { ...activity, ledger, progressMs: state.nowMs, patience: activity.patience + 1 };
  note(turn, 'warn', 'rangesReplanned', { step: ledger.step, ranges: reopened.length });
  enqueue(turn, reopened);
}

function enqueue(turn: Turn, ranges: readonly RangeRecord[]): void {
  if (ranges.length > 0) turn.effects.push({ type: 'enqueue', jobs: ranges.map((range) => range.job) });
}

export function enqueueWaiting(turn: Turn): void {
  const { activity } = turn.state;
  if (activity.phase === 'computing') enqueue(turn, waiting(activity.ledger));
}
