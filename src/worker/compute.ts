/**
 * The compute thread: the process's main thread, because the native engine wants that one. It loads
 * engine, data and model, computes gradients into fragments, and applies updates; it does what the comm
 * thread tells it, in order, and is blocked meanwhile. See thread-messages.ts for who may touch what.
 */
import { performance } from 'node:perf_hooks';
import { assert, LockstepError, layoutSize, messageOf, unreachable } from '../base/index.ts';
import type { RunConfig } from '../config/index.ts';
import {
  type MicroBatch,
  microBatch,
  openDataset,
  openRemoteDataset,
  type TrainingData,
} from '../data/index.ts';
import { loadEngine } from '../engine/index.ts';
import {
  adamwScalars,
  combineDigests,
  createKernels,
  globalNorm,
  type Kernels,
  numBlocks,
} from '../kernels/index.ts';
import { createTrainingModel, initializeParameters, type TrainingModel } from '../model/index.ts';
import type { SlotResult } from '../protocol/index.ts';
import { urlOf } from './coordinator-http.ts';
import { CoordinatorBlocks } from './data-transfer.ts';
import { FragmentStore } from './fragment-store.ts';
import type { FromCompute, SharedState, ToCompute } from './thread-messages.ts';

/** One thread inside an operation: the number of threads may change the order of sums, and so the bits. */
const ENGINE_THREADS = 1;

/** Where this machine finds the run's data set: a folder, or the coordinator, with a folder to keep blocks in. */
export type DataPlace =
  | { readonly kind: 'folder'; readonly dir: string }
  | {
      readonly kind: 'coordinator';
      readonly cacheDir: string;
      readonly onCacheTrouble: (reason: string) => void;
    };

interface Replica {
  readonly config: RunConfig;
  readonly data: TrainingData;
  readonly model: TrainingModel;
  readonly kernels: Kernels;
  readonly state: SharedState;
  readonly fragments: FragmentStore;
  readonly blockSums: Float64Array;
  readonly blockDigests: BigUint64Array;
}

