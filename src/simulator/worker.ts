/**
 * A worker of the simulated cluster: the real lifecycle machine and the real fragment store, with a
 * compute thread that works through what it is told in order. Asserts who may touch the shared memory
 * when (src/worker/thread-messages.ts), and that every replica of a step is the same.
 */
import { assert, type PhiloxRng } from '../base/index.ts';
import { deadlinesFrom } from '../config/index.ts';
import type { CoordinatorSettings } from '../coordinator/index.ts';
import {
  type CoordinatorMessage,
  type Job,
  PROTOCOL_VERSION,
  type WorkerMessage,
} from '../protocol/index.ts';
import {
  FragmentStore,
  initialLifecycle,
  type LifecycleEffect,
  type LifecycleEvent,
  type LifecycleState,
  type UploadOrder,
} from '../worker/index.ts';
import type { Frame } from './exchange.ts';
import { GradientReader } from './gradient-reader.ts';
import { Link } from './link.ts';
import { INITIAL, type Oracle, SIZE, tokensOf, updated } from './oracle.ts';
import type { Parts } from './parts.ts';
import type { SimulatedQueue } from './queue.ts';

export const LAYOUT = [{ name: 'weight', shape: [SIZE] }];

/** A possible next move, and what it is called in the transcript. */
export interface Move {
  readonly name: string;
  run(): void;
}

type Task =
  | { readonly kind: 'prepare' | 'initialize' }
  | { readonly kind: 'load'; readonly step: number }
  | { readonly kind: 'compute'; readonly id: string; readonly job: Job }
  | { readonly kind: 'apply'; readonly step: number; readonly tokens: number; readonly learningRate: number };

interface Upload {
  readonly order: UploadOrder;
  readonly parameters: string;
  /** Floats that are on the other side. */
  sent: number;
  /** Why a piece was not taken. */
  refusal: string | null;
}

/** What the rest of the cluster is to a worker. */
export interface Surroundings {
  readonly parts: Parts;
  readonly settings: CoordinatorSettings;
  readonly oracle: Oracle;
  readonly queue: SimulatedQueue;
  readonly nowMs: number;
  note(line: string): void;
  sendFrame(from: string, to: string, frame: Frame): void;
  /** Links with frames for this worker, by sender. */
  inbound(name: string): ReadonlyMap<string, Link<Frame>>;
  onEnded(): void;
  /** Null when the piece was taken, else why not. */
  upload(order: UploadOrder, parameters: string): string | null;
  /** The stored parameters of this step; null when they are not the newest any more. */
  download(step: number): string | null;
}

export class SimulatedWorker {
  readonly name: string;
  life: 'alive' | 'frozen' | 'dead' = 'alive';
  wakesAtMs = 0;
  readonly toCoordinator = new Link<WorkerMessage>();
  readonly toWorker = new Link<CoordinatorMessage>();
  readonly reader: GradientReader;
  readonly #cluster: Surroundings;
  readonly #store: FragmentStore;
  /** The worker's own clock, which stands still while it is frozen. */
  #nowMs = 0;
  #state: LifecycleState;
  #tasks: Task[] = [];
  #pulling = false;
  #parameters = '';
  /** The committed step whose result the parameters are. */
  #step = 0;
  /** The fragments as the comm thread last heard of them. */
  #fragments = new Map<number, Float32Array>();
  #uploads: Upload[] = [];

  constructor(name: string, cluster: Surroundings) {
    this.name = name;
    this.#cluster = cluster;
    const { oracle, settings, parts } = cluster;
    const { coordinatorLimitMs, reductionSilenceMs } = deadlinesFrom(settings.heartbeatLimitMs);
    this.#store = new FragmentStore(oracle.kernels, SIZE, settings.microBatches);
    this.#state = initialLifecycle({ incarnation: name, coordinatorLimitMs, helloIntervalMs: 500 });
    this.reader = new GradientReader(name, reductionSilenceMs, {
      oracle,
      reduce: parts.reduce,
      send: (to, frame) => cluster.sendFrame(name, to, frame),
      onFinished: (position, gradientDigest) =>
        this.post({ type: 'reductionFinished', ...position, gradientDigest }),
      onFailed: (position, reason) => this.post({ type: 'reductionFailed', ...position, reason }),
    });
  }

