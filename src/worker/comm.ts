/**
 * The comm thread's driver: sockets, job locks, heartbeats and the reduction around the machine of
 * lifecycle.ts. It keeps answering while the engine blocks the other thread. This file decides nothing
 * about the run; it carries effects out in order and feeds back what came of them.
 */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { performance } from 'node:perf_hooks';
import {
  assert,
  LockstepError,
  type Logger,
  messageOf,
  type ParameterLayout,
  SteadyClock,
  unreachable,
} from '../base/index.ts';
import { type Deadlines, deadlinesFrom, runConfigSchema } from '../config/index.ts';
import { createKernels, type Kernels } from '../kernels/index.ts';
import { ControlClient, Refusals } from '../net/index.ts';
import {
  type CoordinatorMessage,
  coordinatorMessageSchema,
  deriveKey,
  type Envelope,
  type PhaseTimes,
  PROTOCOL_VERSION,
} from '../protocol/index.ts';
import { checkRedis, JobConsumer } from '../queue/index.ts';
import type { TransferTarget } from './coordinator-http.ts';
import { GradientLinks } from './gradient-links.ts';
import {
  type Ending,
  initialLifecycle,
  type LifecycleEffect,
  type LifecycleEvent,
  type LifecycleState,
  transition,
  type UploadOrder,
} from './lifecycle.ts';
import { Reduction } from './reduction.ts';
import { downloadState, takeSnapshot, uploadSnapshot } from './state-transfer.ts';
import type { FromCompute, SharedFragment, SharedState, ToCompute } from './thread-messages.ts';

/** Until the coordinator's configuration is known; only for the first greeting. */
const FIRST_HEARTBEAT_LIMIT_MS = 2000;
const HELLO_INTERVAL_MS = 500;

export interface CommOptions {
  /** zeromq endpoint of the coordinator. */
  readonly coordinator: string;
  readonly token: string;
  readonly name: string | null;
  /** Interface to listen on for peers, and the address peers are told. */
  readonly host: string;
  readonly advertisedHost: string;
}

export interface CommPorts {
  readonly logger: Logger;
  toCompute(message: ToCompute): void;
  onEnded(ending: Ending): void;
}

type Welcome = Extract<CoordinatorMessage, { type: 'welcome' }>;

/** What a worker knows of its run once it was welcomed. */
interface Membership {
  readonly welcome: Welcome;
  readonly transfer: TransferTarget;
  readonly consumer: JobConsumer;
  readonly pieceFloats: number;
}

/** What the compute thread shares once it is prepared. */
interface SharedReplica {
  readonly layout: ParameterLayout;
  readonly device: string;
  readonly engineVersion: string;
  readonly state: SharedState;
}

export class CommThread {
  readonly #options: CommOptions;
  readonly #ports: CommPorts;
  readonly #incarnation = randomUUID();
  readonly #kernels: Kernels = createKernels();
  readonly #control: ControlClient<CoordinatorMessage>;
  readonly #links: GradientLinks;
  readonly #refusals: Refusals;
  #deadlines: Deadlines = deadlinesFrom(FIRST_HEARTBEAT_LIMIT_MS);
  #state: LifecycleState;
  /** The run's id from the welcome on. */
  #runId = '';
  #membership: Membership | null = null;
  #replica: SharedReplica | null = null;
  #fragments: readonly SharedFragment[] = [];
  /** The attempt under way, for a failure to send that comes back later. */
  #attempt = { generation: 0, attempt: 0 };
  #pulling = false;
  #timer: NodeJS.Timeout | null = null;
  readonly #clock = new SteadyClock(this.#deadlines.heartbeatIntervalMs, performance.now());
  #times = emptyTimes();
  #lastTimes: PhaseTimes | null = null;
  #reduceStartMs = 0;
  #voteMs = 0;
  #closed = false;

  static async start(options: CommOptions, ports: CommPorts): Promise<CommThread> {
    const key = deriveKey(options.token, 'frame');
    const refusals = new Refusals(ports.logger);
    // The socket listens before the object stands; nobody knows its address until the object says it.
    let comm: CommThread | null = null;
    const links = await GradientLinks.bind(options.host, key, {
      onRefused: (reason) => refusals.add(reason),
      onStalled: (reason) => comm?.failAttempt(reason),
      onBroken: (error) => comm?.endWith(error),
    });
    comm = new CommThread(options, ports, links, refusals, key);
    return comm;
  }

