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
  type HeldState,
  type Job,
  PROTOCOL_VERSION,
  type WorkerMessage,
} from '../protocol/index.ts';
import {
  FragmentStore,
  initialLifecycle,
  isDeaf,
  type LifecycleEffect,
  type LifecycleEvent,
  type LifecycleState,
  SlotGate,
  type UploadOrder,
} from '../worker/index.ts';
import type { Frame } from './exchange.ts';
import { GradientReader } from './gradient-reader.ts';
import { Link, type Numbered } from './link.ts';
import { INITIAL, type Oracle, SIZE, tokensOf, updated } from './oracle.ts';
import type { Parts } from './parts.ts';
import type { SimulatedQueue } from './queue.ts';

/** Gradients that may wait for a replica: few, so that the limit is met. */
const BACKLOG_MAX = 2;

export const LAYOUT = [{ name: 'weight', shape: [SIZE] }];

/** A possible next move, and what it is called in the transcript. */
export interface Move {
  readonly name: string;
  run(): void;
}

type Task =
  | { readonly kind: 'prepare' | 'initialize' | 'discard' }
  | { readonly kind: 'adopt' | 'load'; readonly step: number }
  | {
      readonly kind: 'compute';
      readonly id: string;
      readonly job: Job;
      readonly gate: SlotGate;
      next: number;
    }
  | { readonly kind: 'apply'; readonly update: Update };

type Update = Extract<LifecycleEffect, { type: 'apply' }>['update'];

/** What a process keeps when it comes back as another incarnation. */
export interface Inheritance {
  readonly formerly: string;
  readonly parameters: string;
  /** The committed step whose result the parameters are; null while they are none's. */
  readonly step: number | null;
  readonly pending: HeldState['pending'];
  readonly reduced: Float32Array;
  readonly isCorrupt: boolean;
}

interface Upload {
  readonly order: UploadOrder;
  readonly parametersDigest: string;
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
  /** The process goes on as another incarnation. */
  onEvicted(inheritance: Inheritance): void;
  /** Null when the piece was taken, else why not. */
  upload(order: UploadOrder, parameters: string): string | null;
  /** The stored parameters of this step; null when they are not the newest any more. */
  download(step: number): string | null;
}

export class SimulatedWorker {
  readonly name: string;
  life: 'alive' | 'frozen' | 'dead' = 'alive';
  wakesAtMs = 0;
  readonly toCoordinator = new Link<Numbered<WorkerMessage>>();
  readonly toWorker = new Link<Numbered<CoordinatorMessage>>();
  /** It computes no slot before this time: a device that is slow for a while. */
  computesAtMs = 0;
  /** Its device gets the next update wrong. */
  corruptsNext = false;
  /** Its replica holds other bits than it should. */
  isCorrupt = false;
  readonly reader: GradientReader;
  readonly #cluster: Surroundings;
  readonly #store: FragmentStore;
  /** The worker's own clock, which stands still while it is frozen. */
  #nowMs = 0;
  #state: LifecycleState;
  #tasks: Task[] = [];
  #pulling = false;
  #parameters = '';
  /** The committed step whose result the parameters are; null while they are none's. */
  #step: number | null = null;
  readonly #inheritance: Inheritance | null;
  /** Digests of the gradients that wait for the replica. */
  readonly #setAside = new Map<number, string>();
  readonly #gates = new Map<string, { readonly first: number; readonly gate: SlotGate }>();
  #numSent = 0;
  #heard = { incarnation: '', seq: 0 };
  /** The fragments as the comm thread last heard of them. */
  #fragments = new Map<number, Float32Array>();
  #uploads: Upload[] = [];
  readonly #host: string;

