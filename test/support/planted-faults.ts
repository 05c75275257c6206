/**
 * The protocol with one fault planted: the real parts, one of them wrapped so that it breaks a rule. A
 * simulator that does not find each of these within a few schedules would not find a real one either.
 */
import type { AllReduceEffect } from '../../src/collective/index.ts';
import { type CoordinatorEffect, type CoordinatorState, members } from '../../src/coordinator/index.ts';
import type { WorkerMessage } from '../../src/protocol/index.ts';
import { type Parts, REAL_PARTS } from '../../src/simulator/index.ts';

type Vote = Extract<WorkerMessage, { type: 'vote' }>;
type Coordinate = Parts['coordinate'];

const { coordinate, live, reduce, synced } = REAL_PARTS;

/** The coordinator's machine, with what it hears changed on the way in. */
function hearing(change: (message: WorkerMessage, state: CoordinatorState) => WorkerMessage): Coordinate {
  return (state, event) =>
    coordinate(
      state,
      event.type === 'messageArrived' ? { ...event, message: change(event.message, state) } : event,
    );
}

/** The coordinator's machine, with each effect changed on the way out. */
function deciding(
  change: (effect: CoordinatorEffect, all: readonly CoordinatorEffect[]) => readonly CoordinatorEffect[],
): Coordinate {
  return (state, event) => {
    const next = coordinate(state, event);
    return { ...next, effects: next.effects.flatMap((effect) => change(effect, next.effects)) };
  };
}

/** Votes of every member, as soon as one of them has voted. */
const hurriedVotes: Coordinate = (state, event) => {
  const first = coordinate(state, event);
  const vote = event.type === 'messageArrived' && event.message.type === 'vote' ? event.message : null;
  const { activity } = first.state;
  if (vote === null || activity.phase !== 'reducing' || activity.votes.size === 0) return first;
  let next = first;
  const effects = [...first.effects];
  for (const { incarnation } of members(first.state)) {
    const message: Vote = { ...vote, incarnation };
    next = coordinate(next.state, { type: 'messageArrived', message });
    effects.push(...next.effects);
  }
  return { state: next.state, effects };
};

/** The all-reduce machine, with each effect changed on the way out. */
function reducing(change: (effect: AllReduceEffect) => readonly AllReduceEffect[]): Parts['reduce'] {
  return (config) => {
    const machine = reduce(config);
    return {
      get awaited() {
        return machine.awaited;
      },
      step: (event) => machine.step(event).flatMap(change),
    };
  };
}

/** By what is wrong with it. */
export const PLANTED_FAULTS: Readonly<Record<string, Partial<Parts>>> = {
  'the coordinator counts a vote of an older generation or attempt': {
    coordinate: hearing((message, { activity, generation }) =>
      message.type === 'vote' && activity.phase === 'reducing' && message.step === activity.ledger.step
        ? { ...message, generation, attempt: activity.attempt }
        : message,
    ),
  },
  'the coordinator commits before all votes are in': { coordinate: hurriedVotes },
  'the coordinator counts an upload for an older try at a checkpoint': {
    coordinate: hearing((message, { checkpoint }) =>
      message.type === 'uploaded' && checkpoint !== null
        ? { ...message, step: checkpoint.step, attempt: checkpoint.attempt }
        : message,
    ),
  },
  'the coordinator announces a commit before it is in the log': {
    coordinate: deciding((effect, effects) => {
      if (effect.type === 'appendCommit') return [];
      const append = effects.find(({ type }) => type === 'appendCommit');
      return effect === effects.at(-1) && append !== undefined ? [effect, append] : [effect];
    }),
  },
  'the coordinator grants a range to two workers': {
    coordinate: deciding((effect) => {
      if (effect.type !== 'send' || effect.message.type !== 'denied') return [effect];
      const { reason, ...message } = effect.message;
      return reason === 'another worker holds the job'
        ? [{ ...effect, message: { ...message, type: 'granted' } }]
        : [effect];
    }),
  },
  'the coordinator neither fills a queue that was emptied nor plans anew what nobody claims': {
    coordinate: (state, event) => {
      const next = coordinate(state, event);
      if (event.type !== 'queueEmptied' && event.type !== 'tick') return next;
      return { ...next, effects: next.effects.filter(({ type }) => type !== 'enqueue') };
    },
  },
  'the coordinator never misses a silent worker': {
    coordinate: (state, event) => coordinate(state, event.type === 'tick' ? { ...event, nowMs: 0 } : event),
  },
  'the commit log is not synced': { synced: { ...synced, log: false } },
  'a checkpoint is not synced before its name is': { synced: { ...synced, checkpoint: false } },
  'a worker votes although its reduction has failed': {
    live: (state, event) => {
      const { life } = state;
      if (event.type !== 'reductionFailed' || life.phase !== 'active') return live(state, event);
      return live(state, { ...event, type: 'reductionFinished', gradientDigest: '0'.repeat(32) });
    },
  },
  'a worker reduces while it applies an update': {
    live: (state, event) => {
      const { life } = state;
      if (event.type !== 'messageArrived' || event.message.type !== 'reduce' || life.phase !== 'active')
        return live(state, event);
      return live({ ...state, life: { ...life, applying: false } }, event);
    },
  },
  'a worker computes what it was denied': {
    live: (state, event) =>
      event.type === 'messageArrived' && event.message.type === 'denied'
        ? live(state, { ...event, message: { ...event.message, type: 'granted' } })
        : live(state, event),
  },
  'the sum counts a slot twice': {
    // What a rank holds itself lies still, so that it can come in once more when the sum is made.
    reduce: reducing((effect) =>
      effect.type === 'add' && effect.right.kind === 'local'
        ? [effect, { ...effect, left: effect.into }]
        : [effect],
    ),
  },
  'the sum leaves a slot out': {
    reduce: reducing((effect) => [effect.type === 'add' ? { ...effect, right: effect.left } : effect]),
  },
  'a piece that has arrived is not taken in': {
    reduce: reducing((effect) => (effect.type === 'storeReduced' ? [] : [effect])),
  },
};
