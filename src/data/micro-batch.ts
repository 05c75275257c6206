/**
 * The micro-batch of one (step, slot): a pure function of the data set, the seed and the configuration,
 * whoever computes it and whenever. B batch, S source length, T target length.
 */
import { assert, PhiloxRng } from '../base/index.ts';
import type { DataConfig, NoiseConfig, StepConfig } from '../config/index.ts';
import { KeyedPermutation } from './keyed-permutation.ts';
import { addNoise } from './noise.ts';
import { type SampleSpec, targetTokensMax } from './samples.ts';
import type { Split } from './split.ts';
import type { TokenKinds } from './token-kinds.ts';
import { BOS_ID, EOS_ID, PAD_ID } from './tokenizer/index.ts';
import type { TrainingData } from './training-data.ts';

export interface MicroBatch {
  /** B */
  readonly batchSize: number;
  /** S: tokens of the longest source. */
  readonly sourceLength: number;
  /** T: tokens of the longest target, or more (`data.targetSlots`). */
  readonly targetLength: number;
  /** B*S: ids from `<s>` to the last `</s>`, noised where the data set is of texts, padded with `<pad>`. */
  readonly sourceIds: Int32Array;
  /** B: real tokens of each source. */
  readonly sourceLengths: Int32Array;
  /** B*T: the target without `<s>` and with a `</s>` after each part, padded with `<pad>`. */
  readonly labels: Int32Array;
  /** Labels that are not padding. */
  readonly realTokens: number;
}

export interface MicroBatchKey {
  readonly seed: number;
  /** From 1. */
  readonly step: number;
  /** 0 .. M-1 */
  readonly slot: number;
}

/** The place of one row in the run: which pass over the data, and which sample of it. */
export interface SamplePlace {
  readonly epoch: number;
  readonly sample: number;
}

/** Rows follow each other through the epochs without a gap, so an epoch may end within a micro-batch. */
export function samplePlace(
  key: MicroBatchKey,
  row: number,
  sampleCount: number,
  stepConfig: StepConfig,
): SamplePlace {
  const { microBatches, microBatchSize } = stepConfig;
  assert(Number.isInteger(key.step) && key.step >= 1, `step ${key.step} is not 1 or more`);
  assert(key.slot >= 0 && key.slot < microBatches, `slot ${key.slot} is not below ${microBatches}`);
  assert(row >= 0 && row < microBatchSize, `row ${row} is not below ${microBatchSize}`);
  const index = ((key.step - 1) * microBatches + key.slot) * microBatchSize + row;
  assert(Number.isSafeInteger(index), `sample number ${index} of the run is too large`);
  const epoch = Math.floor(index / sampleCount);
  return { epoch, sample: new KeyedPermutation(key.seed, epoch, sampleCount).at(index % sampleCount) };
}

/** The spec of a run's samples on one side of the split. */
export function sampleSpecOf(dataConfig: DataConfig, split: Split): SampleSpec {
  const { sequenceLength, targetLength, packing, validationShare } = dataConfig;
  return { sequenceLength, targetLength, packing, validationShare, split };
}

/** The micro-batch that trains slot `key.slot` of step `key.step`. */
export async function microBatch(
  data: TrainingData,
  key: MicroBatchKey,
  dataConfig: DataConfig,
  stepConfig: StepConfig,
): Promise<MicroBatch> {
  const samples = await data.samples(sampleSpecOf(dataConfig, 'train'));
  const rows = Array.from({ length: stepConfig.microBatchSize }, async (_, row) => {
    const { sample } = samplePlace(key, row, samples.count, stepConfig);
    return { parts: await samples.read(sample), substream: row };
  });
  return batchOf(await Promise.all(rows), key, dataConfig, data);
}

/**
 * Samples `first .. first + size - 1` of the validation split, in order; noised by the place of each, the same in every
 * run of a seed. Slots are as many as in training by the same rule, so that the loss is of what the model has learned.
 */
export async function validationBatch(
  data: TrainingData,
  first: number,
  size: number,
  seed: number,
  dataConfig: DataConfig,
): Promise<MicroBatch> {
  const samples = await data.samples(sampleSpecOf(dataConfig, 'validation'));
  assert(first + size <= samples.count, `samples ${first}+${size} are not below ${samples.count}`);
  const rows = Array.from({ length: size }, async (_, row) => ({
    parts: await samples.read(first + row),
    substream: row,
  }));
  // Steps begin with 1, so that step 0 keeps this noise apart from all of training.
  return batchOf(await Promise.all(rows), { seed, step: 0, slot: first }, dataConfig, data);
}

