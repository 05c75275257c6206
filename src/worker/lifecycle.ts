/**
 * A worker's life as its comm thread sees it, as a pure state machine: greet the coordinator, prepare,
 * take the state, then lease, compute, reduce, vote and apply, step after step.
 *
 * Messages of another run, of an older generation or of a step that is not the one under way change
 * nothing; the driver counts them. The compute thread works through what it is told in order, so a
 * range granted while an update is being applied simply waits its turn there.
 */
import { type ErrorCode, unreachable } from '../base/index.ts';
import type {
  CoordinatorMessage,
  Job,
  Said,
  SlotResult,
  Unplaced,
  WorkerMessage,
} from '../protocol/index.ts';

type Welcome = Extract<CoordinatorMessage, { type: 'welcome' }>;
type Reduce = Extract<CoordinatorMessage, { type: 'reduce' }>;

export interface LifecycleSettings {
  readonly incarnation: string;
  /** How long a first answer, and any sign of life after it, may take. */
  readonly coordinatorLimitMs: number;
  readonly helloIntervalMs: number;
}

/** A part of the state for the checkpoint that `attempt` names. */
export interface UploadOrder {
  readonly step: number;
  readonly attempt: number;
  /** In floats, of every state vector. */
  readonly offset: number;
  readonly length: number;
}

interface HeldJob {
  readonly job: Job;
  readonly status: 'asked' | 'granted' | 'computed';
}

interface ActiveState {
  readonly phase: 'active';
  readonly generation: number;
  /** The committed step whose result this replica holds, or is about to hold once `applying` ends. */
  readonly stateStep: number;
  readonly applying: boolean;
  readonly parametersDigest: string;
  readonly jobs: ReadonlyMap<string, HeldJob>;
  readonly reduction: {
    readonly generation: number;
    readonly attempt: number;
    readonly voted: boolean;
  } | null;
  /**
   * An order to reduce the next step that came while an update is being applied: a worker without slots
   * may be asked to so early. The reduced vector is the compute thread's until it has answered.
   */
  readonly heldOrder: Reduce | null;
  /** A part of the state to upload as soon as the update of its step is applied. */
  readonly snapshot: UploadOrder | null;
}

export type LifecyclePhase =
  | { readonly phase: 'greeting'; readonly lastHelloMs: number | null }
  | { readonly phase: 'preparing' }
  | { readonly phase: 'prepared' }
  | { readonly phase: 'entering'; readonly step: number }
  | ActiveState
  | { readonly phase: 'ended' };

export interface LifecycleState {
  readonly settings: LifecycleSettings;
  readonly nowMs: number;
  readonly lastHeardMs: number;
  readonly worker: string | null;
  readonly life: LifecyclePhase;
}

export type LifecycleEvent =
  | { readonly type: 'tick'; readonly nowMs: number }
  | { readonly type: 'messageArrived'; readonly message: CoordinatorMessage }
  /** The run's own deadline takes the place of the one for greeting. */
  | { readonly type: 'configured'; readonly coordinatorLimitMs: number }
  | { readonly type: 'computePrepared' }
  | { readonly type: 'stateLoaded'; readonly parametersDigest: string }
  | { readonly type: 'stateFailed'; readonly reason: string }
  | { readonly type: 'jobLeased'; readonly id: string; readonly job: Job }
  | {
      readonly type: 'rangeComputed';
      readonly job: string;
      readonly results: readonly SlotResult[];
      readonly milliseconds: number;
    }
  | {
      readonly type: 'notFinite';
      readonly step: number;
      readonly slot: number | null;
      readonly reason: string;
    }
  | {
      readonly type: 'reductionFinished';
      readonly generation: number;
      readonly attempt: number;
      readonly gradientDigest: string;
    }
  | {
      readonly type: 'reductionFailed';
      readonly generation: number;
      readonly attempt: number;
      readonly reason: string;
    }
  | { readonly type: 'applied'; readonly step: number; readonly parametersDigest: string }
  | { readonly type: 'uploaded'; readonly order: UploadOrder }
  | { readonly type: 'uploadFailed'; readonly order: UploadOrder; readonly reason: string }
  | { readonly type: 'drainRequested' };

export type Ending =
  | { readonly kind: 'stopped'; readonly reason: string }
  /** Declared lost by a coordinator that goes on, or unknown to one that is new: come back as new. */
  | { readonly kind: 'evicted'; readonly reason: string }
  | { readonly kind: 'failed'; readonly code: ErrorCode | 'UNEXPECTED'; readonly reason: string };

