/**
 * Plays the other side of the coordinator's machine, event by event, for tests that say exactly what
 * happens: workers by name, whose messages carry what the coordinator last told them. Keeps the effects
 * of the last event, and of all.
 */
import { PRESETS } from '../../src/config/index.ts';
import {
  type CoordinatorEffect,
  type CoordinatorEvent,
  type CoordinatorSettings,
  type CoordinatorState,
  initialState,
  transition,
} from '../../src/coordinator/index.ts';
import type { Failure } from '../../src/coordinator/state.ts';
import {
  type CoordinatorMessage,
  type HeldState,
  type Job,
  jobId,
  PROTOCOL_VERSION,
  type Said,
  type SlotResult,
  type WorkerMessage,
} from '../../src/protocol/index.ts';

export const SETTINGS: CoordinatorSettings = {
  run: 'run',
  totalSteps: 3,
  microBatches: 4,
  optimizer: PRESETS.tiny.optimizer,
  minWorkers: 1,
  mixedEngines: false,
  startsFromCheckpoint: false,
  checkpointEvery: 100,
  heartbeatLimitMs: 1000,
};
export const LAYOUT = [{ name: 'weight', shape: [10, 10] }];
/** So little that taking slots back never pays; tests about that take longer. */
const SLOT_MS = 1;
export const DIGEST_A = 'a'.repeat(32);
export const DIGEST_B = 'b'.repeat(32);
export const DIGEST_C = 'c'.repeat(32);

type Distribute<M> = M extends unknown ? Omit<M, 'generation' | 'step' | 'attempt'> : never;
/** A worker's message without what the script fills in. */
export type Spoken = Distribute<Said<WorkerMessage>>;
export interface About {
  readonly run?: string;
  readonly generation?: number;
  readonly step?: number | undefined;
  readonly attempt?: number | undefined;
}

export class CoordinatorScript {
  state: CoordinatorState;
  /** Effects of the last event. */
  effects: readonly CoordinatorEffect[] = [];
  readonly all: CoordinatorEffect[] = [];
  /** Jobs that were put into the queue and not taken since, oldest first. */
  readonly queue: Job[] = [];

  constructor(
    settings: Partial<CoordinatorSettings> = {},
    from: Partial<Parameters<typeof initialState>[1]> = {},
  ) {
    const { step = 0, recorded = new Map(), lastWorkers = [], layoutKey = null } = from;
    this.state = initialState({ ...SETTINGS, ...settings }, { step, recorded, lastWorkers, layoutKey });
  }

  event(event: CoordinatorEvent): readonly CoordinatorEffect[] {
    const { state, effects } = transition(this.state, event);
    this.state = state;
    this.effects = effects;
    this.all.push(...effects);
    for (const effect of effects) if (effect.type === 'enqueue') this.queue.push(...effect.jobs);
    return effects;
  }

  /** A message of a worker; about the step under way unless told otherwise. */
  say(from: string, message: Spoken, about: About = {}): readonly CoordinatorEffect[] {
    const { activity, generation, stateStep } = this.state;
    const isUnderWay = activity.phase === 'computing' || activity.phase === 'reducing';
    const envelope = {
      protocol: PROTOCOL_VERSION,
      run: this.state.settings.run,
      incarnation: from,
      generation,
      step: isUnderWay ? activity.ledger.step : stateStep,
      attempt: activity.phase === 'reducing' ? activity.attempt : 0,
      ...about,
    };
    // Envelope and spoken part make up the union's member that `message.type` names.
    return this.event({ type: 'messageArrived', message: { ...envelope, ...message } as WorkerMessage });
  }

  hello(name: string): readonly CoordinatorEffect[] {
    const peerEndpoint = `tcp://127.0.0.1:1/${name}`;
    return this.say(name, {
      ...{ type: 'hello', name, formerly: null, host: 'host', pid: 1 },
      ...{ peerEndpoint, peerMemory: null },
    });
  }

  prepared(name: string, layout = LAYOUT, held: HeldState | null = null): readonly CoordinatorEffect[] {
    return this.say(name, { type: 'prepared', device: 'cpu', engineVersion: '1', layout, held });
  }

  /** The process that was `formerly` this incarnation greets and has prepared, with what it has kept. */
  comeBack(incarnation: string, formerly: string, held: HeldState | null): readonly CoordinatorEffect[] {
    const name = formerly.split('/')[0]!;
    const peerEndpoint = `tcp://127.0.0.1:1/${incarnation}`;
    this.say(incarnation, {
      ...{ type: 'hello', name, formerly, host: 'host', pid: 1 },
      ...{ peerEndpoint, peerMemory: null },
    });
    return this.prepared(incarnation, LAYOUT, held);
  }

  ready(name: string, parametersDigest = DIGEST_A, about: About = {}): readonly CoordinatorEffect[] {
    return this.say(name, { type: 'ready', parametersDigest }, about);
  }

  /** Brings workers into the membership from hello to ready, side by side. */
  enter(...names: string[]): readonly CoordinatorEffect[] {
    for (const name of names) this.hello(name);
    for (const name of names) this.prepared(name);
    for (const name of names) this.ready(name);
    return this.effects;
  }

  lease(name: string, job: Job): readonly CoordinatorEffect[] {
    const { first, count } = job;
    return this.say(name, { type: 'leased', job: jobId(job), first, count });
  }

