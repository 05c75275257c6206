/**
 * A worker's life as its comm thread sees it, as a pure state machine: greet the coordinator, prepare,
 * take part, and go. What happens in between, step after step, is in taking-part.ts.
 *
 * Messages of another run, of an older generation or of a step that is not the one under way change
 * nothing; the driver counts them.
 */
import { unreachable } from '../base/index.ts';
import type { CoordinatorMessage, HeldState } from '../protocol/index.ts';
import type {
  LifecycleEffect,
  LifecycleEvent,
  LifecyclePhase,
  LifecycleSettings,
  LifecycleState,
} from './lifecycle-state.ts';
import { end, evicted, say, setLife, type Turn } from './lifecycle-turn.ts';
import { beginTakingPart, drain, onOrder, onWork } from './taking-part.ts';

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
    case 'messagesLost':
      evict(turn, 'messages of the coordinator were lost on the way');
      break;
    case 'configured': {
      const { coordinatorLimitMs } = event;
      turn.state = { ...state, settings: { ...state.settings, coordinatorLimitMs } };
      break;
    }
    case 'computePrepared':
      if (state.life.phase === 'preparing') {
        turn.state = { ...state, settings: { ...state.settings, backlogMax: event.backlogMax } };
        setLife(turn, { phase: 'prepared' });
        turn.effects.push({ type: 'sayPrepared' });
      }
      break;
    case 'drainRequested':
      onDrainRequested(turn);
      break;
    default:
      if (state.life.phase === 'takingPart') onWork(turn, state.life, event);
  }
  return turn;
}

/**
 * Whether the coordinator, which speaks several times within the limit, has not been heard for so long. One
 * that is deaf says so, and is missed like one that is gone, although on a link that is cut in one direction
 * only it can still be heard: it can be given nothing to do.
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
      if (life.phase !== 'greeting') evict(turn, message.reason);
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
    case 'drain':
      if (life.phase === 'takingPart') drain(turn, life);
      else leave(turn);
      return;
    case 'enter':
    case 'members':
    case 'skip':
      // The first of these makes a prepared worker take part.
      if (life.phase === 'prepared') onOrder(turn, beginTakingPart(message.generation), message);
      else if (life.phase === 'takingPart') onOrder(turn, life, message);
      return;
    case 'granted':
    case 'denied':
    case 'takeBack':
    case 'quarantined':
    case 'reduce':
    case 'abort':
    case 'commit':
    case 'snapshot':
      if (life.phase === 'takingPart') onOrder(turn, life, message);
      return;
    default:
      unreachable(message);
  }
}

/** The first time a polite way out; whoever asks again wants it now. */
function onDrainRequested(turn: Turn): void {
  const { life } = turn.state;
  if (life.phase === 'takingPart' && life.announced && !life.draining) drain(turn, life);
  else leave(turn);
}

function leave(turn: Turn): void {
  say(turn, { type: 'leaving', reason: 'asked to leave' });
  end(turn, { kind: 'stopped', reason: 'asked to leave' });
}

function evict(turn: Turn, reason: string): void {
  end(turn, evicted(turn, reason, pendingOf(turn.state.life)));
}

/** The reduced gradient that this worker has voted for, if it is the one its replica needs next. */
function pendingOf(life: LifecyclePhase): HeldState['pending'] {
  if (life.phase !== 'takingPart' || life.reduction === null) return null;
  const { step, voted, gradientDigest } = life.reduction;
  return voted && gradientDigest !== null ? { step, gradientDigest } : null;
}
