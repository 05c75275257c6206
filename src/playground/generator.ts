/**
 * A run's model to try out: its checkpoints and data set, opened for reading, and one checkpoint loaded at a
 * time. For the dashboard it lives in a process of its own (playground.ts): an engine blocks its thread.
 */
import { join } from 'node:path';
import { LockstepError } from '../base/index.ts';
import { listCheckpoints } from '../checkpoint/index.ts';
import type { RunConfig } from '../config/index.ts';
import { CHECKPOINTS_FOLDER, savedConfig } from '../coordinator/index.ts';
import {
  type Dataset,
  type MicroBatch,
  microBatch,
  openDataset,
  PAD_ID,
  sampleSpecOf,
} from '../data/index.ts';
import {
  type GeneratedText,
  type GenerationOptions,
  generationDefaults,
  TextGenerator,
  tokenTexts,
} from '../generation/index.ts';
import type { DatasetFacts, Example, ExamplePlace, GenerateOrder, Generation } from './messages.ts';

export class Generator {
  readonly #runDir: string;
  readonly #dataDir: string;
  readonly #config: RunConfig;
  readonly #dataset: Dataset;
  #texts: TextGenerator | null = null;

  /** Throws DATA_MISSING without a run or data set, DATA_CORRUPT and CONFIG_MISMATCH for one that is wrong. */
  static async open(runDir: string, dataDir: string): Promise<Generator> {
    const config = await savedConfig(runDir);
    if (config === null) throw new LockstepError('DATA_MISSING', `${runDir} holds no run yet`);
    const dataset = await openDataset(dataDir, { verifyHashes: false });
    return new Generator(runDir, dataDir, config, dataset);
  }

  private constructor(runDir: string, dataDir: string, config: RunConfig, dataset: Dataset) {
    this.#runDir = runDir;
    this.#dataDir = dataDir;
    this.#config = config;
    this.#dataset = dataset;
  }

  async describe(): Promise<DatasetFacts> {
    const { documents, tokens, vocabSize } = this.#dataset.manifest;
    const { count } = await this.#dataset.samples(sampleSpecOf(this.#config.data, 'train'));
    return { articles: documents, tokens, vocabSize, samples: count };
  }

  /** Throws CHECKPOINT_INVALID when there is none to ask. */
  async generate({ text, checkpoint, length, threshold }: GenerateOrder): Promise<Generation> {
    const texts = await this.#loaded(checkpoint);
    const { targetLengthMax, vocabSize } = texts.facts;
    const [generated] = await texts.generate([text], {
      ...this.#options,
      ...(threshold === null ? {} : { exit: 'hard', threshold: (1 - threshold) * Math.log(vocabSize) }),
      targetLength: length === null ? null : Math.min(length, targetLengthMax),
    });
    return this.#generationOf(texts, generated!);
  }

  /** One row of a micro-batch, noised as it is in training. */
  async example({ step, slot, row }: ExamplePlace): Promise<Example> {
    const { seed, data, step: stepConfig } = this.#config;
    requireBelow('slot', slot, stepConfig.microBatches);
    requireBelow('row', row, stepConfig.microBatchSize);
    const { sourceIds, labels } = rowOf(
      await microBatch(this.#dataset, { seed, step, slot }, data, stepConfig),
      row,
    );
    const source = sourceIds.subarray(1, sourceIds.length - 1);
    const target = labels.subarray(0, labels.length - 1);
    const { tokenizer } = this.#dataset;
    const { mask } = this.#dataset.manifest.specialIds;
    return {
      source: tokenTexts(tokenizer, source).map((text, place) => ({ text, mask: source[place] === mask })),
      target: tokenTexts(tokenizer, target),
      generated: await this.#guess(sourceIds),
    };
  }

  /** Lets go of model and data set. */
  async close(): Promise<void> {
    await this.#texts?.close();
    this.#dataset.close();
  }

  /** Every layer, and the text as it came. */
  get #options(): GenerationOptions {
    const usual = generationDefaults(this.#config.objective.kind);
    return { ...usual, exit: usual.exit === 'hard' ? 'full' : usual.exit, removeRepeats: false };
  }

  /** What the newest checkpoint makes of a source; null when there is none. */
  async #guess(sourceIds: Int32Array): Promise<Generation | null> {
    const listed = await listCheckpoints(join(this.#runDir, CHECKPOINTS_FOLDER));
    if (!listed.some(({ state }) => state === 'complete')) return null;
    const texts = await this.#loaded(null);
    const [generated] = await texts.generateFromIds([sourceIds], this.#options);
    return this.#generationOf(texts, generated!);
  }

  /** The model with the parameters of a checkpoint; null takes the newest. */
  async #loaded(checkpoint: number | null): Promise<TextGenerator> {
    if (this.#texts === null) {
      this.#texts = await TextGenerator.open(this.#runDir, { data: this.#dataDir, checkpoint });
      return this.#texts;
    }
    const listed = await listCheckpoints(join(this.#runDir, CHECKPOINTS_FOLDER));
    const newest = listed.findLast(({ state }) => state === 'complete')?.step ?? null;
    await this.#texts.load(checkpoint ?? newest);
    return this.#texts;
  }

  #generationOf(texts: TextGenerator, generated: GeneratedText): Generation {
    const { text, tokens, sourceTokens, cutTo, modelMs } = generated;
    return {
      // A run's parameters are of a step.
      step: texts.facts.step!,
      layers: texts.facts.decoderLayers,
      tokens: tokens.map(({ text: shown, layer, probability }) => ({
        ...{ text: shown, layer, confidence: probability },
      })),
      ...{ text, sourceTokens, cutTo, generateMs: modelMs },
    };
  }
}

/** One row of a batch, source and labels cut to their real tokens. */
function rowOf(batch: MicroBatch, row: number): { sourceIds: Int32Array; labels: Int32Array } {
  const first = row * batch.sourceLength;
  const sourceIds = batch.sourceIds.slice(first, first + batch.sourceLengths[row]!);
  const padded = batch.labels.slice(row * batch.targetLength, (row + 1) * batch.targetLength);
  const end = padded.indexOf(PAD_ID);
  return { sourceIds, labels: end === -1 ? padded : padded.slice(0, end) };
}

function requireBelow(what: string, value: number, limit: number): void {
  if (value < limit) return;
  throw new LockstepError('CONFIG_INVALID', `${what} is ${value}: this run has ${limit}, from 0`);
}
