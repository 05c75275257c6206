/** Plays coordinator, queue and compute thread for one worker's lifecycle machine, event by event. */
import {
  type CoordinatorMessage,
  type Job,
  jobId,
  PROTOCOL_VERSION,
  type Said,
} from '../../src/protocol/index.ts';
import {
  initialLifecycle,
  type LifecycleEffect,
  type LifecycleEvent,
  type LifecycleState,
  transition,
} from '../../src/worker/lifecycle.ts';

type Distribute<M> = M extends unknown ? Omit<M, 'generation' | 'step' | 'attempt'> : never;
type Told = Distribute<Said<CoordinatorMessage>>;
interface About {
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

export class LifecycleScript {
  state: LifecycleState = initialLifecycle({
    incarnation: 'me',
    coordinatorLimitMs: 10_000,
    helloIntervalMs: 500,
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

  /** Up to the first job that is waited for, holding the state of `step`. */
  enter(step = 0): this {
    this.event({ type: 'tick', nowMs: 1 });
    this.told(WELCOME, { step });
    this.event({ type: 'computePrepared' });
    this.told({ type: 'enter', source: { kind: step === 0 ? 'initial' : 'checkpoint' } }, { step });
    this.event({ type: 'stateLoaded', parametersDigest: digestAt(step) });
    return this;
  }

  lease(job: Job): readonly LifecycleEffect[] {
    return this.event({ type: 'jobLeased', id: jobId(job), job });
  }

  /** A job from the queue to its results. */
  compute(job: Job): readonly LifecycleEffect[] {
    this.lease(job);
    this.told({ type: 'granted', job: jobId(job) }, { step: job.step });
    return this.event({ type: 'rangeComputed', job: jobId(job), results: [], milliseconds: 5 });
  }

  reduce(about: About = {}): readonly LifecycleEffect[] {
    const members = [{ incarnation: 'me', worker: 'worker-0', peerEndpoint: 'tcp://h:1' }];
    return this.told({ type: 'reduce', members, slotOwners: [0] }, about);
  }

  reduced(about: { generation?: number; attempt?: number } = {}): readonly LifecycleEffect[] {
    const gradientDigest = 'e'.repeat(32);
    return this.event({ type: 'reductionFinished', generation: 1, attempt: 1, gradientDigest, ...about });
  }

  commit(about: About = {}): readonly LifecycleEffect[] {
    return this.told({ type: 'commit', tokens: 7, learningRate: 0.5 }, about);
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
}

export function digestAt(step: number): string {
  return step.toString(16).padStart(32, '0');
}

export function jobOf(step: number, first = 0, count = 2): Job {
  return { run: 'run', generation: 1, step, plan: 0, first, count };
}
