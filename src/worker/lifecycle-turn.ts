/** One transition of a worker under way: the state so far, the effects so far, and verbs to write policy in. */
import type { HeldState, Said, Unplaced, WorkerMessage } from '../protocol/index.ts';
import type {
  Ending,
  LifecycleEffect,
  LifecyclePhase,
  LifecycleState,
  TakingPart,
} from './lifecycle-state.ts';

export interface Turn {
  state: LifecycleState;
  readonly effects: LifecycleEffect[];
}

export function setLife(turn: Turn, life: LifecyclePhase): void {
  turn.state = { ...turn.state, life };
}

/** Changes a worker that takes part, and returns it as it is now. */
export function change(turn: Turn, life: TakingPart, changes: Partial<TakingPart>): TakingPart {
  const changed = { ...life, ...changes };
  setLife(turn, changed);
  return changed;
}

export function end(turn: Turn, ending: Ending): void {
  setLife(turn, { phase: 'ended' });
  turn.effects.push({ type: 'end', ending });
}

/** This incarnation is over; the process comes back as another. */
export function evicted({ state }: Turn, reason: string, pending: HeldState['pending']): Ending {
  const { incarnation, coordinatorLimitMs } = state.settings;
  return { kind: 'evicted', reason, incarnation, name: state.worker, pending, coordinatorLimitMs };
}

/** Speaks of the newest committed step unless told otherwise. */
export function say(
  turn: Turn,
  message: Unplaced<WorkerMessage>,
  about: { step?: number; attempt?: number } = {},
): void {
  const { life } = turn.state;
  const takesPart = life.phase === 'takingPart';
  const generation = takesPart ? life.generation : 0;
  const { step = takesPart ? (life.committedStep ?? 0) : 0, attempt = 0 } = about;
  // The three fields complete what the parameter's type leaves out of its union member.
  turn.effects.push({
    type: 'send',
    message: { ...message, generation, step, attempt } as Said<WorkerMessage>,
  });
}
