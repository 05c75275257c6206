/**
 * A worker of the simulated cluster: the real lifecycle machine, with a compute thread that works
 * through what it is told in order and a reduction that exchanges covers instead of numbers. Asserts who
 * may touch the shared memory when (src/worker/thread-messages.ts).
 */
import { assert } from '../../src/base/index.ts';
import type { CoordinatorEffect } from '../../src/coordinator/index.ts';
import {
  type CoordinatorMessage,
  type Job,
  PROTOCOL_VERSION,
  type WorkerMessage,
} from '../../src/protocol/index.ts';
import {
  initialLifecycle,
  type LifecycleEffect,
  type LifecycleEvent,
  type LifecycleState,
  transition,
  type UploadOrder,
} from '../../src/worker/lifecycle.ts';
import { SETTINGS } from './coordinator-script.ts';
import { gradientOver, INITIAL, tokensOf, updated } from './simulated-oracle.ts';
import type { SimulatedQueue } from './simulated-queue.ts';

export const LAYOUT = [{ name: 'weight', shape: [10, 10] }];
/** Floats of the whole vector. */
export const SIZE = 100;

export type Order = Extract<CoordinatorMessage, { type: 'reduce' }>;
type Task =
  | { readonly kind: 'prepare' | 'initialize' }
  | { readonly kind: 'load'; readonly step: number }
  | { readonly kind: 'compute'; readonly id: string; readonly job: Job }
  | { readonly kind: 'apply'; readonly step: number; readonly tokens: number; readonly learningRate: number };
interface Move {
  readonly name: string;
  run(): void;
}
interface Upload {
  readonly order: UploadOrder;
  readonly parameters: string;
  /** Floats that are on the other side. */
  sent: number;
}
/** Slots held, each with the parameters it was computed from. */
export type Fragments = ReadonlyMap<number, string>;

/** What the rest of the cluster is to a worker. */
export interface Surroundings {
  readonly queue: SimulatedQueue;
  note(line: string): void;
  deliver(worker: SimulatedWorker, message: object): void;
  onEnded(): void;
  /** The fragments that the ranks of an attempt have sent to one another, by rank. */
  fragmentsOf(order: Order): Map<number, Fragments>;
  /** Null when the piece was taken, else why not. */
  upload(order: UploadOrder, parameters: string): string | null;
  /** Digest of the stored parameters of this step. */
  download(step: number): string;
}

export class SimulatedWorker {
  readonly name: string;
  life: 'alive' | 'frozen' | 'dead' = 'alive';
  readonly toCoordinator: WorkerMessage[] = [];
  readonly toWorker: CoordinatorMessage[] = [];
  readonly #cluster: Surroundings;
  #state: LifecycleState;
  #tasks: Task[] = [];
  #pulling = false;
  #parameters = '';
  /** The committed step whose result the parameters are. */
  #step = 0;
  #fragments = new Map<number, string>();
  #order: Order | null = null;
  #reduced: { readonly step: number; readonly gradient: string } | null = null;
  #uploads: Upload[] = [];
  #isDamaged = false;

  constructor(name: string, cluster: Surroundings) {
    this.name = name;
    this.#cluster = cluster;
    this.#state = initialLifecycle({ incarnation: name, coordinatorLimitMs: Infinity, helloIntervalMs: 500 });
  }

  /** Time passes: whoever was not answered greets again, the others give a sign of life. */
  tick(): void {
    const { nowMs, life, settings } = this.#state;
    this.post({ type: 'tick', nowMs: nowMs + settings.helloIntervalMs });
    if (life.phase !== 'greeting') {
      this.#say({ type: 'heartbeat', generation: 0, step: this.#step, attempt: 0, residentBytes: 1 });
    }
  }

  /** A frame of the next attempt arrives damaged here. */
  damageReduction(): void {
    this.#isDamaged = true;
  }

  tell(effect: Extract<CoordinatorEffect, { type: 'send' | 'welcome' }>): void {
    const envelope = { protocol: PROTOCOL_VERSION, run: SETTINGS.run, incarnation: 'coordinator' };
    const welcome = { type: 'welcome', generation: 0, step: 0, attempt: 0, worker: this.name };
    const message = effect.type === 'send' ? effect.message : welcome;
    // The lifecycle reads no more of a welcome than its worker's name.
    this.toWorker.push({ ...envelope, ...message } as CoordinatorMessage);
  }