  private constructor(
    options: CommOptions,
    ports: CommPorts,
    links: GradientLinks,
    refusals: Refusals,
    key: Buffer,
  ) {
    this.#options = options;
    this.#ports = ports;
    this.#links = links;
    this.#refusals = refusals;
    this.#state = initialLifecycle({
      incarnation: this.#incarnation,
      coordinatorLimitMs: this.#deadlines.connectLimitMs,
      helloIntervalMs: HELLO_INTERVAL_MS,
    });
    this.#control = new ControlClient(options.coordinator, this.#incarnation, key, coordinatorMessageSchema, {
      onMessage: (message) => this.#post({ type: 'messageArrived', message }),
      onRefused: (reason) => this.#refusals.add(reason),
    });
    this.#setTimer();
    this.#tick();
  }

  /** What the compute thread says. */
  handle(message: Exclude<FromCompute, { type: 'failed' }>): void {
    switch (message.type) {
      case 'prepared':
        this.#replica = message;
        this.#post({ type: 'computePrepared' });
        return;
      case 'loaded':
        this.#post({ type: 'stateLoaded', parametersDigest: message.parametersDigest });
        return;
      case 'computed': {
        this.#fragments = message.fragments;
        const { job, results, milliseconds, dataMilliseconds } = message;
        this.#times.data += dataMilliseconds;
        this.#times.compute += milliseconds - dataMilliseconds;
        this.#post({ type: 'rangeComputed', job, results, milliseconds });
        return;
      }
      case 'notFinite': {
        const { step, slot, reason } = message;
        this.#post({ type: 'notFinite', step, slot, reason });
        return;
      }
      case 'applied':
        this.#times.optimizer = message.milliseconds;
        this.#lastTimes = this.#times;
        this.#times = emptyTimes();
        this.#post({ type: 'applied', step: message.step, parametersDigest: message.parametersDigest });
        return;
      default:
        unreachable(message);
    }
  }

  /** Leaves the run politely; the coordinator gives the slots to others. */
  drain(): void {
    this.#post({ type: 'drainRequested' });
  }

  /** The attempt under way cannot end here; the coordinator tries another. */
  failAttempt(reason: string): void {
    this.#post({ type: 'reductionFailed', ...this.#attempt, reason });
  }

  /** Ends the worker with what was thrown. */
  endWith(error: unknown): void {
    if (this.#closed) return;
    const code = error instanceof LockstepError ? error.code : 'UNEXPECTED';
    const reason = code === 'UNEXPECTED' && error instanceof Error ? (error.stack ?? '') : messageOf(error);
    this.#ports.onEnded({ kind: 'failed', code, reason });
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#links.close();
    this.#control.close();
    await this.#membership?.consumer.close();
  }

  #post(event: LifecycleEvent): void {
    if (this.#closed) return;
    const { state, effects } = transition(this.#state, event);
    this.#state = state;
    // Effects only start things here; whatever takes time comes back as an event of its own.
    for (const effect of effects) this.#carryOut(effect);
  }

  #carryOut(effect: LifecycleEffect): void {
    switch (effect.type) {
      case 'send':
        this.#send(effect.message);
        return;
      case 'sayHello':
        this.#sayHello();
        return;
      case 'prepare':
        this.#runId = effect.welcome.run;
        this.#run(() => this.#prepare(effect.welcome));
        return;
      case 'sayPrepared':
        this.#sayPrepared();
        return;
      case 'loadState':
        this.#run(() => this.#loadState(effect.step, effect.source));
        return;
      case 'pullJob':
        if (!this.#pulling) this.#run(() => this.#pullJob());
        return;
      case 'releaseJob':
        this.#run(() => this.#member().consumer.complete(effect.id));
        return;
      case 'compute': {
        const { step, first, count } = effect.job;
        this.#ports.toCompute({ type: 'compute', job: effect.id, step, first, count });
        return;
      }
      case 'startReduction':
        this.#startReduction(effect.order);
        return;
      case 'abortReduction':
        this.#links.abort();
        return;
      case 'vote':
        this.#voteMs = performance.now();
        this.#times.reduce = this.#voteMs - this.#reduceStartMs;
        this.#send({ ...effect.message, times: this.#lastTimes });
        return;
      case 'apply': {
        const { step, tokens, learningRate } = effect;
        this.#times.commit = performance.now() - this.#voteMs;
        this.#links.commit(step);
        this.#fragments = [];
        this.#ports.toCompute({ type: 'apply', step, tokens, learningRate });
        return;
      }
      case 'upload':
        this.#upload(effect.order);
        return;
      case 'end':
        this.#ports.onEnded(effect.ending);
        return;
      default:
        unreachable(effect);
    }
  }

  /** Starts something that takes time; a failure nobody foresaw ends the worker. */
  #run(task: () => Promise<void>): void {
    task().catch((error: unknown) => this.endWith(error));
  }

  #send(message: object): void {
    this.#control.send({ ...this.#envelope(), ...message });
  }

  #envelope(): Pick<Envelope, 'protocol' | 'run' | 'incarnation'> {
    return { protocol: PROTOCOL_VERSION, run: this.#runId, incarnation: this.#incarnation };
  }

  #sayHello(): void {
    this.#send({
      type: 'hello',
      generation: 0,
      step: 0,
      attempt: 0,
      name: this.#options.name,
      host: hostname(),
      pid: process.pid,
      peerEndpoint: `tcp://${this.#options.advertisedHost}:${this.#links.port}`,
    });
  }

  async #prepare(welcome: Welcome): Promise<void> {
    const parsed = runConfigSchema.safeParse(welcome.config);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      const field = issue?.path.join('.') ?? '';
      throw new LockstepError(
        'CONFIG_MISMATCH',
        `the coordinator's configuration cannot be used here (${field}: ${issue?.message}): run the same version on every host`,
      );
    }
    const config = parsed.data;
    this.#deadlines = deadlinesFrom(config.network.heartbeatLimitMs);
    this.#setTimer();
    this.#clock.changeInterval(this.#deadlines.heartbeatIntervalMs);
    this.#links.join(this.#runId, this.#deadlines.reductionSilenceMs);
    this.#post({ type: 'configured', coordinatorLimitMs: this.#deadlines.coordinatorLimitMs });
    await checkRedis(welcome.redisUrl, this.#deadlines.connectLimitMs);
    const consumer = await JobConsumer.open(
      welcome.redisUrl,
      welcome.queueName,
      this.#incarnation,
      this.#deadlines,
      (reason) => this.#ports.logger.warn('queueTrouble', { reason }),
    );
    this.#membership = {
      welcome,
      consumer,
      pieceFloats: config.network.pieceBytes / 4,
      transfer: {
        pieceLimitMs: this.#deadlines.coordinatorLimitMs,
        httpUrl: welcome.httpUrl,
        run: welcome.run,
        key: deriveKey(this.#options.token, 'http'),
      },
    };
    const { transfer } = this.#membership;
    this.#ports.toCompute({ type: 'prepare', config, datasetSha256: welcome.dataset, transfer });
  }

  #sayPrepared(): void {
    const { layout, device, engineVersion } = this.#shared();
    this.#send({
      type: 'prepared',
      generation: 0,
      step: 0,
      attempt: 0,
      device,
      engineVersion,
      layout: layout.map(({ name, shape }) => ({ name, shape: [...shape] })),
    });
  }

  async #loadState(step: number, source: 'initial' | 'checkpoint'): Promise<void> {
    if (source === 'initial') {
      this.#ports.toCompute({ type: 'initialize' });
      return;
    }
    try {
      await downloadState(this.#member().transfer, step, this.#shared().state);
      this.#ports.toCompute({ type: 'load' });
    } catch (error) {
      this.#post({ type: 'stateFailed', reason: messageOf(error) });
    }
  }

  async #pullJob(): Promise<void> {
    this.#pulling = true;
    const leased = await this.#member().consumer.next();
    this.#pulling = false;
    if (leased !== null) this.#post({ type: 'jobLeased', id: leased.id, job: leased.job });
  }

  #upload(order: UploadOrder): void {
    // Copied at once: the next update may begin as soon as this returns.
    const snapshot = takeSnapshot(this.#shared().state, order);
    this.#run(async () => {
      try {
        await uploadSnapshot(this.#member().transfer, snapshot);
        this.#post({ type: 'uploaded', order });
      } catch (error) {
        this.#post({ type: 'uploadFailed', order, reason: messageOf(error) });
      }
    });
  }

  // ---- the reduction ----------------------------------------------------------------------------

  #startReduction(order: Extract<CoordinatorMessage, { type: 'reduce' }>): void {
    const { pieceFloats } = this.#member();
    this.#reduceStartMs = performance.now();
    const { generation, attempt, step } = order;
    const reduction = new Reduction({
      order,
      incarnation: this.#incarnation,
      state: this.#shared().state,
      fragments: this.#fragments,
      kernels: this.#kernels,
      pieceFloats,
      senderTo: (endpoint) => this.#links.senderTo(endpoint),
      onFinished: (gradientDigest, allFinite) => {
        if (allFinite) this.#post({ type: 'reductionFinished', generation, attempt, gradientDigest });
        else this.#post({ type: 'notFinite', step, slot: null, reason: 'the summed gradient overflows' });
      },
      onFailed: (reason) => this.#post({ type: 'reductionFailed', generation, attempt, reason }),
      onRejected: (reason) => this.#refusals.add(reason),
    });
    this.#attempt = { generation, attempt };
    this.#links.begin(reduction);
  }

  #stateStep(): number {
    const { life } = this.#state;
    return life.phase === 'active' ? life.stateStep : 0;
  }

  // ---- time -------------------------------------------------------------------------------------

  #setTimer(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#tick(), this.#deadlines.heartbeatIntervalMs);
  }

  #tick(): void {
    const nowMs = this.#clock.tick(performance.now());
    this.#post({ type: 'tick', nowMs });
    this.#links.tick(nowMs);
    if (this.#runId === '' || this.#closed) return;
    const residentBytes = process.memoryUsage.rss();
    this.#send({ type: 'heartbeat', generation: 0, step: this.#stateStep(), attempt: 0, residentBytes });
  }

  #member(): Membership {
    assert(this.#membership !== null, 'the worker was welcomed');
    return this.#membership;
  }

  #shared(): SharedReplica {
    assert(this.#replica !== null, 'the compute thread is prepared');
    return this.#replica;
  }
}

function emptyTimes(): { -readonly [K in keyof PhaseTimes]: number } {
  return { data: 0, compute: 0, reduce: 0, commit: 0, optimizer: 0 };
}
