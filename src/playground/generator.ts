/**
 * A run's model to try out: its checkpoints and data set, opened for reading, and one checkpoint loaded at a
 * time. For the dashboard it lives in a process of its own (playground.ts): an engine blocks its thread.
 *
 * The model room decodes every slot through all layers and tells no probabilities, so every token leaves at
 * the last layer and has no confidence.
 */
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { LockstepError, layoutSize } from '../base/index.ts';
import {
  type CheckpointReader,
  checkpointName,
  findNewestValid,
  listCheckpoints,
  openCheckpoint,
} from '../checkpoint/index.ts';
import type { RunConfig } from '../config/index.ts';
import { CHECKPOINTS_FOLDER, savedConfig } from '../coordinator/index.ts';
import {
  BOS_ID,
  type Dataset,
  EOS_ID,
  type MicroBatch,
  microBatch,
  openDataset,
  PAD_ID,
  sampleSpecOf,
} from '../data/index.ts';
import { loadEngine } from '../engine/index.ts';
import { createKernels } from '../kernels/index.ts';
import { createTrainingModel, type SourceBatch, type TrainingModel } from '../model/index.ts';
import type { DatasetFacts, Example, ExamplePlace, GenerateOrder, Generation } from './messages.ts';
import { tokenTexts } from './token-texts.ts';

export class Generator {
  readonly #checkpointsDir: string;
  readonly #config: RunConfig;
  readonly #dataset: Dataset;
  #model: TrainingModel | null = null;
  /** Step of the checkpoint that the model holds. */
  #loaded: number | null = null;

  /** Throws DATA_MISSING without a run or data set, DATA_CORRUPT and CONFIG_MISMATCH for one that is wrong. */
  static async open(runDir: string, dataDir: string): Promise<Generator> {
    const config = await savedConfig(runDir);
    if (config === null) throw new LockstepError('DATA_MISSING', `${runDir} holds no run yet`);
    const dataset = await openDataset(dataDir, { verifyHashes: false });
    return new Generator(join(runDir, CHECKPOINTS_FOLDER), config, dataset);
  }

  private constructor(checkpointsDir: string, config: RunConfig, dataset: Dataset) {
    this.#checkpointsDir = checkpointsDir;
    this.#config = config;
    this.#dataset = dataset;
  }

  async describe(): Promise<DatasetFacts> {
    const { documents, tokens, vocabSize } = this.#dataset.manifest;
    const { count } = await this.#dataset.samples(sampleSpecOf(this.#config.data, 'train'));
    return { articles: documents, tokens, vocabSize, samples: count };
  }

  /** Throws CHECKPOINT_INVALID when there is none to ask. */
  async generate({ text, checkpoint, length }: GenerateOrder): Promise<Generation> {
    const { sequenceLength } = this.#config.data;
    const ids = this.#dataset.tokenizer.encode(text);
    const kept = ids.slice(0, sequenceLength - 2);
    const sourceIds = Int32Array.from([BOS_ID, ...kept, EOS_ID]);
    const sourceLength = sourceIds.length;
    const batch = { batchSize: 1, sourceLength, sourceIds, sourceLengths: Int32Array.of(sourceLength) };
    const step = await this.#load(checkpoint);
    const generation = await this.#generate(step, batch, Math.min(length ?? sequenceLength, this.#lengthMax));
    return { ...generation, cutTo: kept.length < ids.length ? kept.length : null };
  }