export type LifecycleEffect =
  | { readonly type: 'send'; readonly message: Said<WorkerMessage> }
  /** The driver fills in host, process and addresses. */
  | { readonly type: 'sayHello' }
  | { readonly type: 'prepare'; readonly welcome: Welcome }
  /** The driver adds layout and device. */
  | { readonly type: 'sayPrepared' }
  | { readonly type: 'loadState'; readonly step: number; readonly source: 'initial' | 'checkpoint' }
  /** Wait for one job from the queue, unless a wait is under way already. */
  | { readonly type: 'pullJob' }
  | { readonly type: 'releaseJob'; readonly id: string }
  | { readonly type: 'compute'; readonly id: string; readonly job: Job }
  | { readonly type: 'startReduction'; readonly order: Reduce }
  | { readonly type: 'abortReduction' }
  /** The driver adds the times of the step before. */
  | { readonly type: 'vote'; readonly message: Omit<Extract<Said<WorkerMessage>, { type: 'vote' }>, 'times'> }
  | { readonly type: 'apply'; readonly step: number; readonly tokens: number; readonly learningRate: number }
  | { readonly type: 'upload'; readonly order: UploadOrder }
  | { readonly type: 'end'; readonly ending: Ending };

interface Turn {
  state: LifecycleState;
  readonly effects: LifecycleEffect[];
}

export function initialLifecycle(settings: LifecycleSettings): LifecycleState {
  return { settings, nowMs: 0, lastHeardMs: 0, worker: null, life: { phase: 'greeting', lastHelloMs: null } };
}

export function transition(
  state: LifecycleState,
  event: LifecycleEvent,
): { readonly state: LifecycleState; readonly effects: readonly LifecycleEffect[] } {
  if (state.life.phase === 'ended') return { state, effects: [] };
  const turn: Turn = { state, effects: [] };
  switch (event.type) {
    case 'tick':
      onTick(turn, event.nowMs);
      break;
    case 'messageArrived':
      turn.state = { ...state, lastHeardMs: state.nowMs };
      onMessage(turn, event.message);
      break;
    case 'configured': {
      const { coordinatorLimitMs } = event;
      turn.state = { ...state, settings: { ...state.settings, coordinatorLimitMs } };
      break;
    }
    case 'computePrepared':
      if (state.life.phase === 'preparing') {
        setLife(turn, { phase: 'prepared' });
        turn.effects.push({ type: 'sayPrepared' });
      }
      break;
    case 'stateLoaded':
      onStateLoaded(turn, event.parametersDigest);
      break;
    case 'stateFailed':
      end(turn, { kind: 'failed', code: 'COORDINATOR_LOST', reason: event.reason });
      break;
    case 'drainRequested':
      say(turn, { type: 'leaving', reason: 'asked to leave' });
      end(turn, { kind: 'stopped', reason: 'asked to leave' });
      break;
    default:
      if (state.life.phase === 'active') onWork(turn, state.life, event);
  }
  return turn;
}

/**
 * Whether the coordinator, which speaks several times within the limit, has not been heard for so long. Who
 * is deaf can be given nothing to do and says so, to be missed like one that is gone: on a link that is cut
 * in one direction only it may still be heard.
 */
export function isDeaf({ nowMs, lastHeardMs }: LifecycleState, heartbeatLimitMs: number): boolean {
  return nowMs - lastHeardMs > heartbeatLimitMs;
}

function onTick(turn: Turn, nowMs: number): void {
  turn.state = { ...turn.state, nowMs };
  const { life, settings, lastHeardMs } = turn.state;
  if (nowMs - lastHeardMs > settings.coordinatorLimitMs) {
    const reason = `the coordinator has not answered for ${Math.round((nowMs - lastHeardMs) / 1000)} s`;
    end(turn, { kind: 'failed', code: 'COORDINATOR_LOST', reason });
    return;
  }
  if (life.phase !== 'greeting') return;
  if (life.lastHelloMs !== null && nowMs - life.lastHelloMs < settings.helloIntervalMs) return;
  setLife(turn, { phase: 'greeting', lastHelloMs: nowMs });
  turn.effects.push({ type: 'sayHello' });
}

