/**
 * The compute thread: the process's main thread, because the native engine wants that one. It loads
 * engine, data and model, computes gradients into fragments, and applies updates; it does what the comm
 * thread tells it, in order, and is blocked meanwhile. See thread-messages.ts for who may touch what.
 */
import { performance } from 'node:perf_hooks';
import {
  assert,
  LockstepError,
  layoutSize,
  messageOf,
  type ParameterLayout,
  unreachable,
} from '../base/index.ts';
import { canonicalJson, type EngineName, type RunConfig } from '../config/index.ts';
import {
  type MicroBatch,
  microBatch,
  openDataset,
  openRemoteDataset,
  type TrainingData,
} from '../data/index.ts';
import { type DeviceTrouble, type Engine, loadEngine } from '../engine/index.ts';
import {
  adamwScalars,
  combineDigests,
  createKernels,
  globalNorm,
  type Kernels,
  numBlocks,
} from '../kernels/index.ts';
import { createTrainingModel, initializeParameters, type TrainingModel } from '../model/index.ts';
import type { GradientMemory } from '../net/index.ts';
import { urlOf } from './coordinator-http.ts';
import { CoordinatorBlocks } from './data-transfer.ts';
import { FragmentStore } from './fragment-store.ts';
import { SlotGate } from './slot-gate.ts';
import { SlotGradients } from './slot-gradients.ts';
import type { FromCompute, Lent, SharedFragment, SharedState, ToCompute } from './thread-messages.ts';

/** One thread inside an operation: the number of threads may change the order of sums, and so the bits. */
const ENGINE_THREADS = 1;
/** Of the heartbeat limit: a micro-batch that takes longer is not left on the device while the next is computed. */
const SHARE_OF_LIMIT = 0.25;

/** Where this machine finds the run's data set: a folder, or the coordinator, with a folder to keep blocks in. */
export type DataPlace =
  | { readonly kind: 'folder'; readonly dir: string }
  | {
      readonly kind: 'coordinator';
      readonly cacheDir: string;
      readonly onCacheTrouble: (reason: string) => void;
    };

/** What this worker computes with, as its own flags say. */
export interface EngineChoice {
  /** Null for the run's engine; another one only where the run allows it (`mixedEngines`). */
  readonly name: EngineName | null;
  /** Index or name of the device; null leaves it to the engine. */
  readonly device: string | null;
}

interface Replica {
  readonly config: RunConfig;
  readonly engine: Engine;
  readonly datasetSha256: string;
  data: TrainingData;
  readonly model: TrainingModel;
  readonly kernels: Kernels;
  readonly state: SharedState;
  readonly gradients: SlotGradients;
  readonly blockDigests: BigUint64Array;
}

type PrepareOrder = Extract<ToCompute, { type: 'prepare' }>;
type ComputeOrder = Extract<ToCompute, { type: 'compute' }>;

