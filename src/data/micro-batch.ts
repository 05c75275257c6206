/**
 * The micro-batch of one (step, slot): a pure function of the data set, the seed and the configuration,
 * whoever computes it and whenever. B batch, S source length, T target length.
 */
import { assert, PhiloxRng } from '../base/index.ts';
import type { DataConfig, StepConfig } from '../config/index.ts';
import type { Dataset } from './dataset.ts';
import { KeyedPermutation } from './keyed-permutation.ts';
import { addNoise } from './noise.ts';
import { BOS_ID, EOS_ID, PAD_ID } from './tokenizer/index.ts';

export interface MicroBatch {
  /** B */
  readonly batchSize: number;
  /** S: tokens of the longest source. */
  readonly sourceLength: number;
  /** T: tokens of the longest target. */
  readonly targetLength: number;
  /** B*S: noised ids from `<s>` to `</s>`, padded with `<pad>`. */
  readonly sourceIds: Int32Array;
  /** B: real tokens of each source. */
  readonly sourceLengths: Int32Array;
  /** B*T: the text without `<s>` and with `</s>`, padded with `<pad>`. */
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

export function microBatch(
  dataset: Dataset,
  key: MicroBatchKey,
  dataConfig: DataConfig,
  stepConfig: StepConfig,
): MicroBatch {
  const { sequenceLength, noise } = dataConfig;
  const samples = dataset.samplesFor(sequenceLength);
  const sources: Int32Array[] = [];
  const targets: Int32Array[] = [];
  for (let row = 0; row < stepConfig.microBatchSize; row += 1) {
    const { sample } = samplePlace(key, row, samples.count, stepConfig);
    const start = samples.starts[sample]!;
    const text = dataset.readTokens(start, samples.starts[sample + 1]! - start);
    const framed = new Int32Array(text.length + 2);
    framed[0] = BOS_ID;
    framed.set(text, 1);
    framed[framed.length - 1] = EOS_ID;
    const rng = new PhiloxRng({ ...key, stream: 'noise', substream: row });
    sources.push(addNoise(framed, noise, dataset.tokenKinds, rng, sequenceLength));
    targets.push(framed.subarray(1));
  }
  const source = padded(sources);
  const target = padded(targets);
  return {
    batchSize: stepConfig.microBatchSize,
    sourceLength: source.width,
    targetLength: target.width,
    sourceIds: source.ids,
    sourceLengths: Int32Array.from(sources, (ids) => ids.length),
    labels: target.ids,
    realTokens: targets.reduce((sum, ids) => sum + ids.length, 0),
  };
}

function padded(rows: readonly Int32Array[]): { ids: Int32Array; width: number } {
  const width = rows.reduce((widest, row) => Math.max(widest, row.length), 0);
  const ids = new Int32Array(rows.length * width).fill(PAD_ID);
  rows.forEach((row, index) => {
    ids.set(row, index * width);
  });
  return { ids, width };
}
