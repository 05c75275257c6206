/** A model small enough for finite differences, and random micro-batches for it. */
import { layoutSize, PhiloxRng } from '../../src/base/index.ts';
import type { ModelConfig, ObjectiveConfig } from '../../src/config/index.ts';
import type { MicroBatch } from '../../src/data/index.ts';
import type { Tf } from '../../src/model/differentiable.ts';
import {
  createTrainingModel,
  initializeParameters,
  parameterLayout,
  type TrainingModel,
} from '../../src/model/index.ts';
import { philoxDropout } from './philox-dropout.ts';

export const SPECIAL_IDS = { bos: 0, pad: 1, eos: 2, mask: 3 } as const;

/** Weights start ten times wider than in a run, so that no part of the model is nearly linear. */
export const MINI_MODEL: ModelConfig = {
  vocabSize: 37,
  dModel: 16,
  encoderLayers: 2,
  decoderLayers: 3,
  heads: 2,
  ffnDim: 24,
  maxPositions: 20,
  dropout: 0,
  attentionDropout: 0,
  activationDropout: 0,
  initStd: 0.2,
  concatHead: false,
};

export function initialParameters(model: ModelConfig, seed = 7): Float32Array {
  const layout = parameterLayout(model);
  const flat = new Float32Array(layoutSize(layout));
  initializeParameters(layout, model, seed, flat);
  // Biases and norms off their start values, so that every gradient formula is exercised.
  const rng = new PhiloxRng({ seed, stream: 'sampling', substream: 99, step: 0, slot: 0 });
  for (const { name, offset, size } of layout) {
    const isVector = name.endsWith('.bias') || /norm/.test(name);
    if (isVector) for (let i = offset; i < offset + size; i += 1) flat[i]! += 0.1 * rng.nextNormal();
  }
  return flat;
}

export interface BatchShape {
  readonly sourceLengths: readonly number[];
  readonly targetLengths: readonly number[];
  /** Pads beyond the longest, where larger. */
  readonly sourceLength?: number;
  readonly targetLength?: number;
}

export function randomBatch(vocabSize: number, shape: BatchShape, seed = 11): MicroBatch {
  const batchSize = shape.sourceLengths.length;
  const sourceLength = shape.sourceLength ?? Math.max(...shape.sourceLengths);
  const targetLength = shape.targetLength ?? Math.max(...shape.targetLengths);
  const rows = (lengths: readonly number[], width: number, substream: number, end: boolean) => {
    const ids = new Int32Array(batchSize * width).fill(SPECIAL_IDS.pad);
    lengths.forEach((length, row) => {
      const rng = new PhiloxRng({ seed, stream: 'sampling', substream, step: 0, slot: row });
      for (let i = 0; i < length; i += 1) ids[row * width + i] = 4 + rng.nextInt(vocabSize - 4);
      if (end) ids[row * width + length - 1] = SPECIAL_IDS.eos;
    });
    return ids;
  };
  return {
    batchSize,
    sourceLength,
    targetLength,
    sourceIds: rows(shape.sourceLengths, sourceLength, 0, false),
    sourceLengths: Int32Array.from(shape.sourceLengths),
    labels: rows(shape.targetLengths, targetLength, 1, true),
    realTokens: shape.targetLengths.reduce((sum, length) => sum + length, 0),
  };
}

export const LPLM: ObjectiveConfig = {
  kind: 'lplm',
  exitLayers: 'iid',
  detachCopies: true,
  goldRatio: 0.3,
};

export function buildModel(
  tf: Tf,
  model: ModelConfig,
  objective: Partial<ObjectiveConfig> = {},
): TrainingModel {
  return createTrainingModel({
    tf,
    model,
    objective: { ...LPLM, ...objective },
    specialIds: SPECIAL_IDS,
    dropoutMasks: philoxDropout,
    readInto: async (tensor, target) => target.set((await tensor.data()) as Float32Array),
  });
}

export function relativeError(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let norm = 0;
  expected.forEach((value, i) => {
    difference += (actual[i]! - value) ** 2;
    norm += value ** 2;
  });
  return Math.sqrt(difference / norm);
}
