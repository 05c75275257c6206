/**
 * The protocol with one fault planted: the real parts, one of them wrapped so that it breaks a rule. A
 * simulator that does not find each of these within a few schedules would not find a real one either.
 */
import type { AllReduceEffect } from '../../src/collective/index.ts';
import { type CoordinatorEffect, type CoordinatorState, members } from '../../src/coordinator/index.ts';
import { type CoordinatorMessage, PROTOCOL_VERSION, type WorkerMessage } from '../../src/protocol/index.ts';
import { type Parts, REAL_PARTS } from '../../src/simulator/index.ts';
import type { LifecycleEffect, LifecycleEvent, LifecycleState } from '../../src/worker/index.ts';

type Vote = Extract<WorkerMessage, { type: 'vote' }>;
type Coordinate = Parts['coordinate'];

const { coordinate, live, reduce, synced } = REAL_PARTS;

/** The coordinator's machine, with what it hears changed on the way in. */
/** The first slot of the range that the plan gave this job. */
function rangeNamedBy(job: string): number {
  return Number(job.split('-').at(-2));
}

function hearing(change: (message: WorkerMessage, state: CoordinatorState) => WorkerMessage): Coordinate {
  return (state, event) =>
    coordinate(
      state,
      event.type === 'messageArrived' ? { ...event, message: change(event.message, state) } : event,
    );
}

/** Takes every request to hand slots back for answered. */
const hastyTakeBack: Coordinate = (state, event) => {
  let next = coordinate(state, event);
  const effects = [...next.effects];
  for (const effect of next.effects) {
    if (effect.type !== 'send' || effect.message.type !== 'takeBack') continue;
    const { to: incarnation, message } = effect;
    const envelope = { protocol: PROTOCOL_VERSION, run: state.settings.run, incarnation } as const;
    const answer: WorkerMessage = { ...message, ...envelope, type: 'handedBack' };
    next = coordinate(next.state, { type: 'messageArrived', message: answer });
    effects.push(...next.effects);
  }
  return { state: next.state, effects };
};

/** The coordinator's machine, with each effect changed on the way out. */
function deciding(
  change: (effect: CoordinatorEffect, all: readonly CoordinatorEffect[]) => readonly CoordinatorEffect[],
): Coordinate {
  return (state, event) => {
    const next = coordinate(state, event);
    return { ...next, effects: next.effects.flatMap((effect) => change(effect, next.effects)) };
  };
}

