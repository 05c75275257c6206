/**
 * One transition under way: a shallow draft of the state, the effects so far, and the small verbs
 * that all of the coordinator's policy is written in.
 */
import { assert, layoutSize } from '../base/index.ts';
import type { CoordinatorMessage, Said, Unplaced } from '../protocol/index.ts';
import { layoutOfKey } from './layout-key.ts';
import type { CoordinatorEffect, CoordinatorState, WorkerPhase, WorkerRecord } from './state.ts';
import type { Hand } from './take-back.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface Turn {
  readonly state: Mutable<CoordinatorState>;
  readonly effects: CoordinatorEffect[];
}

/** The workers that hold the state, by name, which does not change while a worker lives. */
export function members(state: CoordinatorState): WorkerRecord[] {
  return inPhases(state, ['member']);
}

/** All that take part in reductions, in rank order. */
export function participants(state: CoordinatorState): WorkerRecord[] {
  return inPhases(state, ['member', 'following']);
}

function inPhases(state: CoordinatorState, phases: readonly WorkerPhase[]): WorkerRecord[] {
  return [...state.workers.values()]
    .filter((worker) => phases.includes(worker.phase))
    .sort((a, b) => (a.worker < b.worker ? -1 : 1));
}

/** What the members can do; one whose speed was not measured yet counts as an average one. */
export function hands(state: CoordinatorState): Hand[] {
  const present = members(state);
  const known = present.flatMap((worker) => worker.speed ?? []);
  const average = known.length === 0 ? 1 : known.reduce((sum, speed) => sum + speed, 0) / known.length;
  return present.map(({ incarnation, speed, isDraining, isLagging }) => ({
    incarnation,
    speed: speed ?? average,
    takesSlots: !isDraining && !isLagging,
  }));
}

/** Whether a member is there that stays. */
export function hasHands(state: CoordinatorState): boolean {
  return members(state).some(({ isDraining }) => !isDraining);
}

/** Slots per second of those who take slots; of all members when nobody does just now. */
export function speeds(state: CoordinatorState): number[] {
  const all = hands(state);
  const taking = all.filter(({ takesSlots }) => takesSlots);
  return (taking.length === 0 ? all : taking).map(({ speed }) => speed);
}

export function layoutFloats(state: CoordinatorState): number {
  assert(state.layoutKey !== null, 'members have told their layout');
  return layoutSize(layoutOfKey(state.layoutKey));
}

export function updateWorker(turn: Turn, incarnation: string, change: Partial<WorkerRecord>): void {
  const worker = turn.state.workers.get(incarnation);
  if (worker === undefined) return;
  turn.state.workers = new Map(turn.state.workers).set(incarnation, { ...worker, ...change });
}

/** Says something about the step under way; `about` overrides for messages on a committed one. */
export function say(
  turn: Turn,
  to: string,
  message: Unplaced<CoordinatorMessage>,
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

/** Tells a worker for good that it cannot take part. */
export function refuse(turn: Turn, to: string, reason: string): void {
  say(turn, to, { type: 'refused', reason });
  note(turn, 'warn', 'workerRefused', { incarnation: to, reason });
}

export function note(
  turn: Turn,
  level: 'info' | 'warn' | 'error',
  event: string,
  fields: Record<string, unknown>,
): void {
  turn.effects.push({ type: 'note', level, event, fields });
}
