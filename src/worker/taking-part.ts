/**
 * A worker that takes part: lease, compute, reduce, vote and apply, step after step. Pure.
 *
 * The reduction is the comm thread's and the replica the compute thread's, and the second may lag behind
 * the first: see `TakingPart`. `advance` decides in one place what the replica can do next.
 */
import { assert, unreachable } from '../base/index.ts';
import type { CoordinatorMessage, Job } from '../protocol/index.ts';
import type { HeldJob, ReduceOrder, Replica, TakingPart, Update, WorkEvent } from './lifecycle-state.ts';
import { change, end, evicted, say, setLife, type Turn } from './lifecycle-turn.ts';

type Order = Extract<
  CoordinatorMessage,
  {
    type:
      | 'enter'
      | 'granted'
      | 'denied'
      | 'takeBack'
      | 'quarantined'
      | 'members'
      | 'reduce'
      | 'abort'
      | 'commit'
      | 'skip'
      | 'snapshot';
  }
>;

export function beginTakingPart(generation: number): TakingPart {
  return {
    phase: 'takingPart',
    generation,
    committedStep: null,
    replica: { kind: 'absent' },
    backlog: [],
    applying: null,
    computing: null,
    announced: false,
    draining: false,
    pulling: false,
    jobs: new Map(),
    members: null,
    reduction: null,
    heldOrder: null,
    snapshot: null,
  };
}

/** What the coordinator says. */
export function onOrder(turn: Turn, before: TakingPart, message: Order): void {
  if (message.generation < before.generation) return;
  const life = change(turn, before, { generation: message.generation });
  switch (message.type) {
    case 'enter':
      onEnter(turn, life, message);
      return;
    case 'granted':
      onGranted(turn, life, message.job, message.first);
      return;
    case 'denied':
      if (!life.jobs.has(message.job)) return;
      advance(turn, dropJob(turn, life, message.job));
      return;
    case 'takeBack': {
      const held = life.jobs.get(message.job);
      if (held === undefined) return;
      turn.effects.push({ type: 'limitJob', id: message.job, first: message.first });
      return;
    }
    case 'quarantined':
      onQuarantined(turn, life);
      return;
    case 'members':
      change(turn, life, { members: { generation: message.generation, inRankOrder: message.members } });
      return;
    case 'reduce': {
      if (!isNext(life, message.step)) return;
      const { members } = life;
      // Nothing is lost on a link without its incarnation's end, and nothing overtakes there.
      assert(
        members?.generation === message.generation,
        `the members of generation ${message.generation} were told`,
      );
      const order = { ...message, members: members.inRankOrder };
      if (holdsPlace(life)) change(turn, life, { heldOrder: order });
      else startReduction(turn, life, order);
      return;
    }
    case 'abort':
      if (!isNext(life, message.step)) return;
      change(turn, life, { reduction: null, heldOrder: null });
      if (life.reduction !== null) turn.effects.push({ type: 'abortReduction' });
      return;
    case 'commit':
      onCommit(turn, life, message);
      return;
    case 'skip':
      onSkip(turn, life, message.step);
      return;
    case 'snapshot': {
      const { replica } = life;
      if (replica.kind !== 'held' || message.step !== life.committedStep) return;
      const { step, attempt, offset, length } = message;
      const order = { step, attempt, offset, length };
      const { parametersDigest } = replica;
      if (replica.step === step) turn.effects.push({ type: 'upload', order, parametersDigest });
      else change(turn, life, { snapshot: order });
      return;
    }
    default:
      unreachable(message);
  }
}