  /** One row of a micro-batch, noised as it is in training. */
  async example({ step, slot, row }: ExamplePlace): Promise<Example> {
    const { seed, data, step: stepConfig } = this.#config;
    requireBelow('slot', slot, stepConfig.microBatches);
    requireBelow('row', row, stepConfig.microBatchSize);
    const batch = rowOf(await microBatch(this.#dataset, { seed, step, slot }, data, stepConfig), row);
    const source = batch.sourceIds.subarray(1, batch.sourceLength - 1);
    const target = batch.labels.subarray(0, batch.labels.length - 1);
    const { tokenizer } = this.#dataset;
    const { mask } = this.#dataset.manifest.specialIds;
    const loaded = await this.#loadIfAny();
    return {
      source: tokenTexts(tokenizer, source).map((text, place) => ({ text, mask: source[place] === mask })),
      target: tokenTexts(tokenizer, target),
      generated: loaded === null ? null : await this.#generate(loaded, batch, data.sequenceLength),
    };
  }

  /** Lets go of model and data set. */
  close(): void {
    this.#model?.dispose();
    this.#dataset.close();
  }

  get #lengthMax(): number {
    return this.#config.model.maxPositions;
  }

  async #generate(step: number, batch: SourceBatch, length: number): Promise<Generation> {
    const startMs = performance.now();
    const [ids = new Int32Array()] = await this.#model!.generate(batch, length);
    const generateMs = performance.now() - startMs;
    const { tokenizer } = this.#dataset;
    const layers = this.#config.model.decoderLayers;
    const tokens = tokenTexts(tokenizer, ids).map((text) => ({ text, layer: layers, confidence: null }));
    const sourceTokens = batch.sourceLength;
    return { step, layers, tokens, text: tokenizer.decode(ids), sourceTokens, cutTo: null, generateMs };
  }

  async #loadIfAny(): Promise<number | null> {
    const listed = await listCheckpoints(this.#checkpointsDir);
    return listed.some(({ state }) => state === 'complete') ? this.#load(null) : null;
  }

  /** Puts the checkpoint's parameters into the model, unless they are there already. Its step. */
  async #load(step: number | null): Promise<number> {
    const listed = await listCheckpoints(this.#checkpointsDir);
    const newest = listed.findLast(({ state }) => state === 'complete')?.step ?? null;
    const wanted = step ?? newest;
    if (wanted !== null && wanted === this.#loaded) return wanted;
    const checkpoint = await this.#openVerified(step);
    try {
      this.#model ??= await this.#createModel();
      const parameters = new Float32Array(layoutSize(this.#model.layout));
      await checkpoint.read('parameters', 0, new Uint8Array(parameters.buffer));
      this.#model.setParameters(parameters);
      this.#loaded = checkpoint.step;
      return checkpoint.step;
    } finally {
      await checkpoint.close();
    }
  }

  async #openVerified(step: number | null): Promise<CheckpointReader> {
    if (step !== null) {
      const checkpoint = await openCheckpoint(join(this.#checkpointsDir, checkpointName(step)));
      await checkpoint.verify();
      return checkpoint;
    }
    const { checkpoint } = await findNewestValid(this.#checkpointsDir);
    if (checkpoint !== null) return checkpoint;
    const reason = `${this.#checkpointsDir} holds no valid checkpoint yet: wait for the first one`;
    throw new LockstepError('CHECKPOINT_INVALID', reason);
  }

  async #createModel(): Promise<TrainingModel> {
    const { tf } = await loadEngine(this.#config.engine, { threads: 1 });
    const { specialIds } = this.#dataset.manifest;
    const { model, objective } = this.#config;
    return createTrainingModel({ tf, model, objective, specialIds, dropoutMasks: createKernels() });
  }
}

/** One row as a batch of its own, cut to its real tokens. */
function rowOf(batch: MicroBatch, row: number): SourceBatch & { readonly labels: Int32Array } {
  const sourceLength = batch.sourceLengths[row]!;
  const sourceIds = batch.sourceIds.slice(row * batch.sourceLength, row * batch.sourceLength + sourceLength);
  const padded = batch.labels.slice(row * batch.targetLength, (row + 1) * batch.targetLength);
  const end = padded.indexOf(PAD_ID);
  const labels = end === -1 ? padded : padded.slice(0, end);
  return { batchSize: 1, sourceLength, sourceIds, sourceLengths: Int32Array.of(sourceLength), labels };
}

function requireBelow(what: string, value: number, limit: number): void {
  if (value < limit) return;
  throw new LockstepError('CONFIG_INVALID', `${what} is ${value}: this run has ${limit}, from 0`);
}