  /** Time passes: whoever was not answered greets again, the others give a sign of life. */
  tick(passedMs: number): void {
    this.#nowMs += passedMs;
    this.post({ type: 'tick', nowMs: this.#nowMs });
    if (this.life !== 'alive') return;
    this.reader.tick(this.#nowMs);
    if (this.#state.worker === null) return;
    this.#say({
      type: 'heartbeat',
      generation: 0,
      step: this.#step,
      attempt: 0,
      residentBytes: 1,
      sentBytes: 0,
      receivedBytes: 0,
    });
  }

  post(event: LifecycleEvent): void {
    const { state, effects } = this.#cluster.parts.live(this.#state, event);
    this.#state = state;
    for (const effect of effects) this.#carryOut(effect);
  }

  /** What this worker may do next. */
  moves(): Move[] {
    const { queue, nowMs } = this.#cluster;
    const moves: Move[] = [];
    const told = this.toWorker.peek(nowMs);
    if (told !== null) {
      moves.push({
        name: `hears ${told.type} (generation ${told.generation}, step ${told.step}, attempt ${told.attempt})`,
        run: () => this.post({ type: 'messageArrived', message: this.toWorker.take() }),
      });
    }
    const [task] = this.#tasks;
    if (task !== undefined)
      moves.push({ name: `does ${task.kind}`, run: () => this.#do(this.#tasks.shift()!) });
    if (this.#pulling && queue.hasWaiting)
      moves.push({ name: 'is handed a job', run: () => this.#takeJob() });
    if (this.reader.canRead) {
      for (const [from, link] of this.#cluster.inbound(this.name)) {
        const frame = link.peek(nowMs);
        if (frame === null) continue;
        moves.push({
          name: `reads a ${frame.type} of ${from}`,
          run: () => this.reader.read(link.take()),
        });
      }
    }
    const [upload] = this.#uploads;
    if (upload !== undefined && !this.toCoordinator.isCut(nowMs))
      moves.push({ name: 'uploads', run: () => this.#upload(upload) });
    return moves;
  }

  /** The process is killed: what it had said may or may not have got out of its sockets. */
  die(rng: PhiloxRng): void {
    this.life = 'dead';
    this.toCoordinator.loseNewest(rng);
    this.toWorker.clear();
  }

  #takeJob(): void {
    this.#pulling = false;
    const leased = this.#cluster.queue.take(this.name)!;
    this.#cluster.note(`  ${leased.id}`);
    this.post({ type: 'jobLeased', ...leased });
  }

  #carryOut(effect: LifecycleEffect): void {
    switch (effect.type) {
      case 'send':
        this.#say(effect.message);
        return;
      case 'sayHello':
        this.#say({
          ...{ type: 'hello', generation: 0, step: 0, attempt: 0 },
          ...{ name: null, host: 'h', pid: 1, peerEndpoint: `tcp://h:1/${this.name}` },
        });
        return;
      case 'prepare':
        this.#tasks.push({ kind: 'prepare' });
        return;
      case 'sayPrepared':
        this.#say({
          ...{ type: 'prepared', generation: 0, step: 0, attempt: 0 },
          ...{ device: 'd', engineVersion: '1', layout: LAYOUT },
        });
        return;
      case 'loadState':
        this.#tasks.push(
          effect.source === 'initial' ? { kind: 'initialize' } : { kind: 'load', step: effect.step },
        );
        return;
      case 'pullJob':
        this.#pulling = true;
        return;
      case 'releaseJob':
        this.#cluster.queue.complete(effect.id, this.name);
        return;
      case 'compute':
        this.#tasks.push({ kind: 'compute', id: effect.id, job: effect.job });
        return;
      case 'startReduction':
        assert(!this.#isApplying, `${this.name} reduces into memory that the compute thread does not use`);
        this.reader.begin(effect.order, this.#fragments);
        return;
      case 'abortReduction':
        this.reader.abort();
        return;
      case 'vote':
        this.#say({ ...effect.message, times: null });
        return;
      case 'apply':
        this.reader.commit(effect.step);
        this.#fragments = new Map();
        this.#tasks.push({ ...effect, kind: 'apply' });
        return;
      case 'upload':
        assert(!this.#isApplying, 'a snapshot is taken of a state at rest');
        this.#uploads.push({ order: effect.order, parameters: this.#parameters, sent: 0, refusal: null });
        return;
      case 'end':
        this.#cluster.note(`  ${this.name} ends: ${effect.ending.reason}`);
        this.life = 'dead';
        this.#cluster.onEnded();
        return;
    }
  }

  #say(message: object): void {
    const envelope = { protocol: PROTOCOL_VERSION, run: this.#cluster.settings.run, incarnation: this.name };
    // The lifecycle's messages are complete but for the envelope.
    this.toCoordinator.send({ ...envelope, ...message } as WorkerMessage);
  }

  get #isApplying(): boolean {
    return this.#tasks.some(({ kind }) => kind === 'apply');
  }

  // ---- the compute thread -----------------------------------------------------------------------

  #do(task: Task): void {
    switch (task.kind) {
      case 'prepare':
        this.post({ type: 'computePrepared' });
        return;
      case 'initialize':
        this.#load(0, INITIAL);
        return;
      case 'load': {
        const parameters = this.#cluster.download(task.step);
        if (parameters === null) this.post({ type: 'stateFailed', reason: 'no such checkpoint' });
        else this.#load(task.step, parameters);
        return;
      }
      case 'compute':
        this.#compute(task.id, task.job);
        return;
      case 'apply':
        this.#apply(task);
        return;
    }
  }

  #load(step: number, parameters: string): void {
    this.#step = step;
    this.#parameters = parameters;
    this.post({ type: 'stateLoaded', parametersDigest: parameters });
  }

  #apply({ step, tokens, learningRate }: Extract<Task, { kind: 'apply' }>): void {
    const { oracle, settings } = this.#cluster;
    assert(step === this.#step + 1, `${this.name} applies step ${step} to the state of ${this.#step}`);
    const gradient = oracle.digest(this.reader.reduced);
    this.#parameters = updated(this.#parameters, gradient, tokens, learningRate);
    this.#step = step;
    this.#store.clear();
    const isRight = this.#parameters === oracle.parametersAfter(step, settings);
    assert(isRight, `every replica of step ${step} is that of an undisturbed run, ${this.name}'s too`);
    this.post({ type: 'applied', step, parametersDigest: this.#parameters });
  }

  #compute(id: string, job: Job): void {
    assert(job.step === this.#step + 1, `${this.name} holds step ${this.#step} and computes ${job.step}`);
    const { oracle } = this.#cluster;
    const slots = Array.from({ length: job.count }, (_, place) => job.first + place);
    for (const slot of slots) {
      this.#store.add(slot, (target) => target.set(oracle.leaf(job.step, slot, this.#parameters)));
    }
    this.#fragments = new Map(this.#store.fragments().map(({ first, value }) => [first, value]));
    const results = slots.map((slot) => ({
      slot,
      tokens: tokensOf(job.step, slot),
      lossSum: Math.sqrt(job.step * 31 + slot),
    }));
    this.post({ type: 'rangeComputed', job: id, results, milliseconds: 1 + this.name.length });
  }

  /** In two pieces and an answer, so that something can come in between. */
  #upload(upload: Upload): void {
    const { order, parameters, sent, refusal } = upload;
    if (refusal === null && sent < order.length) {
      const length = sent === 0 ? Math.ceil(order.length / 2) : order.length - sent;
      upload.refusal = this.#cluster.upload({ ...order, offset: order.offset + sent, length }, parameters);
      upload.sent += length;
      return;
    }
    this.#uploads.shift();
    this.post(
      refusal === null ? { type: 'uploaded', order } : { type: 'uploadFailed', order, reason: refusal },
    );
  }
}