/** What the other thread, the queue and the reduction report. */
export function onWork(turn: Turn, life: TakingPart, event: WorkEvent): void {
  switch (event.type) {
    case 'stateLoaded': {
      const { replica } = life;
      if (replica.kind !== 'loading' || !replica.started) return;
      const { parametersDigest } = event;
      advance(turn, change(turn, life, { replica: { kind: 'held', step: replica.step, parametersDigest } }));
      return;
    }
    case 'stateFailed':
      if (life.replica.kind !== 'loading') return;
      change(turn, life, { replica: { kind: 'absent' } });
      say(turn, { type: 'stateFailed', reason: event.reason });
      return;
    case 'jobLeased': {
      const { id, job } = event;
      const pulled = change(turn, life, { pulling: false });
      if (!canCompute(pulled)) {
        returnJob(turn, pulled, id, job);
        return;
      }
      const held: HeldJob = { job, status: 'asked', numDone: 0 };
      change(turn, pulled, { jobs: new Map(life.jobs).set(id, held) });
      say(turn, { type: 'leased', job: id, first: job.first, count: job.count }, { step: job.step });
      return;
    }
    case 'slotComputed': {
      const held = life.jobs.get(event.job);
      if (held === undefined) return;
      const numDone = held.numDone + 1;
      change(turn, life, { jobs: new Map(life.jobs).set(event.job, { ...held, numDone }) });
      const { job, result, milliseconds } = event;
      say(turn, { type: 'computed', job, results: [result], milliseconds }, { step: held.job.step });
      return;
    }
    case 'rangeEnded': {
      if (life.computing !== event.job) return;
      const held = life.jobs.get(event.job);
      const jobs = new Map(life.jobs);
      if (held !== undefined) jobs.set(event.job, { ...held, status: 'finished' });
      advance(turn, change(turn, life, { jobs, computing: null }));
      return;
    }
    case 'jobLimited': {
      const held = life.jobs.get(event.id);
      if (held === undefined) return;
      const about = { step: held.job.step };
      say(turn, { type: 'handedBack', job: event.id, first: event.first }, about);
      return;
    }
    case 'notFinite':
      say(turn, { type: 'notFinite', slot: event.slot, reason: event.reason }, { step: event.step });
      return;
    case 'reductionFinished': {
      const { reduction } = life;
      if (reduction === null || !isSame(reduction, event)) return;
      const { gradientDigest } = event;
      vote(turn, change(turn, life, { reduction: { ...reduction, gradientDigest } }));
      return;
    }
    case 'reductionFailed':
      if (life.reduction === null || !isSame(life.reduction, event)) return;
      say(turn, { type: 'reduceFailed', reason: event.reason }, { attempt: event.attempt });
      return;
    case 'applied':
      onApplied(turn, life, event);
      return;
    case 'uploaded':
      say(turn, { type: 'uploaded', parametersDigest: event.parametersDigest }, event.order);
      return;
    case 'uploadFailed':
      say(turn, { type: 'uploadFailed', reason: event.reason }, event.order);
      return;
    default:
      unreachable(event);
  }
}

/** Takes no more slots, hands back those that are not begun, and goes once the step under way is over. */
export function drain(turn: Turn, life: TakingPart): void {
  if (life.draining) return;
  change(turn, life, { draining: true });
  say(turn, { type: 'draining' });
  for (const [id, { job, status, numDone }] of life.jobs) {
    if (status === 'granted') turn.effects.push({ type: 'limitJob', id, first: job.first + numDone + 1 });
  }
}

// ---- the state ----------------------------------------------------------------------------------

function onEnter(turn: Turn, life: TakingPart, message: Extract<Order, { type: 'enter' }>): void {
  if (life.replica.kind !== 'absent') return;
  const { source, step: committedStep } = message;
  const step = baseOf(message);
  let backlog = life.backlog.filter((update) => update.step > step && update.step <= committedStep);
  if (source.kind === 'pending') {
    const { tokens, learningRate } = source;
    backlog = [{ kind: 'apply', step: committedStep, tokens, learningRate, from: 'reduced' }];
  }
  if (backlog.length !== committedStep - step) {
    const reason = `the state of step ${step} is of no use at step ${committedStep}: steps in between were missed`;
    end(turn, evicted(turn, reason, null));
    return;
  }
  turn.effects.push(
    { type: 'keepSetAside', steps: backlog.map((update) => update.step) },
    { type: 'follow', step: committedStep },
  );
  const kind = source.kind === 'pending' ? 'held' : source.kind;
  const replica: Replica = { kind: 'loading', step, source: kind, started: false };
  advance(turn, change(turn, life, { committedStep, replica, backlog }));
}

/** The step whose state an order to enter has the worker load. */
function baseOf({ source, step }: Extract<Order, { type: 'enter' }>): number {
  switch (source.kind) {
    case 'initial':
      return 0;
    case 'checkpoint':
      return source.step;
    case 'held':
      return step;
    case 'pending':
      return step - 1;
    default:
      return unreachable(source);
  }
}