interface Row {
  /** Ids of document parts, without `<s>` and `</s>`; of a pair: its source, then its target. */
  readonly parts: readonly Int32Array[];
  readonly substream: number;
}

function batchOf(
  rows: readonly Row[],
  key: MicroBatchKey,
  dataConfig: DataConfig,
  { manifest, tokenKinds }: TrainingData,
): MicroBatch {
  const isPairs = manifest.pairs !== undefined;
  const { noise, sequenceLength } = dataConfig;
  const sources = rows.map(({ parts, substream }) => {
    if (isPairs) return framed(parts.slice(0, 1));
    const rng = new PhiloxRng({ ...key, stream: 'noise', substream });
    return noisedSource(parts, noise, tokenKinds, rng, sequenceLength);
  });
  const targets = rows.map(({ parts }) => framed(isPairs ? parts.slice(1) : parts).subarray(1));
  const source = padded(sources, longestOf(sources));
  const target = padded(targets, targetSlots(longestOf(targets), dataConfig, key));
  return {
    batchSize: rows.length,
    sourceLength: source.width,
    targetLength: target.width,
    sourceIds: source.ids,
    sourceLengths: Int32Array.from(sources, (ids) => ids.length),
    labels: target.ids,
    realTokens: targets.reduce((sum, ids) => sum + ids.length, 0),
  };
}

/** How many decoder slots a micro-batch gets whose longest target has `longest` tokens, `</s>` included. */
function targetSlots(longest: number, config: DataConfig, key: MicroBatchKey): number {
  const limit = targetTokensMax(config) + 1;
  switch (config.targetSlots) {
    case 'longest':
      return longest;
    case 'random': {
      const rng = new PhiloxRng({ ...key, stream: 'targetSlots', substream: 0 });
      return longest + rng.nextInt(limit - longest + 1);
    }
    case 'full':
      return limit;
  }
}

/**
 * `<s>`, then each part noised on its own and ended by `</s>`: sentences are shuffled within a document, never
 * across two. Insertions take no more room than the parts still to come leave.
 */
function noisedSource(
  parts: readonly Int32Array[],
  noise: NoiseConfig,
  kinds: TokenKinds,
  rng: PhiloxRng,
  sequenceLength: number,
): Int32Array {
  let waiting = parts.reduce((sum, part) => sum + part.length + 1, 0);
  const pieces: Int32Array[] = [];
  let used = 0;
  for (const part of parts) {
    waiting -= part.length + 1;
    // A part after the first brings a `<s>` of its own to the noise, which is then left out.
    const frame = used === 0 ? 0 : 1;
    const noised = addNoise(framed([part]), noise, kinds, rng, sequenceLength - used - waiting + frame);
    const piece = noised.subarray(frame);
    pieces.push(piece);
    used += piece.length;
  }
  const [only] = pieces;
  return pieces.length === 1 ? only! : concatenated(pieces);
}

/** `<s>`, and each part with its `</s>`. */
function framed(parts: readonly Int32Array[]): Int32Array {
  const out = new Int32Array(parts.reduce((sum, part) => sum + part.length + 1, 1));
  out[0] = BOS_ID;
  let place = 1;
  for (const part of parts) {
    out.set(part, place);
    place += part.length;
    out[place] = EOS_ID;
    place += 1;
  }
  return out;
}

function concatenated(pieces: readonly Int32Array[]): Int32Array {
  const out = new Int32Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let place = 0;
  for (const piece of pieces) {
    out.set(piece, place);
    place += piece.length;
  }
  return out;
}

const longestOf = (rows: readonly Int32Array[]) =>
  rows.reduce((longest, { length }) => Math.max(longest, length), 0);

function padded(rows: readonly Int32Array[], width: number): { ids: Int32Array; width: number } {
  const ids = new Int32Array(rows.length * width).fill(PAD_ID);
  rows.forEach((row, index) => {
    ids.set(row, index * width);
  });
  return { ids, width };
}