  post(event: LifecycleEvent): void {
    const { state, effects } = transition(this.#state, event);
    this.#state = state;
    for (const effect of effects) this.#carryOut(effect);
  }

  moves(queue: SimulatedQueue): Move[] {
    const moves: Move[] = [];
    const told = this.toWorker[0];
    if (told !== undefined) {
      moves.push({
        name: `hears ${told.type} (step ${told.step}, attempt ${told.attempt})`,
        run: () => this.post({ type: 'messageArrived', message: this.toWorker.shift()! }),
      });
    }
    const task = this.#tasks[0];
    if (task !== undefined)
      moves.push({ name: `does ${task.kind}`, run: () => this.#do(this.#tasks.shift()!) });
    if (this.#pulling && queue.hasWaiting) {
      moves.push({
        name: 'is handed a job',
        run: () => {
          this.#pulling = false;
          const leased = queue.take(this.name)!;
          this.#cluster.note(`  ${leased.id}`);
          this.post({ type: 'jobLeased', ...leased });
        },
      });
    }
    if (this.#order !== null && this.#cluster.fragmentsOf(this.#order).size === this.#order.members.length) {
      moves.push({ name: 'has all fragments', run: () => this.#finishReduction() });
    }
    const upload = this.#uploads[0];
    if (upload !== undefined) moves.push({ name: 'uploads a piece', run: () => this.#upload(upload) });
    return moves;
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
        this.#startReduction(effect.order);
        return;
      case 'abortReduction':
        this.#order = null;
        return;
      case 'vote':
        this.#say({ ...effect.message, times: null });
        return;
      case 'apply':
        this.#order = null;
        this.#tasks.push({ ...effect, kind: 'apply' });
        return;
      case 'upload': {
        assert(!this.#isApplying, 'a snapshot is taken of a state at rest');
        this.#uploads.push({ order: effect.order, parameters: this.#parameters, sent: 0 });
        return;
      }
      case 'end':
        this.#end();
        return;
    }
  }

  #say(message: object): void {
    this.#cluster.deliver(this, message);
  }

  /** A process that was told to go ends, and another is started in its place. */
  #end(): void {
    this.life = 'dead';
    this.#cluster.onEnded();
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
      case 'load':
        this.#step = task.kind === 'load' ? task.step : 0;
        this.#parameters = task.kind === 'load' ? this.#cluster.download(task.step) : INITIAL;
        this.post({ type: 'stateLoaded', parametersDigest: this.#parameters });
        return;
      case 'compute':
        this.#compute(task.id, task.job);
        return;
      case 'apply': {
        const { step, tokens, learningRate } = task;
        assert(this.#reduced?.step === step, `${this.name} applies the gradient it has reduced`);
        this.#parameters = updated(this.#parameters, this.#reduced.gradient, tokens, learningRate);
        this.#step = step;
        this.#reduced = null;
        this.#fragments = new Map();
        this.post({ type: 'applied', step, parametersDigest: this.#parameters });
        return;
      }
    }
  }

  #compute(id: string, job: Job): void {
    assert(job.step === this.#step + 1, `${this.name} holds step ${this.#step} and computes ${job.step}`);
    const slots = Array.from({ length: job.count }, (_, place) => job.first + place);
    for (const slot of slots) {
      assert(!this.#fragments.has(slot), `${this.name} adds slot ${slot} of step ${job.step} once`);
      this.#fragments.set(slot, this.#parameters);
    }
    const results = slots.map((slot) => ({
      slot,
      tokens: tokensOf(job.step, slot),
      lossSum: Math.sqrt(job.step * 31 + slot),
    }));
    this.post({ type: 'rangeComputed', job: id, results, milliseconds: 1 + this.name.length });
  }

  // ---- the reduction ----------------------------------------------------------------------------

  #startReduction(order: Order): void {
    assert(!this.#isApplying, `${this.name} reduces into memory that the compute thread does not use`);
    this.#order = order;
    this.#reduced = null;
    const rank = order.members.findIndex(({ incarnation }) => incarnation === this.name);
    assert(rank !== -1, `${this.name} is a member of what it is to reduce`);
    const own = order.slotOwners.flatMap((owner, slot) => (owner === rank ? [slot] : []));
    for (const slot of own) assert(this.#fragments.has(slot), `${this.name} holds slot ${slot}`);
    this.#cluster
      .fragmentsOf(order)
      .set(rank, new Map(own.map((slot) => [slot, this.#fragments.get(slot)!])));
  }

  #finishReduction(): void {
    const order = this.#order!;
    const { generation, attempt, step } = order;
    this.#order = null;
    if (this.#isDamaged) {
      this.#isDamaged = false;
      this.post({ type: 'reductionFailed', generation, attempt, reason: 'damaged' });
      return;
    }
    const parts = [...this.#cluster.fragmentsOf(order).values()].flatMap((cover) => [...cover]);
    parts.sort(([a], [b]) => a - b);
    assert(
      parts.length === order.slotOwners.length && parts.every(([slot], place) => slot === place),
      `the fragments of step ${step} cover every slot once`,
    );
    const gradientDigest = gradientOver(step, parts);
    this.#reduced = { step, gradient: gradientDigest };
    this.post({ type: 'reductionFinished', generation, attempt, gradientDigest });
  }

  /** In two pieces, so that something can come in between. */
  #upload(upload: Upload): void {
    const { order, parameters } = upload;
    const length = upload.sent === 0 ? Math.ceil(order.length / 2) : order.length - upload.sent;
    const refusal = this.#cluster.upload(
      { ...order, offset: order.offset + upload.sent, length },
      parameters,
    );
    upload.sent += length;
    if (refusal === null && upload.sent < order.length) return;
    this.#uploads.shift();
    this.post(
      refusal === null ? { type: 'uploaded', order } : { type: 'uploadFailed', order, reason: refusal },
    );
  }
}