/** Its bits are wrong, and what it computed may be: all of that goes. It follows the run until it is told more. */
function onQuarantined(turn: Turn, life: TakingPart): void {
  for (const [id, { status }] of life.jobs) {
    if (status === 'granted') turn.effects.push({ type: 'limitJob', id, first: 0 });
    turn.effects.push({ type: 'releaseJob', id });
  }
  if (life.reduction !== null) turn.effects.push({ type: 'abortReduction' });
  turn.effects.push({ type: 'keepSetAside', steps: [] }, { type: 'discardFragments' });
  const { generation, computing, applying, draining, pulling } = life;
  setLife(turn, { ...beginTakingPart(generation), computing, applying, draining, pulling });
}

/**
 * Does what the replica can do next: load, take in the next committed step, tell that it has caught up,
 * wait for work. Asking twice changes nothing.
 */
function advance(turn: Turn, before: TakingPart): void {
  let life = before;
  const { replica, backlog } = life;
  const isBusy = life.applying !== null || life.computing !== null;
  if (replica.kind === 'loading' && !replica.started && !isBusy) {
    life = change(turn, life, { replica: { ...replica, started: true } });
    turn.effects.push({ type: 'loadState', step: replica.step, source: replica.source });
  }
  const [next] = backlog;
  if (replica.kind === 'held' && next !== undefined && !isBusy) {
    life = apply(turn, change(turn, life, { backlog: backlog.slice(1) }), next);
  }
  if (life.reduction !== null && life.reduction.gradientDigest !== null && !life.reduction.voted) {
    life = vote(turn, life);
  }
  if (!canCompute(life)) return;
  if (!life.announced && replica.kind === 'held' && replica.step === life.committedStep) {
    life = change(turn, life, { announced: true });
    say(turn, { type: 'ready', parametersDigest: replica.parametersDigest });
  }
  const isIdle = life.computing === null && ![...life.jobs.values()].some(({ status }) => status === 'asked');
  if (life.announced && isIdle && !life.pulling) {
    change(turn, life, { pulling: true });
    turn.effects.push({ type: 'pullJob' });
  }
}

/** Whether the replica is at the newest step, or will be once the compute thread has come to what is next. */
function canCompute({ replica, backlog, applying, committedStep, draining }: TakingPart): boolean {
  if (replica.kind !== 'held' || backlog.length > 0 || draining) return false;
  return (applying?.step ?? replica.step) === committedStep;
}

function apply(turn: Turn, life: TakingPart, update: Update): TakingPart {
  turn.effects.push({ type: 'apply', update });
  return change(turn, life, { applying: update });
}

function onApplied(turn: Turn, life: TakingPart, event: Extract<WorkEvent, { type: 'applied' }>): void {
  if (life.applying?.step !== event.step) return;
  const { step, parametersDigest } = event;
  let now = change(turn, life, { applying: null });
  // Of one that was quarantined meanwhile nothing is left to bring up to date.
  if (life.replica.kind === 'held') {
    now = change(turn, now, { replica: { kind: 'held', step, parametersDigest } });
  }
  const { snapshot, heldOrder } = now;
  if (snapshot !== null && snapshot.step === step) {
    now = change(turn, now, { snapshot: null });
    turn.effects.push({ type: 'upload', order: snapshot, parametersDigest });
  }
  if (heldOrder !== null && !holdsPlace(now)) now = startReduction(turn, now, heldOrder);
  advance(turn, now);
}

// ---- the step -----------------------------------------------------------------------------------

/** Whether a message about this step is about the one under way; to a newcomer any is. */
function isNext({ committedStep }: TakingPart, step: number): boolean {
  return committedStep === null || step === committedStep + 1;
}

/** Whether a gradient still lies where the next one would be reduced. */
function holdsPlace({ applying, backlog }: TakingPart): boolean {
  const isInPlace = (update: Update | undefined) => update?.kind === 'apply' && update.from === 'reduced';
  return (applying !== null && isInPlace(applying)) || isInPlace(backlog[0]);
}

function onGranted(turn: Turn, life: TakingPart, id: string, first: number): void {
  const held = life.jobs.get(id);
  if (held === undefined || held.status !== 'asked') return;
  const job = { ...held.job, first };
  if (!canCompute(life) || job.step !== (life.committedStep ?? 0) + 1) {
    advance(turn, returnJob(turn, life, id, job));
    return;
  }
  const jobs = new Map(life.jobs).set(id, { ...held, job, status: 'granted' as const });
  change(turn, life, { jobs, computing: id });
  turn.effects.push({ type: 'compute', id, job });
}