function onMessage(turn: Turn, message: CoordinatorMessage): void {
  const { life } = turn.state;
  switch (message.type) {
    case 'heartbeat':
      return;
    case 'evicted':
      // The answer to what was sent before the first welcome must not end a newcomer.
      if (life.phase !== 'greeting') end(turn, { kind: 'evicted', reason: message.reason });
      return;
    case 'refused':
      end(turn, { kind: 'failed', code: 'CONNECTION_REFUSED', reason: message.reason });
      return;
    case 'stop':
      end(turn, { kind: 'stopped', reason: message.reason });
      return;
    case 'welcome':
      if (life.phase !== 'greeting') return;
      turn.state = { ...turn.state, worker: message.worker, life: { phase: 'preparing' } };
      turn.effects.push({ type: 'prepare', welcome: message });
      return;
    case 'enter':
      if (life.phase !== 'prepared') return;
      setLife(turn, { phase: 'entering', step: message.step });
      turn.effects.push({ type: 'loadState', step: message.step, source: message.source.kind });
      return;
    case 'granted':
    case 'denied':
    case 'reduce':
    case 'abort':
    case 'commit':
    case 'snapshot':
      if (life.phase === 'active' && message.generation >= life.generation) {
        onOrder(turn, { ...life, generation: message.generation }, message);
      }
      return;
    default:
      unreachable(message);
  }
}

function onStateLoaded(turn: Turn, parametersDigest: string): void {
  const { life } = turn.state;
  if (life.phase !== 'entering') return;
  setLife(turn, {
    phase: 'active',
    generation: 0,
    stateStep: life.step,
    applying: false,
    parametersDigest,
    jobs: new Map(),
    reduction: null,
    heldOrder: null,
    snapshot: null,
  });
  say(turn, { type: 'ready', parametersDigest });
  turn.effects.push({ type: 'pullJob' });
}

type Order = Extract<
  CoordinatorMessage,
  { type: 'granted' | 'denied' | 'reduce' | 'abort' | 'commit' | 'snapshot' }
>;

function onOrder(turn: Turn, life: ActiveState, message: Order): void {
  setLife(turn, life);
  switch (message.type) {
    case 'granted': {
      const held = life.jobs.get(message.job);
      if (held === undefined || held.status !== 'asked' || held.job.step !== life.stateStep + 1) return;
      setLife(turn, { ...life, jobs: new Map(life.jobs).set(message.job, { ...held, status: 'granted' }) });
      turn.effects.push({ type: 'compute', id: message.job, job: held.job });
      return;
    }
    case 'denied':
      if (!life.jobs.has(message.job)) return;
      dropJob(turn, life, message.job);
      turn.effects.push({ type: 'pullJob' });
      return;
    case 'reduce':
      if (message.step !== life.stateStep + 1) return;
      if (life.applying) setLife(turn, { ...life, heldOrder: message });
      else startReduction(turn, life, message);
      return;
    case 'abort':
      if (message.step !== life.stateStep + 1) return;
      setLife(turn, { ...life, reduction: null, heldOrder: null });
      if (life.reduction !== null) turn.effects.push({ type: 'abortReduction' });
      return;
    case 'commit':
      onCommit(turn, life, message);
      return;
    case 'snapshot': {
      if (message.step !== life.stateStep) return;
      const { step, attempt, offset, length } = message;
      const order = { step, attempt, offset, length };
      if (life.applying) setLife(turn, { ...life, snapshot: order });
      else turn.effects.push({ type: 'upload', order });
      return;
    }
    default:
      unreachable(message);
  }
}

function startReduction(turn: Turn, life: ActiveState, order: Reduce): void {
  if (life.reduction !== null) turn.effects.push({ type: 'abortReduction' });
  const { generation, attempt } = order;
  setLife(turn, { ...life, heldOrder: null, reduction: { generation, attempt, voted: false } });
  turn.effects.push({ type: 'startReduction', order });
}

function onCommit(
  turn: Turn,
  life: ActiveState,
  message: Extract<CoordinatorMessage, { type: 'commit' }>,
): void {
  // Only an attempt this worker voted for can commit; anything else is a late or foreign verdict.
  if (life.reduction?.voted !== true || message.step !== life.stateStep + 1) return;
  const { step, tokens, learningRate } = message;
  // A job that was asked for keeps its place until the answer comes, which has the next one pulled.
  const isOver = (held: HeldJob) => held.status !== 'asked' && held.job.step <= step;
  for (const [id, held] of life.jobs) if (isOver(held)) turn.effects.push({ type: 'releaseJob', id });
  const jobs = new Map([...life.jobs].filter(([, held]) => !isOver(held)));
  setLife(turn, { ...life, stateStep: step, applying: true, jobs, reduction: null });
  turn.effects.push({ type: 'apply', step, tokens, learningRate });
}