  constructor(name: string, host: string, cluster: Surroundings, inheritance: Inheritance | null) {
    this.name = name;
    this.#host = host;
    this.#inheritance = inheritance;
    this.#cluster = cluster;
    const { oracle, settings, parts } = cluster;
    const { coordinatorLimitMs, reductionSilenceMs } = deadlinesFrom(settings.heartbeatLimitMs);
    this.#store = new FragmentStore(oracle.kernels, SIZE, settings.microBatches);
    if (inheritance !== null) {
      this.#parameters = inheritance.parameters;
      this.#step = inheritance.step;
      this.isCorrupt = inheritance.isCorrupt;
    }
    this.#state = initialLifecycle({
      ...{ incarnation: name, coordinatorLimitMs, helloIntervalMs: 500, backlogMax: 0 },
    });
    this.reader = new GradientReader(name, reductionSilenceMs, {
      oracle,
      reduce: parts.reduce,
      send: (to, frame) => cluster.sendFrame(name, to, frame),
      onFinished: (position, gradientDigest) =>
        this.post({ type: 'reductionFinished', ...position, gradientDigest }),
      onFailed: (position, reason) => this.post({ type: 'reductionFailed', ...position, reason }),
    });
    if (inheritance !== null) this.reader.reduced.set(inheritance.reduced);
  }

  /** Time passes: whoever was not answered greets again, the others give a sign of life. */
  tick(passedMs: number): void {
    this.#nowMs += passedMs;
    this.post({ type: 'tick', nowMs: this.#nowMs });
    if (this.life !== 'alive') return;
    this.reader.tick(this.#nowMs);
    if (this.#state.worker === null) return;
    const hears = !isDeaf(this.#state, this.#cluster.settings.heartbeatLimitMs);
    this.#say({
      ...{
        type: 'heartbeat',
        generation: 0,
        step: this.#step ?? 0,
        attempt: 0,
        residentBytes: 1,
        engineBytes: null,
      },
      ...{ sentBytes: 0, receivedBytes: 0, hears },
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
    const told = this.toWorker.peek(nowMs)?.message;
    if (told !== undefined) {
      moves.push({
        name: `hears ${told.type} (generation ${told.generation}, step ${told.step}, attempt ${told.attempt})`,
        run: () => this.#hear(this.toWorker.take()),
      });
    }
    const [task] = this.#tasks;
    if (task?.kind === 'compute') {
      if (nowMs >= this.computesAtMs) moves.push({ name: 'computes', run: () => this.#compute(task) });
    } else if (task !== undefined) {
      moves.push({ name: `does ${task.kind}`, run: () => this.#do(this.#tasks.shift()!) });
    }
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

  /** A gap in the numbers ends the incarnation before anything that rests on what was lost. */
  #hear({ seq, message }: Numbered<CoordinatorMessage>): void {
    const before = message.incarnation === this.#heard.incarnation ? this.#heard.seq : 0;
    this.#heard = { incarnation: message.incarnation, seq };
    if (seq !== before + 1) this.post({ type: 'messagesLost' });
    this.post({ type: 'messageArrived', message });
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
          peerMemory: { domain: this.#host, pid: 1, descriptor: 1 },
          formerly: this.#inheritance?.formerly ?? null,
        });
        return;
      case 'prepare':
        this.#tasks.push({ kind: 'prepare' });
        return;
      case 'sayPrepared':
        this.#say({
          ...{ type: 'prepared', generation: 0, step: 0, attempt: 0 },
          ...{ device: 'd', engineVersion: '1', layout: LAYOUT, held: this.#held() },
        });
        return;
      case 'loadState':
        if (effect.source === 'initial') this.#tasks.push({ kind: 'initialize' });
        else if (effect.source === 'held') this.#tasks.push({ kind: 'adopt', step: effect.step });
        else {
          this.#step = null;
          this.#tasks.push({ kind: 'load', step: effect.step });
        }
        return;
      case 'follow':
        this.reader.standAt(effect.step);
        return;
      case 'pullJob':
        this.#pulling = true;
        return;
      case 'releaseJob':
        this.#cluster.queue.complete(effect.id, this.name);
        return;
      case 'compute':
        this.#giveJob(effect.id, effect.job);
        return;
      case 'limitJob':
        this.#limitJob(effect.id, effect.first);
        return;
      case 'discardFragments':
        this.#fragments = new Map();
        this.#tasks.push({ kind: 'discard' });
        return;
      case 'startReduction':
        assert(!this.#isInUse, `${this.name} reduces into memory that the compute thread does not use`);
        this.reader.begin(effect.order, this.#fragments);
        return;
      case 'abortReduction':
        this.reader.abort();
        return;
      case 'vote':
        this.#say({ ...effect.message, times: null });
        return;
      case 'committed':
        this.reader.commit(effect.step);
        this.#fragments = new Map();
        return;
      case 'setAside':
        this.#setAside.set(effect.step, this.#cluster.oracle.digest(this.reader.reduced));
        // The one that is being applied is still there.
        assert(this.#setAside.size <= BACKLOG_MAX + 1, `${this.name} has room for what it sets aside`);
        return;
      case 'keepSetAside':
        for (const step of this.#setAside.keys()) {
          if (!effect.steps.includes(step)) this.#setAside.delete(step);
        }
        return;
      case 'apply':
        this.#tasks.push({ kind: 'apply', update: effect.update });
        return;
      case 'upload':
        assert(this.#step === effect.order.step, 'a snapshot is taken of a state at rest');
        this.#uploads.push({ ...effect, parameters: this.#parameters, sent: 0, refusal: null });
        return;
      case 'end':
        this.#cluster.note(`  ${this.name} ends: ${effect.ending.reason}`);
        this.life = 'dead';
        if (effect.ending.kind === 'evicted') this.#cluster.onEvicted(this.#inherit(effect.ending.pending));
        else this.#cluster.onEnded();
        return;
    }
  }

  #say(message: object): void {
    const envelope = { protocol: PROTOCOL_VERSION, run: this.#cluster.settings.run, incarnation: this.name };
    this.#numSent += 1;
    // The lifecycle's messages are complete but for the envelope.
    this.toCoordinator.send({ seq: this.#numSent, message: { ...envelope, ...message } as WorkerMessage });
  }

  /** Whether the compute thread is to read the gradient where it was reduced. */
  get #isInUse(): boolean {
    return this.#tasks.some(
      (task) => task.kind === 'apply' && task.update.kind === 'apply' && task.update.from === 'reduced',
    );
  }

  /** What the process keeps: the compute thread ends what it does, and the rest is closed. */
  #inherit(pending: HeldState['pending']): Inheritance {
    const [task] = this.#tasks;
    if (task?.kind === 'apply') this.#takeIn(task.update);
    const { name: formerly, isCorrupt } = this;
    const kept = { parameters: this.#parameters, step: this.#step };
    return { formerly, ...kept, pending, reduced: this.reader.reduced, isCorrupt };
  }

  #held(): HeldState | null {
    const { step, parameters, pending = null } = this.#inheritance ?? {};
    if (step === undefined || step === null || parameters === undefined) return null;
    return { step, parametersDigest: parameters, pending: pending?.step === step + 1 ? pending : null };
  }

  #giveJob(id: string, job: Job): void {
    const gate = new SlotGate({ count: job.count });
    this.#gates.set(id, { first: job.first, gate });
    this.#tasks.push({ kind: 'compute', id, job, gate, next: job.first });
  }

  #limitJob(id: string, first: number): void {
    const given = this.#gates.get(id);
    if (given === undefined) return;
    const count = given.gate.limit(Math.max(0, first - given.first));
    this.post({ type: 'jobLimited', id, first: given.first + count });
  }

  // ---- the compute thread -----------------------------------------------------------------------

  #do(task: Task): void {
    switch (task.kind) {
      case 'prepare':
        this.post({ type: 'computePrepared', backlogMax: BACKLOG_MAX });
        return;
      case 'initialize':
        this.isCorrupt = false;
        this.#load(0, INITIAL);
        return;
      case 'adopt':
        assert(this.#step === task.step, `${this.name} goes on with ${task.step}, which it holds`);
        this.#load(task.step, this.#parameters);
        return;
      case 'discard':
        this.#store.clear();
        return;
      case 'load': {
        const parameters = this.#cluster.download(task.step);
        if (parameters === null) this.post({ type: 'stateFailed', reason: 'no such checkpoint' });
        else {
          this.isCorrupt = false;
          this.#load(task.step, parameters);
        }
        return;
      }
      case 'compute':
        throw new Error('slots are computed one by one');
      case 'apply':
        this.#apply(task.update);
        return;
    }
  }

  #load(step: number, parameters: string): void {
    this.#step = step;
    this.#parameters = parameters;
    this.#store.clear();
    this.post({ type: 'stateLoaded', parametersDigest: parameters });
  }

  #apply(update: Update): void {
    this.#takeIn(update);
    this.post({ type: 'applied', step: update.step, parametersDigest: this.#parameters });
  }

  #takeIn(update: Update): void {
    const { oracle, settings } = this.#cluster;
    const { step } = update;
    assert(this.#step === step - 1, `${this.name} applies step ${step} to the state of ${this.#step}`);
    if (update.kind === 'apply') {
      const inPlace = update.from === 'reduced';
      const gradient = inPlace ? oracle.digest(this.reader.reduced) : this.#setAside.get(step);
      assert(gradient !== undefined, `the gradient of step ${step} is set aside`);
      this.#parameters = updated(this.#parameters, gradient, update.tokens, update.learningRate);
      if (this.corruptsNext) this.#corrupt();
      this.#setAside.delete(step);
    }
    this.#step = step;
    this.#store.clear();
    const isRight = this.isCorrupt || this.#parameters === oracle.parametersAfter(step, settings);
    assert(isRight, `every replica of step ${step} is that of an undisturbed run, ${this.name}'s too`);
  }

  /** One slot of the job, or its end. */
  #compute(task: Extract<Task, { kind: 'compute' }>): void {
    const { id, job, gate, next: slot } = task;
    const { oracle, settings } = this.#cluster;
    if (slot === job.first + job.count || !gate.isOpen) {
      this.#endRange(id);
      return;
    }
    assert(job.step === this.#step! + 1, `${this.name} holds step ${this.#step} and computes ${job.step}`);
    if (oracle.overflowingSlot(job.step, settings) === slot) {
      this.post({ type: 'notFinite', step: job.step, slot, reason: 'overflow' });
      this.#endRange(id);
      return;
    }
    assert(gate.settle(), 'nothing comes between a look at the gate and going through');
    const leaf = this.#store.leaf();
    leaf.set(oracle.leaf(job.step, slot, this.#parameters));
    this.#store.add(slot, leaf);
    this.#fragments = new Map(this.#store.fragments().map(({ first, value }) => [first, value]));
    task.next += 1;
    const tokens = tokensOf(job.step, slot);
    const result = { slot, tokens, lossSum: Math.sqrt(job.step * 31 + slot) };
    this.post({ type: 'slotComputed', job: id, result, milliseconds: 1 + this.name.length });
  }

  #endRange(id: string): void {
    this.#tasks.shift();
    this.#gates.delete(id);
    this.post({ type: 'rangeEnded', job: id });
  }

  /** The update goes wrong, and the digest that is taken after it tells. */
  #corrupt(): void {
    this.corruptsNext = false;
    this.isCorrupt = true;
    this.#parameters = updated(this.#parameters, 'a flipped bit', 1, 1);
  }

  /** In two pieces and an answer, so that something can come in between. */
  #upload(upload: Upload): void {
    const { order, parametersDigest, parameters, sent, refusal } = upload;
    if (refusal === null && sent < order.length) {
      const length = sent === 0 ? Math.ceil(order.length / 2) : order.length - sent;
      upload.refusal = this.#cluster.upload({ ...order, offset: order.offset + sent, length }, parameters);
      upload.sent += length;
      return;
    }
    this.#uploads.shift();
    this.post(
      refusal === null
        ? { type: 'uploaded', order, parametersDigest }
        : { type: 'uploadFailed', order, reason: refusal },
    );
  }
}