function startReduction(turn: Turn, life: TakingPart, order: ReduceOrder): TakingPart {
  if (life.reduction !== null) turn.effects.push({ type: 'abortReduction' });
  const { generation, step, attempt } = order;
  const reduction = { generation, step, attempt, gradientDigest: null, voted: false };
  turn.effects.push({ type: 'startReduction', order });
  return change(turn, life, { heldOrder: null, reduction });
}

/** Votes for what was reduced, unless there is no room to keep it until the replica has caught up. */
function vote(turn: Turn, life: TakingPart): TakingPart {
  const { reduction, replica, backlog } = life;
  if (reduction === null || reduction.gradientDigest === null || reduction.voted) return life;
  if (backlog.length >= turn.state.settings.backlogMax) return life;
  const { generation, step, attempt, gradientDigest } = reduction;
  const isCurrent = replica.kind === 'held' && replica.step === step - 1;
  const parametersDigest = isCurrent ? replica.parametersDigest : null;
  turn.effects.push({
    type: 'vote',
    message: { type: 'vote', generation, step, attempt, parametersDigest, gradientDigest },
  });
  return change(turn, life, { reduction: { ...reduction, voted: true } });
}

function onCommit(turn: Turn, life: TakingPart, message: Extract<Order, { type: 'commit' }>): void {
  // Only an attempt this worker voted for can commit; anything else is a late or foreign verdict.
  if (life.reduction?.voted !== true || life.reduction.step !== message.step) return;
  const { step, tokens, learningRate } = message;
  turn.effects.push({ type: 'committed', step });
  const { replica, backlog, applying, computing } = life;
  const isFree = backlog.length === 0 && applying === null && computing === null;
  const from = replica.kind === 'held' && isFree ? 'reduced' : 'setAside';
  if (from === 'setAside') turn.effects.push({ type: 'setAside', step });
  takeIn(turn, life, { kind: 'apply', step, tokens, learningRate, from });
}

function onSkip(turn: Turn, life: TakingPart, step: number): void {
  if (!isNext(life, step)) return;
  for (const [id, { status }] of life.jobs) {
    if (status === 'granted') turn.effects.push({ type: 'limitJob', id, first: 0 });
  }
  if (life.reduction !== null) turn.effects.push({ type: 'abortReduction' });
  turn.effects.push({ type: 'committed', step });
  takeIn(turn, life, { kind: 'skip', step });
}

/** A step is over: its jobs go, and the replica takes it in as soon as it can. */
function takeIn(turn: Turn, life: TakingPart, update: Update): void {
  const { step } = update;
  // A job that was asked for keeps its place until the answer comes, which has the next one pulled.
  const isOver = (held: HeldJob) => held.status !== 'asked' && held.job.step <= step;
  for (const [id, held] of life.jobs) if (isOver(held)) turn.effects.push({ type: 'releaseJob', id });
  const jobs = new Map([...life.jobs].filter(([, held]) => !isOver(held)));
  const backlog = [...life.backlog, update];
  advance(turn, change(turn, life, { committedStep: step, jobs, backlog, reduction: null, heldOrder: null }));
}

function isSame(
  a: { generation: number; attempt: number },
  b: { generation: number; attempt: number },
): boolean {
  return a.generation === b.generation && a.attempt === b.attempt;
}

/**
 * Hands a job back of which nothing was begun. Its place in the queue is kept until the step is over:
 * should the coordinator not hear of it, the job returns when the lock expires.
 */
function returnJob(turn: Turn, life: TakingPart, id: string, job: Job): TakingPart {
  say(turn, { type: 'handedBack', job: id, first: job.first }, { step: job.step });
  return change(turn, life, { jobs: new Map(life.jobs).set(id, { job, status: 'finished', numDone: 0 }) });
}

function dropJob(turn: Turn, life: TakingPart, id: string): TakingPart {
  const jobs = new Map(life.jobs);
  jobs.delete(id);
  turn.effects.push({ type: 'releaseJob', id });
  return change(turn, life, { jobs });
}
