/**
 * The comm thread's driver: sockets, job locks, heartbeats and the reduction around the machine of
 * lifecycle.ts. It keeps answering while the engine blocks the other thread. This file decides nothing
 * about the run; it carries effects out in order and feeds back what came of them.
 */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { performance } from 'node:perf_hooks';
import { assert, LockstepError, type Logger, messageOf, SteadyClock, unreachable } from '../base/index.ts';
import { type Deadlines, deadlinesFrom, runConfigSchema } from '../config/index.ts';
import { createKernels, type Kernels } from '../kernels/index.ts';
import { ControlClient, GradientMemory, Refusals } from '../net/index.ts';
import {
  type CoordinatorMessage,
  coordinatorMessageSchema,
  deriveKey,
  type Envelope,
  type HeldState,
  type MemoryAddress,
  PROTOCOL_VERSION,
} from '../protocol/index.ts';
import { awaitRedis, JobConsumer } from '../queue/index.ts';
import { rerouted, type TransferTarget } from './coordinator-http.ts';
import { FragmentsAtHand } from './fragments-at-hand.ts';
import { GradientLinks } from './gradient-links.ts';
import { initialLifecycle, isDeaf, transition } from './lifecycle.ts';
import type {
  Ending,
  LifecycleEffect,
  LifecycleEvent,
  LifecycleState,
  ReduceOrder,
  Update,
  UploadOrder,
} from './lifecycle-state.ts';
import { Reduction } from './reduction.ts';
import { SendingRoom } from './sending-room.ts';
import { SetAside } from './set-aside.ts';
import { SlotGate } from './slot-gate.ts';
import { downloadState, takeSnapshot, uploadSnapshot } from './state-transfer.ts';
import { StepTimes } from './step-times.ts';
import type { FromCompute, Lent, SharedFragment, SharedState, ToCompute } from './thread-messages.ts';

/** Until the coordinator's configuration is known. */
const FIRST_HEARTBEAT_LIMIT_MS = 2000;
const HELLO_INTERVAL_MS = 500;

export interface CommOptions {
  /** zeromq endpoint of the coordinator. */
  readonly coordinator: string;
  readonly token: string;
  readonly name: string | null;
  /** Interface and port to listen on for peers; port 0 takes a free one. */
  readonly host: string;
  readonly port: number;
  /** What peers are told; port null is the one listened on. */
  readonly advertisedHost: string;
  readonly advertisedPort: number | null;
  /** HOST:PORT where this worker reaches Redis and the coordinator's HTTP side; null is where the coordinator says. */
  readonly redisVia: string | null;
  readonly httpVia: string | null;
  /** Where the compute thread leaves gradients for peers of this host; null where there is no such memory. */
  readonly memory: MemoryAddress | null;
  /** That long sums are shared with; null when there are none (kernels/host-threads.ts). */
  readonly helpers: SharedArrayBuffer | null;
  /** The incarnation that this process had before, or null. */
  readonly formerly: string | null;
  /** The reduced gradient that the comm thread before this one left in its place. */
  readonly pending: HeldState['pending'];
  /** How long the coordinator's first answer may take, as the incarnation before knew it; null for the first one. */
  readonly coordinatorLimitMs: number | null;
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
  readonly kernels: Kernels;
  readonly pieceFloats: number;
}

type Prepared = Omit<Extract<FromCompute, { type: 'prepared' }>, 'state'> & { readonly state: SharedState };

/** A job that the compute thread was given. */
interface GivenJob {
  readonly first: number;
  readonly gate: SlotGate;
}

export class CommThread {
  readonly #options: CommOptions;
  readonly #ports: CommPorts;
  readonly #incarnation = randomUUID();
  readonly #memory: GradientMemory;
  readonly #control: ControlClient<CoordinatorMessage>;
  readonly #links: GradientLinks;
  readonly #refusals: Refusals;
  #deadlines: Deadlines = deadlinesFrom(FIRST_HEARTBEAT_LIMIT_MS);
  #state: LifecycleState;
  /** The run's id from the welcome on. */
  #runId = '';
  #membership: Membership | null = null;
  #replica: Prepared | null = null;
  #setAside: SetAside | null = null;
  readonly #sendingRoom = new SendingRoom();
  readonly #givenJobs = new Map<string, GivenJob>();
  readonly #fragments = new FragmentsAtHand();
  /** The attempt under way, for a failure to send that comes back later. */
  #attempt = { generation: 0, attempt: 0 };
  #timer: NodeJS.Timeout | null = null;
  /** Of the state, under way; and what the compute thread is asked for meanwhile. */
  #copies = 0;
  readonly #waiting: ToCompute[] = [];
  readonly #clock = new SteadyClock(this.#deadlines.heartbeatIntervalMs, performance.now());
  readonly #times = new StepTimes();
  #engineBytes: number | null = null;
  /** Gives up transfers of the state that are under way: this thread lives as long as one does. */
  readonly #closing = new AbortController();