export class ComputeThread {
  readonly #dataPlace: DataPlace;
  readonly #engineChoice: EngineChoice;
  readonly #onDeviceRestart: (trouble: DeviceTrouble) => void;
  /** Ends requests for data that are under way. */
  readonly #closing = new AbortController();
  /** Added to the time of each micro-batch, to play a slow device. */
  readonly #throttleMs: number;
  readonly #memory: GradientMemory;
  readonly #helpers: SharedArrayBuffer | null;
  readonly #reply: (message: FromCompute) => void;
  #replica: Replica | null = null;
  /** The committed step whose state the replica's vectors are; null while they are none's. */
  #held: { step: number; parametersDigest: string } | null = null;
  /** A micro-batch begun before it is asked for. */
  #ahead: { step: number; slot: number; batch: Promise<MicroBatch> } | null = null;
  /** Whether the comm thread was told last that sums are on the device. */
  #areOnDevice = false;
  #work: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: {
    data: DataPlace;
    engine: EngineChoice;
    throttleMs: number;
    /** Where fragments and reduced vectors go. */
    memory: GradientMemory;
    /** That long sums and updates are shared with; null when there are none. */
    helpers: SharedArrayBuffer | null;
    reply: (message: FromCompute) => void;
    onDeviceRestart: (trouble: DeviceTrouble) => void;
  }) {
    this.#dataPlace = options.data;
    this.#engineChoice = options.engine;
    this.#onDeviceRestart = options.onDeviceRestart;
    this.#throttleMs = options.throttleMs;
    this.#memory = options.memory;
    this.#helpers = options.helpers;
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

  /** Resolves when everything asked for so far is done. */
  idle(): Promise<void> {
    return this.#work;
  }

  close(): void {
    this.#closed = true;
    this.#closing.abort();
    this.#dispose();
  }

  #dispose(): void {
    this.#held = null;
    this.#ahead = null;
    this.#replica?.gradients.clear();
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
      case 'forget':
        this.#held = null;
        return;
      case 'load':
        this.#load(message.step);
        return;
      case 'adopt':
        this.#adopt();
        return;
      case 'compute':
        await this.#compute(message);
        return;
      case 'discardFragments':
        this.#ready().gradients.clear();
        return;
      case 'apply':
        this.#apply(message);
        return;
      case 'skip':
        this.#skip(message.step);
        return;
      default:
        unreachable(message);
    }
  }

  async #prepare(order: PrepareOrder): Promise<void> {
    const replica = this.#replica;
    if (replica !== null && isPreparedFor(replica, order)) {
      replica.gradients.clear();
      // A coordinator that was started again may serve the data elsewhere.
      if (this.#dataPlace.kind === 'coordinator') {
        replica.data.close();
        replica.data = await this.#openData(order);
      }
    } else {
      this.#dispose();
      this.#replica = await this.#loadReplica(order);
    }
    if (this.#closed) {
      this.#dispose();
      return;
    }
    const { model, engine, state } = this.#ready();
    const { layout } = model;
    const { device, version: engineVersion } = engine;
    const memory = this.#memory;
    const lent = {
      parameters: memory.lend(state.parameters),
      firstMoment: memory.lend(state.firstMoment),
      secondMoment: memory.lend(state.secondMoment),
      reduced: memory.lend(state.reduced),
      blockSums: state.blockSums,
    };
    this.#reply({ type: 'prepared', layout, device, engineVersion, state: lent, held: this.#held });
  }

  async #loadReplica(order: PrepareOrder): Promise<Replica> {
    const { config, datasetSha256 } = order;
    const data = await this.#openData(order);
    const { device } = this.#engineChoice;
    const engine = await loadEngine(this.#engineName(config), {
      ...{ threads: ENGINE_THREADS, device, matmulPrecision: config.matmulPrecision },
    });
    const kernels = createKernels(config.gradientPrecision, this.#helpers);
    const model = createTrainingModel({
      tf: engine.tf,
      model: config.model,
      objective: config.objective,
      specialIds: data.manifest.specialIds,
      dropoutMasks: kernels,
      readInto: engine.readInto,
      allocate: (floats) => this.#memory.allocatePrivate(floats),
      readsBeside: engine.readsBeside,
    });
    requireFitting(engine, config, model.layout);
    const floats = layoutSize(model.layout);
    const vector = () => this.#memory.allocatePrivate(floats);
    const state: SharedState = {
      parameters: vector(),
      firstMoment: vector(),
      secondMoment: vector(),
      reduced: this.#memory.allocate(floats),
      blockSums: new Float64Array(new SharedArrayBuffer(numBlocks(floats) * 8)),
    };
    const { microBatches } = config.step;
    const replica: Replica = {
      config,
      engine,
      datasetSha256,
      data,
      model,
      kernels,
      state,
      gradients: new SlotGradients({
        ...{ engine, model, parameters: state.parameters, microBatches },
        onRestart: this.#onDeviceRestart,
        fragments: new FragmentStore(kernels, floats, microBatches, (length) =>
          this.#memory.allocate(length),
        ),
        // They are sums in float32.
        sums: config.gradientPrecision === 'float32' ? await engine.deviceSums() : null,
        batchOf: (key) => microBatch(replica.data, key, config.data, config.step),
      }),
      blockDigests: new BigUint64Array(numBlocks(floats)),
    };
    return replica;
  }

  async #openData({ datasetSha256: sha256, transfer }: PrepareOrder): Promise<TrainingData> {
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

  #engineName({ engine, mixedEngines }: RunConfig): RunConfig['engine'] {
    const { name } = this.#engineChoice;
    if (name === null || name === engine || mixedEngines) return name ?? engine;
    throw new LockstepError(
      'CONFIG_MISMATCH',
      `--engine ${name}: the run computes with ${engine}; leave the flag out, or start a run with --set mixedEngines=true, whose weights depend on who computed what`,
      { context: { field: '--engine', value: name } },
    );
  }

  #initialize(): void {
    const { config, model, state } = this.#ready();
    initializeParameters(model.layout, config.model, config.seed, state.parameters);
    state.firstMoment.fill(0);
    state.secondMoment.fill(0);
    this.#load(0);
  }

  #load(step: number): void {
    const { model, state, gradients } = this.#ready();
    gradients.clear();
    model.setParameters(state.parameters);
    const parametersDigest = this.#digestParameters();
    this.#held = { step, parametersDigest };
    this.#reply({ type: 'loaded', parametersDigest });
  }

  #adopt(): void {
    assert(this.#held !== null, 'the replica holds the state that it is to go on with');
    this.#ready().gradients.clear();
    this.#reply({ type: 'loaded', parametersDigest: this.#held.parametersDigest });
  }

  async #compute({ job, step, first, count, gate: shared }: ComputeOrder): Promise<void> {
    const gate = new SlotGate(shared);
    for (let slot = first; slot < first + count && gate.isOpen; slot += 1) {
      const isWanted = await this.#computeSlot(job, step, slot, gate, slot + 1 < first + count);
      if (!isWanted || this.#closed) break;
    }
    await this.#bringRestHome();
    this.#reply({ type: 'rangeEnded', job });
    // While others compute and the step is reduced; workers alike often get the same range again.
    if (step < this.#ready().config.steps) this.#beginAhead(step + 1, first);
  }

  /** One micro-batch into the fragments; false when it is not wanted any more, or not finite, which is said. */
  async #computeSlot(
    job: string,
    step: number,
    slot: number,
    gate: SlotGate,
    hasNext: boolean,
  ): Promise<boolean> {
    const { config, engine, gradients } = this.#ready();
    const startMs = performance.now();
    const batch = await this.#batchOf(step, slot);
    if (this.#closed) return false;
    // Its reads go on while the engine blocks this thread.
    if (hasNext) this.#beginAhead(step, slot + 1);
    const dataMilliseconds = performance.now() - startMs;
    const gradient = await gradients.compute(batch, { seed: config.seed, step, slot });
    const { lossSum, realTokens } = gradient;
    await this.#breathe();
    if (this.#closed || !gate.settle()) {
      gradient.drop();
      return false;
    }
    if (!gradient.keep()) {
      const reason = 'the gradient holds a value that is not finite';
      this.#reply({ type: 'notFinite', step, slot, reason });
      return false;
    }
    // A reduction would wait for the slot after this one, if that is taken back while it is computed.
    const waitsLong = performance.now() - startMs > config.network.heartbeatLimitMs * SHARE_OF_LIMIT;
    if (!hasNext || !gate.isOpen || waitsLong) await gradients.bringHome();
    this.#areOnDevice = gradients.areOnDevice;
    this.#reply({
      type: 'slotComputed',
      job,
      result: { slot, tokens: realTokens, lossSum },
      fragments: this.#lentFragments(),
      areOnDevice: this.#areOnDevice,
      milliseconds: performance.now() - startMs,
      dataMilliseconds,
      engineBytes: engine.tf.memory().numBytes,
    });
    return true;
  }

  /** Whoever was told that sums are on the device is told that they are home, in any case. */
  async #bringRestHome(): Promise<void> {
    if (!this.#areOnDevice || this.#closed) return;
    await this.#ready().gradients.bringHome();
    this.#areOnDevice = false;
    this.#reply({ type: 'fragmentsHome', fragments: this.#lentFragments() });
  }

  #lentFragments(): Lent<SharedFragment>[] {
    const lend = (fragment: SharedFragment) => ({ ...fragment, value: this.#memory.lend(fragment.value) });
    return this.#ready().gradients.fragments().map(lend);
  }

  #batchOf(step: number, slot: number): Promise<MicroBatch> {
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead?.step === step && ahead.slot === slot) return ahead.batch;
    const { config, data } = this.#ready();
    return microBatch(data, { seed: config.seed, step, slot }, config.data, config.step);
  }

  #beginAhead(step: number, slot: number): void {
    const batch = this.#batchOf(step, slot);
    // What goes wrong is told when it is asked for, if it ever is.
    batch.catch(() => {});
    this.#ahead = { step, slot, batch };
  }

  /** Lets a message to stop through, and plays a slow device if asked to. */
  #breathe(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#throttleMs > 0) setTimeout(resolve, this.#throttleMs);
      else setImmediate(resolve);
    });
  }

  #apply({ step, tokens, learningRate, gradient }: Extract<ToCompute, { type: 'apply' }>): void {
    const { config, kernels, model, state, blockDigests } = this.#ready();
    assert(this.#held?.step === step - 1, `step ${step} follows the one that is held`);
    const startMs = performance.now();
    // Until all of it is done the vectors are no step's.
    this.#held = null;
    const { clipNorm } = config.optimizer;
    const norm = globalNorm(gradient.blockSums) / tokens;
    const clip = clipNorm === null || norm <= clipNorm ? 1 : clipNorm / norm;
    const gradientScale = clip / tokens;
    const scalars = adamwScalars(config.optimizer, { step, learningRate, gradientScale });
    const { parameters, firstMoment, secondMoment } = state;
    const reduced = this.#memory.borrow(gradient.reduced);
    kernels.adamw({ parameters, gradient: reduced, firstMoment, secondMoment }, scalars, blockDigests);
    this.#ready().gradients.clear();
    model.setParameters(parameters);
    const parametersDigest = combineDigests(blockDigests);
    this.#held = { step, parametersDigest };
    this.#reply({ type: 'applied', step, parametersDigest, milliseconds: performance.now() - startMs });
  }

  #skip(step: number): void {
    assert(this.#held?.step === step - 1, `step ${step} follows the one that is held`);
    this.#ready().gradients.clear();
    const { parametersDigest } = this.#held;
    this.#held = { step, parametersDigest };
    this.#reply({ type: 'applied', step, parametersDigest, milliseconds: 0 });
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

/** Throws CONFIG_INVALID for what the engine cannot hold. */
function requireFitting(engine: Engine, { model }: RunConfig, layout: ParameterLayout): void {
  const largest = layout.reduce((left, right) => (right.size > left.size ? right : left));
  if (largest.size * 4 <= engine.tensorBytesMax) return;
  throw new LockstepError(
    'CONFIG_INVALID',
    `model: ${largest.name} of ${largest.shape.join(' x ')} takes ${largest.size * 4} bytes, and ${engine.device} holds at most ${engine.tensorBytesMax} in one buffer: ` +
      `lower model.vocabSize ${model.vocabSize} or model.dModel ${model.dModel}, or choose another device`,
    { context: { field: 'model', value: largest.size * 4 } },
  );
}

/** Whether what was prepared for another comm thread is what this run needs too. */
function isPreparedFor(replica: Replica, { config, datasetSha256 }: PrepareOrder): boolean {
  return replica.datasetSha256 === datasetSha256 && canonicalJson(replica.config) === canonicalJson(config);
}
