/** Plays coordinator, queue and compute thread for one worker's lifecycle machine, event by event. */
import {
  type CoordinatorMessage,
  type Job,
  jobId,
  type MemberAddress,
  PROTOCOL_VERSION,
  type Said,
} from '../../src/protocol/index.ts';
import { initialLifecycle, transition } from '../../src/worker/lifecycle.ts';
import type {
  LifecycleEffect,
  LifecycleEvent,
  LifecycleState,
  TakingPart,
} from '../../src/worker/lifecycle-state.ts';

type Distribute<M> = M extends unknown ? Omit<M, 'generation' | 'step' | 'attempt'> : never;
type Told = Distribute<Said<CoordinatorMessage>>;
export interface About {
  readonly generation?: number;
  readonly step?: number;
  readonly attempt?: number;
}

export const WELCOME: Extract<Told, { type: 'welcome' }> = {
  type: 'welcome',
  worker: 'worker-0',
  config: {},
  fingerprint: 'ab'.repeat(32),
  dataset: 'cd'.repeat(32),
  redisUrl: 'redis://h',
  queueName: 'q',
  httpUrl: 'http://h',
};

export const MEMBER: MemberAddress = {
  ...{ incarnation: 'me', worker: 'worker-0', peerEndpoint: 'tcp://h:1', peerMemory: null },
};

/** Gradients that may wait for the replica. */
export const BACKLOG_MAX = 2;

export class LifecycleScript {
  state: LifecycleState = initialLifecycle({
    incarnation: 'me',
    coordinatorLimitMs: 10_000,
    helloIntervalMs: 500,
    backlogMax: 0,
  });
  /** Effects of the last event. */
  effects: readonly LifecycleEffect[] = [];

  event(event: LifecycleEvent): readonly LifecycleEffect[] {
    const { state, effects } = transition(this.state, event);
    this.state = state;
    this.effects = effects;
    return effects;
  }

  /** A message of the coordinator; of generation 1 and about step 1 unless told otherwise. */
  told(message: Told, about: About = {}): readonly LifecycleEffect[] {
    const envelope = { protocol: PROTOCOL_VERSION, run: 'run', incarnation: 'coordinator' };
    const position = { generation: 1, step: 1, attempt: 1, ...about };
    // Envelope, position and what is told make up the union's member that `message.type` names.
    return this.event({
      type: 'messageArrived',
      message: { ...envelope, ...position, ...message } as CoordinatorMessage,
    });
  }

  /** Welcomed and prepared: the next order makes it take part. */
  prepare(): this {
    this.event({ type: 'tick', nowMs: 1 });
    this.told(WELCOME, { step: 0 });
    this.event({ type: 'computePrepared', backlogMax: BACKLOG_MAX });
    return this;
  }

  /** Up to the first job that is waited for, holding the state of `step`. */
  enter(step = 0): this {
    this.prepare();
    this.sendIn(step);
    this.event({ type: 'stateLoaded', parametersDigest: digestAt(step) });
    return this;
  }

  /** Told to load the state of `step` while the run stands at `committedStep`. */
  sendIn(step: number, committedStep = step): readonly LifecycleEffect[] {
    const source = step === 0 ? ({ kind: 'initial' } as const) : ({ kind: 'checkpoint', step } as const);
    return this.told({ type: 'enter', source }, { step: committedStep });
  }

  lease(job: Job): readonly LifecycleEffect[] {
    return this.event({ type: 'jobLeased', id: jobId(job), job });
  }

  /** A job that was asked for and granted: the compute thread is at it. */
  begin(job: Job): readonly LifecycleEffect[] {
    this.lease(job);
    return this.told({ type: 'granted', job: jobId(job), first: job.first }, { step: job.step });
  }

  slot(job: Job, slot: number): readonly LifecycleEffect[] {
    const result = { slot, tokens: 3, lossSum: 1.5 };
    return this.event({ type: 'slotComputed', job: jobId(job), result, milliseconds: 9 });
  }

  ended(job: Job): readonly LifecycleEffect[] {
    return this.event({ type: 'rangeEnded', job: jobId(job) });
  }

  /** A job from the queue to its last result. */
  compute(job: Job): readonly LifecycleEffect[] {
    this.begin(job);
    for (let slot = job.first; slot < job.first + job.count; slot += 1) this.slot(job, slot);
    return this.ended(job);
  }

  /** The members of the generation, whom the coordinator tells before its first order, and the order. */
  reduce(about: About = {}): readonly LifecycleEffect[] {
    this.told({ type: 'members', members: [MEMBER] }, about);
    return this.told({ type: 'reduce', slotOwners: [0] }, about);
  }

  reduced(about: { generation?: number; attempt?: number } = {}): readonly LifecycleEffect[] {
    const gradientDigest = 'e'.repeat(32);
    return this.event({ type: 'reductionFinished', generation: 1, attempt: 1, gradientDigest, ...about });
  }

  commit(about: About = {}): readonly LifecycleEffect[] {
    return this.told({ type: 'commit', tokens: 7, learningRate: 0.5 }, about);
  }

  /** A reduction of `step` from the order to the commit, without a slot of its own. */
  take(step: number): readonly LifecycleEffect[] {
    this.reduce({ step });
    this.reduced();
    return this.commit({ step });
  }

  skip(about: About = {}): readonly LifecycleEffect[] {
    return this.told({ type: 'skip', reason: 'a gradient is not finite' }, about);
  }

  applied(step: number): readonly LifecycleEffect[] {
    return this.event({ type: 'applied', step, parametersDigest: digestAt(step) });
  }

  /** The kinds of the last effects in order; what is sent as `send:type`. */
  get kinds(): string[] {
    return this.effects.map((effect) =>
      effect.type === 'send' ? `send:${effect.message.type}` : effect.type,
    );
  }

  get phase(): string {
    return this.state.life.phase;
  }

  get life(): TakingPart {
    const { life } = this.state;
    if (life.phase !== 'takingPart') throw new Error(`the worker is ${life.phase}`);
    return life;
  }
}

export function digestAt(step: number): string {
  return step.toString(16).padStart(32, '0');
}

export function jobOf(step: number, first = 0, count = 2): Job {
  return { run: 'run', generation: 1, step, plan: 0, first, count };
}