/** Moves what goes to the log behind everything else. */
function appendedLast(type: 'appendCommit' | 'appendSkipped') {
  return (effect: CoordinatorEffect, all: readonly CoordinatorEffect[]) => {
    if (effect.type === type) return [];
    const append = all.find((other) => other.type === type);
    return effect === all.at(-1) && append !== undefined ? [effect, append] : [effect];
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

type Live = Parts['live'];
type TakingPart = Extract<LifecycleState['life'], { phase: 'takingPart' }>;

/** The worker's machine, with what it knows of its part changed before it hears of an event. */
function taking(change: (life: TakingPart, event: LifecycleEvent) => TakingPart): Live {
  return (state, event) => {
    const { life } = state;
    return live(life.phase === 'takingPart' ? { ...state, life: change(life, event) } : state, event);
  };
}

/** The worker's machine, with what the coordinator says changed on the way in. */
function told(change: (message: CoordinatorMessage) => CoordinatorMessage): Live {
  return (state, event) =>
    live(state, event.type === 'messageArrived' ? { ...event, message: change(event.message) } : event);
}

/** The worker's machine, with each effect changed on the way out. */
function doing(change: (effect: LifecycleEffect, state: LifecycleState) => readonly LifecycleEffect[]): Live {
  return (state, event) => {
    const next = live(state, event);
    return { ...next, effects: next.effects.flatMap((effect) => change(effect, state)) };
  };
}

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
    coordinate: deciding(appendedLast('appendCommit')),
  },
  'the coordinator announces a skipped step before it is in the log': {
    coordinate: deciding(appendedLast('appendSkipped')),
  },
  'the coordinator grants a range to two workers': {
    coordinate: deciding((effect) => {
      if (effect.type !== 'send' || effect.message.type !== 'denied') return [effect];
      const { reason, ...message } = effect.message;
      return reason === 'another worker holds the job'
        ? [{ ...effect, message: { ...message, type: 'granted', first: rangeNamedBy(message.job) } }]
        : [effect];
    }),
  },
  'the coordinator does not tell members anew when they change': {
    coordinate: (state, event) => {
      const next = coordinate(state, event);
      const wasTold = (incarnation: string) => (state.workers.get(incarnation)?.membersTold ?? null) !== null;
      const isKept = (effect: CoordinatorEffect) =>
        effect.type !== 'send' || effect.message.type !== 'members' || !wasTold(effect.to);
      return { ...next, effects: next.effects.filter(isKept) };
    },
  },
  'a worker goes on with the members it was told first': {
    live: (state, event) => {
      const next = live(state, event);
      const [before, after] = [state.life, next.state.life];
      if (before.phase !== 'takingPart' || after.phase !== 'takingPart') return next;
      if (before.members === null || after.members === null) return next;
      const members = { ...after.members, inRankOrder: before.members.inRankOrder };
      return { ...next, state: { ...next.state, life: { ...after, members } } };
    },
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
      if (event.type !== 'reductionFailed') return live(state, event);
      return live(state, { ...event, type: 'reductionFinished', gradientDigest: '0'.repeat(32) });
    },
  },
  'a worker reduces while it applies an update': {
    live: taking((life, event) =>
      event.type === 'messageArrived' && event.message.type === 'reduce' ? { ...life, applying: null } : life,
    ),
  },
  'a worker computes what it was denied': {
    live: (state, event) =>
      event.type === 'messageArrived' && event.message.type === 'denied'
        ? live(state, {
            ...event,
            message: { ...event.message, type: 'granted', first: rangeNamedBy(event.message.job) },
          })
        : live(state, event),
  },
  'the coordinator plans slots anew that it has asked for, without waiting for the answer': {
    coordinate: hastyTakeBack,
  },
  'the coordinator lets the last that holds the state leave before it is stored': {
    coordinate: (state, event) => {
      const isDraining = event.type === 'messageArrived' && event.message.type === 'draining';
      if (!isDraining || members(state).length > 1) return coordinate(state, event);
      const { storedStep, stateStep } = state;
      const next = coordinate({ ...state, storedStep: stateStep }, event);
      return { ...next, state: { ...next.state, storedStep } };
    },
  },
  'the coordinator lets a follower go in the middle of a reduction': {
    coordinate: (state, event) => {
      const leaver = event.type === 'messageArrived' && event.message.type === 'draining' && event.message;
      const worker = leaver === false ? undefined : state.workers.get(leaver.incarnation);
      if (worker?.phase !== 'following' || state.activity.phase !== 'reducing')
        return coordinate(state, event);
      const workers = new Map(state.workers).set(worker.incarnation, { ...worker, phase: 'prepared' });
      const next = coordinate({ ...state, workers }, event);
      return { ...next, state: { ...next.state, generation: next.state.generation + 1 } };
    },
  },
  'the coordinator takes any state that a worker has kept for the newest': {
    coordinate: hearing((message, { stateStep, recorded }) =>
      message.type === 'prepared' && message.held !== null
        ? { ...message, held: { ...message.held, step: Math.max(stateStep, ...recorded.keys()) } }
        : message,
    ),
  },
  'the coordinator lets a quarantined replica go on with what it has': {
    coordinate: (state, event) => {
      const next = coordinate(state, event);
      const effects = next.effects.map((effect): CoordinatorEffect => {
        if (effect.type !== 'send' || effect.message.type !== 'enter') return effect;
        const { numQuarantines = 0 } = next.state.workers.get(effect.to) ?? {};
        if (numQuarantines === 0) return effect;
        return { ...effect, message: { ...effect.message, source: { kind: 'held' } } };
      });
      return { ...next, effects };
    },
  },
  'the coordinator does not compare the parameters that votes name': {
    coordinate: hearing((message, { activity }) => {
      if (message.type !== 'vote' || activity.phase !== 'reducing') return message;
      const [first] = activity.votes.values();
      return first === undefined ? message : { ...message, parametersDigest: first.parametersDigest };
    }),
  },
  'the coordinator stores parts of different parameters as one state': {
    coordinate: hearing((message, { checkpoint }) => {
      if (message.type !== 'uploaded' || checkpoint === null) return message;
      const [first] = checkpoint.digests.values();
      return first === undefined ? message : { ...message, parametersDigest: first };
    }),
  },
  'the coordinator does not mind a gap in the numbers of messages': {
    coordinate: (state, event) =>
      event.type === 'connectionLost' && event.reason === 'messages were lost'
        ? { state, effects: [] }
        : coordinate(state, event),
  },
  'a worker does not mind a gap in the numbers of messages': {
    live: (state, event) => (event.type === 'messagesLost' ? { state, effects: [] } : live(state, event)),
  },
  'a worker adds slots that it has handed back': {
    live: doing((effect) => {
      if (effect.type !== 'limitJob') return [effect];
      const { id: job, first } = effect;
      const place = { generation: 0, step: 0, attempt: 0 };
      return [{ type: 'send', message: { type: 'handedBack', ...place, job, first } }];
    }),
  },
  'a joiner enters without the gradients since its checkpoint': {
    live: (state, event) => {
      if (event.type !== 'messageArrived' || event.message.type !== 'enter') return live(state, event);
      const { source, step } = event.message;
      if (source.kind !== 'checkpoint') return live(state, event);
      const message = { ...event.message, source: { kind: 'checkpoint', step } as const };
      const next = live(state, { ...event, message });
      const effects = next.effects.map((effect) =>
        effect.type === 'loadState' ? { ...effect, step: source.step } : effect,
      );
      return { ...next, effects };
    },
  },
  'a worker that comes back does not apply the gradient it has voted for': {
    live: told((message) =>
      message.type === 'enter' && message.source.kind === 'pending'
        ? { ...message, source: { kind: 'held' } }
        : message,
    ),
  },
  'a worker votes although it has no room for another gradient': {
    live: (state, event) => live({ ...state, settings: { ...state.settings, backlogMax: 100 } }, event),
  },
  'a worker does not set a gradient aside for a replica that lags': {
    live: doing((effect) => (effect.type === 'setAside' ? [] : [effect])),
  },
  'some workers apply a step that is skipped': {
    live: doing((effect, { settings }) => {
      if (effect.type !== 'apply' || effect.update.kind !== 'skip') return [effect];
      if (!/[02468]$/.test(settings.incarnation)) return [effect];
      const { step } = effect.update;
      const update = { kind: 'apply', step, tokens: 1, learningRate: 0.5, from: 'reduced' } as const;
      return [{ ...effect, update }];
    }),
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