type WorkEvent = Extract<
  LifecycleEvent,
  {
    type:
      | 'jobLeased'
      | 'rangeComputed'
      | 'notFinite'
      | 'reductionFinished'
      | 'reductionFailed'
      | 'applied'
      | 'uploaded'
      | 'uploadFailed';
  }
>;

function onWork(turn: Turn, life: ActiveState, event: WorkEvent): void {
  switch (event.type) {
    case 'jobLeased': {
      setLife(turn, { ...life, jobs: new Map(life.jobs).set(event.id, { job: event.job, status: 'asked' }) });
      const { first, count, step } = event.job;
      say(turn, { type: 'leased', job: event.id, first, count }, { step });
      return;
    }
    case 'rangeComputed': {
      const held = life.jobs.get(event.job);
      if (held === undefined || held.status !== 'granted') return;
      setLife(turn, { ...life, jobs: new Map(life.jobs).set(event.job, { ...held, status: 'computed' }) });
      const { results, milliseconds } = event;
      say(
        turn,
        { type: 'computed', job: event.job, results: [...results], milliseconds },
        { step: held.job.step },
      );
      turn.effects.push({ type: 'pullJob' });
      return;
    }
    case 'notFinite':
      say(turn, { type: 'notFinite', slot: event.slot, reason: event.reason }, { step: event.step });
      return;
    case 'reductionFinished': {
      if (!isCurrent(life, event)) return;
      setLife(turn, { ...life, reduction: { ...life.reduction!, voted: true } });
      const { generation, attempt, gradientDigest } = event;
      const { parametersDigest } = life;
      const step = life.stateStep + 1;
      const message = { type: 'vote', generation, step, attempt, parametersDigest, gradientDigest } as const;
      turn.effects.push({ type: 'vote', message });
      return;
    }
    case 'reductionFailed':
      if (!isCurrent(life, event)) return;
      say(turn, { type: 'reduceFailed', reason: event.reason }, { attempt: event.attempt });
      return;
    case 'applied': {
      const { snapshot, heldOrder } = life;
      const { parametersDigest } = event;
      const applied = { ...life, applying: false, parametersDigest, snapshot: null };
      setLife(turn, applied);
      if (snapshot !== null && snapshot.step === event.step)
        turn.effects.push({ type: 'upload', order: snapshot });
      if (heldOrder !== null) startReduction(turn, applied, heldOrder);
      return;
    }
    case 'uploaded':
      say(turn, { type: 'uploaded' }, event.order);
      return;
    case 'uploadFailed':
      say(turn, { type: 'uploadFailed', reason: event.reason }, event.order);
      return;
    default:
      unreachable(event);
  }
}

function isCurrent(life: ActiveState, event: { generation: number; attempt: number }): boolean {
  return life.reduction?.generation === event.generation && life.reduction.attempt === event.attempt;
}

function dropJob(turn: Turn, life: ActiveState, id: string): void {
  const jobs = new Map(life.jobs);
  jobs.delete(id);
  setLife(turn, { ...life, jobs });
  turn.effects.push({ type: 'releaseJob', id });
}

function setLife(turn: Turn, life: LifecyclePhase): void {
  turn.state = { ...turn.state, life };
}

function end(turn: Turn, ending: Ending): void {
  setLife(turn, { phase: 'ended' });
  turn.effects.push({ type: 'end', ending });
}

/** Speaks of the step under way unless told otherwise. */
function say(
  turn: Turn,
  message: Unplaced<WorkerMessage>,
  about: { step?: number; attempt?: number } = {},
): void {
  const { life } = turn.state;
  const generation = life.phase === 'active' ? life.generation : 0;
  const current = life.phase === 'active' ? life.stateStep : 0;
  const { step = current, attempt = 0 } = about;
  // The three fields complete what the parameter's type leaves out of its union member.
  turn.effects.push({
    type: 'send',
    message: { ...message, generation, step, attempt } as Said<WorkerMessage>,
  });
}