  compute(
    name: string,
    job: Job,
    results: readonly SlotResult[] = resultsOf(job),
    milliseconds = results.length * SLOT_MS,
  ): readonly CoordinatorEffect[] {
    return this.say(name, { type: 'computed', job: jobId(job), results: [...results], milliseconds });
  }

  handBack(name: string, job: Job, first: number): readonly CoordinatorEffect[] {
    return this.say(name, { type: 'handedBack', job: jobId(job), first });
  }

  notFinite(name: string, about: About = {}): readonly CoordinatorEffect[] {
    return this.say(name, { type: 'notFinite', slot: 2, reason: 'loss is NaN' }, about);
  }

  /** The named workers take the jobs in the queue in turn and compute them. */
  computeAll(...names: string[]): readonly CoordinatorEffect[] {
    for (let turn = 0; this.queue.length > 0; turn += 1) {
      const name = names[turn % names.length]!;
      const job = this.queue.shift()!;
      this.lease(name, job);
      this.compute(name, job);
    }
    return this.effects;
  }

  vote(
    name: string,
    gradientDigest = DIGEST_B,
    parametersDigest: string | null = DIGEST_A,
    about: About = {},
  ) {
    return this.say(name, { type: 'vote', gradientDigest, parametersDigest, times: null }, about);
  }

  voteAll(...names: string[]): readonly CoordinatorEffect[] {
    for (const name of names) this.vote(name);
    return this.effects;
  }

  /** A whole step by these workers. */
  step(...names: string[]): readonly CoordinatorEffect[] {
    this.computeAll(...names);
    return this.voteAll(...names);
  }

  lose(name: string, reason = 'killed'): readonly CoordinatorEffect[] {
    return this.event({ type: 'connectionLost', incarnation: name, reason });
  }

  /** A sign of life; `hears` is whether the worker hears the coordinator. */
  heartbeat(name: string, hears = true): readonly CoordinatorEffect[] {
    const counts = { residentBytes: 1, engineBytes: null, sentBytes: 0, receivedBytes: 0 };
    return this.say(name, { type: 'heartbeat', ...counts, hears });
  }

  /** A worker has uploaded its part of the checkpoint in flight. */
  uploaded(name: string, about: About = {}, parametersDigest = DIGEST_A): readonly CoordinatorEffect[] {
    const { checkpoint } = this.state;
    return this.say(
      name,
      { type: 'uploaded', parametersDigest },
      { step: checkpoint?.step, attempt: checkpoint?.attempt, ...about },
    );
  }

  /** All parts of the checkpoint in flight come in, and it is stored. */
  store(): readonly CoordinatorEffect[] {
    const { step, pending } = this.state.checkpoint!;
    for (const name of pending) this.uploaded(name);
    return this.event({ type: 'checkpointStored', step });
  }

  tick(nowMs: number): readonly CoordinatorEffect[] {
    return this.event({ type: 'tick', nowMs });
  }

  uploadFailed(name: string, about: About = {}): readonly CoordinatorEffect[] {
    const { checkpoint } = this.state;
    const message = { type: 'uploadFailed', reason: 'refused' } as const;
    return this.say(name, message, { step: checkpoint?.step, attempt: checkpoint?.attempt, ...about });
  }

  /** What the last event had said to a worker, by type. */
  told<Type extends CoordinatorMessage['type']>(name: string, type: Type): ToldMessage<Type>[] {
    return toldIn(this.effects, name, type);
  }

  /** Events of the last notes. */
  get notes(): string[] {
    return this.effects.flatMap((effect) => (effect.type === 'note' ? [effect.event] : []));
  }

  /** The kinds of the last effects in order, messages as `type>worker`, notes left out. */
  get kinds(): string[] {
    return this.effects.flatMap((effect) => {
      if (effect.type === 'note') return [];
      if (effect.type === 'send') return [`${effect.message.type}>${effect.to}`];
      return [effect.type === 'welcome' ? `welcome>${effect.to}` : effect.type];
    });
  }

  get phase(): string {
    return this.state.activity.phase;
  }
}

type ToldMessage<Type> = Extract<Said<CoordinatorMessage>, { type: Type }>;

function toldIn<Type extends CoordinatorMessage['type']>(
  effects: readonly CoordinatorEffect[],
  name: string,
  type: Type,
): ToldMessage<Type>[] {
  return effects.flatMap((effect) =>
    effect.type === 'send' && effect.to === name && effect.message.type === type
      ? [effect.message as ToldMessage<Type>]
      : [],
  );
}

/** Why the run has ended, if it has failed just now. */
export function failureOf({ effects }: CoordinatorScript): Failure | null {
  const finish = effects.find(({ type }) => type === 'finish');
  return finish?.type === 'finish' && finish.outcome.kind === 'failed' ? finish.outcome.failure : null;
}

export function slotsOf(jobs: readonly Job[]): number[] {
  return jobs
    .flatMap(({ first, count }) => Array.from({ length: count }, (_, place) => first + place))
    .sort((a, b) => a - b);
}

/** What computing a job would give: each slot its own numbers. */
export function resultsOf({ first, count }: { first: number; count: number }): SlotResult[] {
  return Array.from({ length: count }, (_, place) => {
    const slot = first + place;
    return { slot, tokens: 10 + slot, lossSum: (slot + 1) / 3 };
  });
}