export class ComputeThread {
  readonly #dataPlace: DataPlace;
  /** Ends requests for data that are under way. */
  readonly #closing = new AbortController();
  /** Added to the time of each micro-batch, to play a slow device. */
  readonly #throttleMs: number;
  readonly #reply: (message: FromCompute) => void;
  #replica: Replica | null = null;
  #work: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: { data: DataPlace; throttleMs: number; reply: (message: FromCompute) => void }) {
    this.#dataPlace = options.data;
    this.#throttleMs = options.throttleMs;
    this.#reply = options.reply;
  }

  /** Queues what the comm thread asks for; anything thrown ends the worker with one line. */
  handle(message: ToCompute): void {
    this.#work = this.#work
      .then(() => this.#carryOut(message))
      .catch((error: unknown) => {
        const code = error instanceof LockstepError ? error.code : 'UNEXPECTED';
        const text =
          code === 'UNEXPECTED' && error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
        this.#reply({ type: 'failed', code, message: text });
      });
  }

  close(): void {
    this.#closed = true;
    this.#closing.abort();
    this.#replica?.model.dispose();
    this.#replica?.data.close();
    this.#replica = null;
  }

  async #carryOut(message: ToCompute): Promise<void> {
    if (this.#closed) return;
    switch (message.type) {
      case 'prepare':
        await this.#prepare(message);
        return;
      case 'initialize':
        this.#initialize();
        return;
      case 'load':
        this.#load();
        return;
      case 'compute':
        await this.#compute(message);
        return;
      case 'apply':
        this.#apply(message);
        return;
      default:
        unreachable(message);
    }
  }

  async #prepare(order: Extract<ToCompute, { type: 'prepare' }>): Promise<void> {
    const { config } = order;
    const data = await this.#openData(order);
    const engine = await loadEngine(config.engine, { threads: ENGINE_THREADS });
    const kernels = createKernels();
    const model = createTrainingModel({
      tf: engine.tf,
      model: config.model,
      objective: config.objective,
      specialIds: data.manifest.specialIds,
      dropoutMasks: kernels,
    });
    const floats = layoutSize(model.layout);
    const vector = () => new Float32Array(new SharedArrayBuffer(floats * 4));
    const state: SharedState = {
      parameters: vector(),
      firstMoment: vector(),
      secondMoment: vector(),
      reduced: vector(),
      blockSums: new Float64Array(new SharedArrayBuffer(numBlocks(floats) * 8)),
    };
    this.#replica = {
      config,
      data,
      model,
      kernels,
      state,
      fragments: new FragmentStore(kernels, floats, config.step.microBatches),
      blockSums: new Float64Array(numBlocks(floats)),
      blockDigests: new BigUint64Array(numBlocks(floats)),
    };
    if (this.#closed) {
      this.close();
      return;
    }
    const { layout } = model;
    this.#reply({ type: 'prepared', layout, device: engine.device, engineVersion: engine.version, state });
  }

  async #openData({
    datasetSha256: sha256,
    transfer,
  }: Extract<ToCompute, { type: 'prepare' }>): Promise<TrainingData> {
    const place = this.#dataPlace;
    if (place.kind === 'folder') return openDataset(place.dir, { expectedSha256: sha256 });
    return openRemoteDataset({
      source: new CoordinatorBlocks(transfer, this.#closing.signal),
      place: urlOf(transfer, 'data'),
      sha256,
      cacheDir: place.cacheDir,
      onCacheTrouble: place.onCacheTrouble,
    });
  }

  #initialize(): void {
    const { config, model, state } = this.#ready();
    initializeParameters(model.layout, config.model, config.seed, state.parameters);
    state.firstMoment.fill(0);
    state.secondMoment.fill(0);
    this.#load();
  }

  #load(): void {
    const { model, state, fragments } = this.#ready();
    fragments.clear();
    model.setParameters(state.parameters);
    this.#reply({ type: 'loaded', parametersDigest: this.#digestParameters() });
  }

  async #compute(order: Extract<ToCompute, { type: 'compute' }>): Promise<void> {
    const { fragments } = this.#ready();
    const startMs = performance.now();
    let dataMilliseconds = 0;
    const results: SlotResult[] = [];
    for (let slot = order.first; slot < order.first + order.count; slot += 1) {
      const batch = await this.#batchOf(order.step, slot);
      if (this.#closed) return;
      const outcome = this.#computeSlot(order.step, slot, batch.batch);
      if (outcome === null) return;
      dataMilliseconds += batch.milliseconds;
      results.push(outcome);
      await this.#breathe();
      if (this.#closed) return;
    }
    this.#reply({
      type: 'computed',
      job: order.job,
      results,
      fragments: fragments.fragments(),
      milliseconds: performance.now() - startMs,
      dataMilliseconds,
    });
  }

  /** Lets a message to stop through, and plays a slow device if asked to. */
  #breathe(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#throttleMs > 0) setTimeout(resolve, this.#throttleMs);
      else setImmediate(resolve);
    });
  }

  async #batchOf(step: number, slot: number): Promise<{ batch: MicroBatch; milliseconds: number }> {
    const { config, data } = this.#ready();
    const startMs = performance.now();
    const batch = await microBatch(data, { seed: config.seed, step, slot }, config.data, config.step);
    return { batch, milliseconds: performance.now() - startMs };
  }

  /** One micro-batch into the fragments; null when its gradient is not finite, which is said at once. */
  #computeSlot(step: number, slot: number, batch: MicroBatch): SlotResult | null {
    const { config, model, fragments } = this.#ready();
    const key = { seed: config.seed, step, slot };
    let result: SlotResult | null = null;
    try {
      fragments.add(slot, (target) => {
        const { lossSum, realTokens } = model.gradient(batch, key, target);
        this.#requireFinite(target);
        result = { slot, tokens: realTokens, lossSum };
      });
    } catch (error) {
      if (!(error instanceof LockstepError) || error.code !== 'NOT_FINITE') throw error;
      this.#reply({ type: 'notFinite', step, slot, reason: error.message });
      return null;
    }
    assert(result !== null, 'the gradient was computed');
    return result;
  }

  #requireFinite(gradient: Float32Array): void {
    const { kernels, blockSums } = this.#ready();
    kernels.sumOfSquares(gradient, blockSums, 0);
    if (blockSums.every(Number.isFinite)) return;
    throw new LockstepError('NOT_FINITE', 'the gradient holds a value that is not finite');
  }

  #apply({ step, tokens, learningRate }: Extract<ToCompute, { type: 'apply' }>): void {
    const { config, kernels, model, state, fragments } = this.#ready();
    const startMs = performance.now();
    const { clipNorm } = config.optimizer;
    const norm = globalNorm(state.blockSums) / tokens;
    const clip = clipNorm === null || norm <= clipNorm ? 1 : clipNorm / norm;
    const gradientScale = clip / tokens;
    const scalars = adamwScalars(config.optimizer, { step, learningRate, gradientScale });
    const { parameters, reduced: gradient, firstMoment, secondMoment } = state;
    kernels.adamw({ parameters, gradient, firstMoment, secondMoment }, scalars);
    fragments.clear();
    model.setParameters(parameters);
    const parametersDigest = this.#digestParameters();
    this.#reply({ type: 'applied', step, parametersDigest, milliseconds: performance.now() - startMs });
  }

  #digestParameters(): string {
    const { kernels, state, blockDigests } = this.#ready();
    kernels.digestBlocks(state.parameters, blockDigests, 0);
    return combineDigests(blockDigests);
  }

  #ready(): Replica {
    assert(this.#replica !== null, 'the comm thread prepares the replica first');
    return this.#replica;
  }
}