  static async start(options: CommOptions, ports: CommPorts): Promise<CommThread> {
    const key = deriveKey(options.token, 'frame');
    const refusals = new Refusals(ports.logger);
    // The socket listens before the object stands; nobody knows its address until the object says it.
    let comm: CommThread | null = null;
    const links = await GradientLinks.bind(options, key, {
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
    this.#memory = GradientMemory.of(options.memory);
    this.#ports = ports;
    this.#links = links;
    this.#refusals = refusals;
    this.#state = initialLifecycle({
      incarnation: this.#incarnation,
      coordinatorLimitMs: options.coordinatorLimitMs ?? this.#deadlines.connectLimitMs,
      helloIntervalMs: HELLO_INTERVAL_MS,
      backlogMax: 0,
    });
    this.#control = new ControlClient(options.coordinator, this.#incarnation, key, coordinatorMessageSchema, {
      onMessage: (message) => this.#post({ type: 'messageArrived', message }),
      onRefused: (reason) => this.#refusals.add(reason),
      onMessagesLost: () => this.#post({ type: 'messagesLost' }),
    });
    this.#setTimer();
    this.#tick();
  }

  /** What the compute thread says. */
  handle(message: Exclude<FromCompute, { type: 'failed' }>): void {
    switch (message.type) {
      case 'prepared':
        this.#replica = {
          ...message,
          state: {
            parameters: this.#memory.borrow(message.state.parameters),
            firstMoment: this.#memory.borrow(message.state.firstMoment),
            secondMoment: this.#memory.borrow(message.state.secondMoment),
            reduced: this.#memory.borrow(message.state.reduced),
            blockSums: message.state.blockSums,
          },
        };
        this.#setAside = new SetAside(this.#replica.state);
        this.#post({ type: 'computePrepared', backlogMax: this.#setAside.capacity });
        return;
      case 'loaded':
        this.#post({ type: 'stateLoaded', parametersDigest: message.parametersDigest });
        return;
      case 'slotComputed': {
        this.#takeFragments(message.fragments, message.areOnDevice);
        const { job, result, milliseconds, dataMilliseconds } = message;
        this.#times.computed(milliseconds, dataMilliseconds);
        this.#engineBytes = message.engineBytes;
        this.#post({ type: 'slotComputed', job, result, milliseconds });
        return;
      }
      case 'fragmentsHome':
        this.#takeFragments(message.fragments, false);
        return;
      case 'rangeEnded':
        this.#givenJobs.delete(message.job);
        this.#post({ type: 'rangeEnded', job: message.job });
        return;
      case 'notFinite': {
        const { step, slot, reason } = message;
        this.#post({ type: 'notFinite', step, slot, reason });
        return;
      }
      case 'applied':
        this.#setAside?.release(message.step);
        this.#times.applied(message.milliseconds);
        this.#post({ type: 'applied', step: message.step, parametersDigest: message.parametersDigest });
        return;
      default:
        unreachable(message);
    }
  }

  /** Leaves the run politely, the second time at once; the coordinator gives the slots to others. */
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
    this.#closing.abort();
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#refusals.tell();
    // Whatever the compute thread still works on is for nobody.
    for (const { gate } of this.#givenJobs.values()) gate.limit(0);
    this.#links.close();
    this.#control.close();
    await this.#membership?.consumer.close();
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
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
      case 'follow':
        this.#links.standAt(effect.step);
        return;
      case 'pullJob':
        this.#run(() => this.#pullJob());
        return;
      case 'releaseJob':
        this.#run(() => this.#member().consumer.complete(effect.id));
        return;
      case 'compute': {
        const { step, first, count } = effect.job;
        const gate = new SlotGate({ count });
        this.#givenJobs.set(effect.id, { first, gate });
        this.#toCompute({ type: 'compute', job: effect.id, step, first, count, gate: gate.shared });
        return;
      }
      case 'limitJob':
        this.#limitJob(effect.id, effect.first);
        return;
      case 'discardFragments':
        this.#fragments.forget();
        this.#toCompute({ type: 'discardFragments' });
        return;
      case 'startReduction':
        this.#startReduction(effect.order);
        return;
      case 'abortReduction':
        this.#fragments.cancel();
        this.#links.abort();
        return;
      case 'vote':
        this.#times.voted();
        this.#send({ ...effect.message, times: this.#times.last });
        return;
      case 'committed':
        this.#times.committed();
        this.#links.commit(effect.step);
        this.#fragments.forget();
        return;
      case 'setAside':
        this.#aside().add(effect.step);
        return;
      case 'keepSetAside':
        this.#aside().keep(effect.steps);
        return;
      case 'apply':
        this.#apply(effect.update);
        return;
      case 'upload':
        this.#upload(effect.order, effect.parametersDigest);
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
    const { advertisedHost, advertisedPort } = this.#options;
    this.#send({
      type: 'hello',
      generation: 0,
      step: 0,
      attempt: 0,
      name: this.#options.name,
      formerly: this.#options.formerly,
      host: hostname(),
      pid: process.pid,
      peerEndpoint: `tcp://${advertisedHost}:${advertisedPort ?? this.#links.port}`,
      peerMemory: this.#memory.address,
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
    const { redisVia, httpVia } = this.#options;
    const redisUrl = rerouted(welcome.redisUrl, redisVia);
    // One that was in the run before could reach it then: if it cannot now, that may pass, as a coordinator's absence may.
    const { connectLimitMs, coordinatorLimitMs } = this.#deadlines;
    const limitMs = this.#options.formerly === null ? connectLimitMs : coordinatorLimitMs;
    await awaitRedis(redisUrl, limitMs, this.#closing.signal);
    const consumer = await JobConsumer.open(
      redisUrl,
      welcome.queueName,
      this.#incarnation,
      this.#deadlines,
      (reason) => this.#ports.logger.warn('queueTrouble', { reason }),
    );
    if (this.#closed) {
      // Evicted meanwhile. Left open, it would keep this thread alive, for whose end the next incarnation waits.
      await consumer.close();
      return;
    }
    this.#membership = {
      welcome,
      consumer,
      kernels: createKernels(config.gradientPrecision, this.#options.helpers),
      pieceFloats: config.network.pieceBytes / 4,
      transfer: {
        pieceLimitMs: this.#deadlines.coordinatorLimitMs,
        httpUrl: rerouted(welcome.httpUrl, httpVia).replace(/\/$/, ''),
        run: welcome.run,
        key: deriveKey(this.#options.token, 'http'),
      },
    };
    const { transfer } = this.#membership;
    this.#toCompute({ type: 'prepare', config, datasetSha256: welcome.dataset, transfer });
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
      held: this.#held(),
    });
  }

  /** What this process has kept of the run from before its connection was lost. */
  #held(): HeldState | null {
    const { held } = this.#shared();
    if (held === null) return null;
    const { pending } = this.#options;
    return { ...held, pending: pending?.step === held.step + 1 ? pending : null };
  }

  async #loadState(step: number, source: 'initial' | 'checkpoint' | 'held'): Promise<void> {
    if (source !== 'checkpoint') {
      this.#toCompute({ type: source === 'initial' ? 'initialize' : 'adopt' });
      return;
    }
    this.#toCompute({ type: 'forget' });
    try {
      await downloadState(this.#member().transfer, step, this.#shared().state, this.#closing.signal);
      this.#toCompute({ type: 'load', step });
    } catch (error) {
      this.#post({ type: 'stateFailed', reason: messageOf(error) });
    }
  }

  async #pullJob(): Promise<void> {
    const leased = await this.#member().consumer.next();
    if (leased !== null) this.#post({ type: 'jobLeased', id: leased.id, job: leased.job });
  }

  /** Answers at once, also while the engine works: that is what the gate is for. */
  #limitJob(id: string, first: number): void {
    const given = this.#givenJobs.get(id);
    // All of it is in the fragments: there is nothing left to keep out.
    if (given === undefined) return;
    const count = given.gate.limit(Math.max(0, first - given.first));
    this.#post({ type: 'jobLimited', id, first: given.first + count });
  }

  /** In order. What is asked for while the state is being copied waits: the next update would change it. */
  #toCompute(message: ToCompute): void {
    if (this.#copies > 0) this.#waiting.push(message);
    else this.#ports.toCompute(message);
  }

  #copied(): void {
    this.#copies -= 1;
    if (this.#copies > 0) return;
    for (const message of this.#waiting.splice(0)) this.#ports.toCompute(message);
  }

  #apply(update: Update): void {
    const { step } = update;
    if (update.kind === 'skip') {
      this.#toCompute({ type: 'skip', step });
      return;
    }
    const { tokens, learningRate, from } = update;
    const gradient = from === 'reduced' ? this.#shared().state : this.#aside().get(step);
    const { reduced, blockSums } = gradient;
    this.#toCompute({
      type: 'apply',
      step,
      tokens,
      learningRate,
      gradient: { reduced: this.#memory.lend(reduced), blockSums },
    });
  }

  #upload(order: UploadOrder, parametersDigest: string): void {
    const { state } = this.#shared();
    this.#copies += 1;
    this.#run(async () => {
      try {
        const snapshot = await takeSnapshot(state, order).finally(() => this.#copied());
        await uploadSnapshot(this.#member().transfer, snapshot, this.#closing.signal);
        this.#post({ type: 'uploaded', order, parametersDigest });
      } catch (error) {
        this.#post({ type: 'uploadFailed', order, reason: messageOf(error) });
      }
    });
  }

  // ---- the reduction ----------------------------------------------------------------------------

  #takeFragments(lent: readonly Lent<SharedFragment>[], areOnDevice: boolean): void {
    const borrow = (fragment: Lent<SharedFragment>) => ({
      ...fragment,
      value: this.#memory.borrow(fragment.value),
    });
    this.#fragments.take(lent.map(borrow), areOnDevice);
  }

  #startReduction(order: ReduceOrder): void {
    this.#times.reductionStarted();
    this.#attempt = { generation: order.generation, attempt: order.attempt };
    // An earlier attempt is over, also while this one waits: what it reads is about to change.
    if (!this.#fragments.areHome) this.#links.abort();
    this.#fragments.whenHome((fragments) => this.#beginReduction(order, fragments));
  }

  #beginReduction(order: ReduceOrder, fragments: readonly SharedFragment[]): void {
    const { kernels, pieceFloats } = this.#member();
    const { generation, attempt, step } = order;
    const reduction = new Reduction({
      order,
      incarnation: this.#incarnation,
      state: this.#shared().state,
      fragments,
      kernels,
      pieceFloats,
      memory: this.#memory,
      peerMemories: this.#links.peerMemories,
      room: this.#sendingRoom,
      senderTo: (endpoint) => this.#links.senderTo(endpoint),
      onFinished: (gradientDigest, allFinite) => {
        if (allFinite) this.#post({ type: 'reductionFinished', generation, attempt, gradientDigest });
        else this.#post({ type: 'notFinite', step, slot: null, reason: 'the summed gradient overflows' });
      },
      onFailed: (reason) => this.#post({ type: 'reductionFailed', generation, attempt, reason }),
      onRejected: (reason) => this.#refusals.add(reason),
    });
    this.#links.begin(reduction);
  }

  #stateStep(): number {
    const { life } = this.#state;
    return life.phase === 'takingPart' ? (life.committedStep ?? 0) : 0;
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
    this.#refusals.tell();
    if (this.#runId === '' || this.#closed) return;
    const hears = !isDeaf(this.#state, this.#deadlines.heartbeatLimitMs);
    const residentBytes = process.memoryUsage.rss();
    const { sentBytes, receivedBytes } = this.#links;
    const place = { generation: 0, step: this.#stateStep(), attempt: 0 };
    const engineBytes = this.#engineBytes;
    this.#send({ type: 'heartbeat', ...place, residentBytes, engineBytes, sentBytes, receivedBytes, hears });
  }

  #member(): Membership {
    assert(this.#membership !== null, 'the worker was welcomed');
    return this.#membership;
  }

  #aside(): SetAside {
    assert(this.#setAside !== null, 'the compute thread is prepared');
    return this.#setAside;
  }

  #shared(): Prepared {
    assert(this.#replica !== null, 'the compute thread is prepared');
    return this.#replica;
  }
}
