/** The three sizes a run starts from. A file and flags override any part of a preset. */
import type { PresetName, RunConfig } from './run-config.ts';

const NOISE = { sentencePermutation: 1, maskRatio: 0.3, poissonLambda: 3.5, randomTokenRatio: 0.1 } as const;

const DATA = { packing: 'documents', validationShare: 0, noise: NOISE } as const;

const COMMON = {
  seed: 1,
  engine: 'auto',
  objective: { exitLayers: 'iid', detachCopies: true },
  network: { heartbeatLimitMs: 2000, pieceBytes: 1024 * 1024 },
} as const;

export const PRESETS: Readonly<Record<PresetName, RunConfig>> = {
  /** Seconds per run: for the quickstart and for tests. */
  tiny: {
    ...COMMON,
    preset: 'tiny',
    steps: 60,
    model: {
      vocabSize: 0,
      dModel: 64,
      encoderLayers: 2,
      decoderLayers: 2,
      heads: 4,
      ffnDim: 256,
      maxPositions: 64,
      dropout: 0.1,
      attentionDropout: 0,
      activationDropout: 0,
      initStd: 0.02,
    },
    data: { ...DATA, sequenceLength: 48 },
    step: { microBatches: 8, microBatchSize: 4 },
    optimizer: {
      learningRate: 3e-3,
      schedule: 'linear',
      warmupSteps: 10,
      decaySteps: null,
      finalLearningRateRatio: 0.1,
      beta1: 0.9,
      beta2: 0.98,
      epsilon: 1e-8,
      weightDecay: 0.01,
      clipNorm: 1,
      onNotFinite: 'stop',
    },
    checkpoint: { every: 20, keepLast: 3, keepEvery: null },
  },
  /** About 8 M parameters with a vocabulary of 8,000. */
  small: {
    ...COMMON,
    preset: 'small',
    steps: 2000,
    model: {
      vocabSize: 0,
      dModel: 256,
      encoderLayers: 3,
      decoderLayers: 3,
      heads: 4,
      ffnDim: 1024,
      maxPositions: 256,
      dropout: 0.1,
      attentionDropout: 0.1,
      activationDropout: 0.1,
      initStd: 0.02,
    },
    data: { ...DATA, sequenceLength: 128 },
    step: { microBatches: 16, microBatchSize: 4 },
    optimizer: {
      learningRate: 1e-3,
      schedule: 'cosine',
      warmupSteps: 100,
      decaySteps: null,
      finalLearningRateRatio: 0.1,
      beta1: 0.9,
      beta2: 0.98,
      epsilon: 1e-8,
      weightDecay: 0.01,
      clipNorm: 1,
      onNotFinite: 'stop',
    },
    checkpoint: { every: 100, keepLast: 3, keepEvery: null },
  },
  /** BART-base sizes with the published pre-training settings (4096 sequences per step). */
  base: {
    ...COMMON,
    preset: 'base',
    steps: 80_000,
    model: {
      vocabSize: 0,
      dModel: 768,
      encoderLayers: 6,
      decoderLayers: 6,
      heads: 12,
      ffnDim: 3072,
      maxPositions: 1024,
      dropout: 0.1,
      attentionDropout: 0.1,
      activationDropout: 0.1,
      initStd: 0.02,
    },
    data: { ...DATA, sequenceLength: 512 },
    step: { microBatches: 256, microBatchSize: 16 },
    optimizer: {
      learningRate: 2e-5,
      schedule: 'constant',
      warmupSteps: 0,
      decaySteps: null,
      finalLearningRateRatio: 0.1,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0,
      clipNorm: 2,
      onNotFinite: 'stop',
    },
    checkpoint: { every: 1000, keepLast: 3, keepEvery: 5000 },
  },
};
