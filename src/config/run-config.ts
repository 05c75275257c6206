/**
 * The description of a run: everything that decides the bits of its weights, and the few settings
 * of the run that do not. One schema, parsed once, frozen, passed down.
 *
 * `fingerprintOf` covers what decides the bits; a worker, a checkpoint and a resumed run must agree on it.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';

const positiveInt = z.int().min(1);
const probability = z.number().min(0).max(1);
/** A rate of dropped elements; 1 would drop them all and divide by zero. */
const dropRate = z.number().min(0).lt(1);

export const ENGINE_NAMES = ['tensorflow', 'webgpu', 'wasm'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];
export const PRESET_NAMES = ['tiny', 'small', 'base'] as const;
export type PresetName = (typeof PRESET_NAMES)[number];
export const MATMUL_PRECISIONS = ['float32', 'float16'] as const;
export type MatmulPrecision = (typeof MATMUL_PRECISIONS)[number];

const modelSchema = z
  .strictObject({
    /** Number of token ids; 0 takes it from the data set's tokenizer. */
    vocabSize: z.int().min(0),
    dModel: positiveInt,
    encoderLayers: positiveInt,
    decoderLayers: positiveInt,
    heads: positiveInt,
    ffnDim: positiveInt,
    /** Rows of each position table less the two that BART leaves unused: the longest sequence, in tokens. */
    maxPositions: positiveInt,
    dropout: dropRate,
    attentionDropout: dropRate,
    activationDropout: dropRate,
    /** Standard deviation of the normal distribution that weights start from. */
    initStd: z.number().positive(),
    /** Whether there is a `concat_head`, the matrix between decoder layers that objective `soft` needs. */
    concatHead: z.boolean().default(false),
  })
  .refine((model) => model.dModel % model.heads === 0, {
    path: ['heads'],
    message: 'must divide dModel evenly',
  });

const noiseSchema = z.strictObject({
  /** Probability that an example's sentences are shuffled. */
  sentencePermutation: probability,
  /** Share of the words that text infilling masks. */
  maskRatio: probability,
  /** Mean of the Poisson distribution of span lengths, in words. */
  poissonLambda: z.number().positive().max(20),
  /** Probability that a span becomes a random token instead of `<mask>`. */
  randomTokenRatio: probability,
});

export const PACKINGS = ['documents', 'packed'] as const;
export const TARGET_SLOTS = ['longest', 'random', 'full'] as const;

/** As for sources: a part of a text that is cut after a sentence or a word needs some room. */
export const TARGET_LENGTH_MIN = 8;

const dataSchema = z.strictObject({
  /** Longest source and target, special tokens included, in tokens. */
  sequenceLength: z.int().min(8),
  /**
   * `documents`: a part of one document in each sequence; `packed`: as many parts as fit, each ended by `</s>`.
   * A data set of pairs is never packed, and gets no noise.
   */
  packing: z.enum(PACKINGS).default('documents'),
  /**
   * Longest target, `</s>` included, in tokens, and the number of slots that generation fills. Null takes the
   * sequence length for texts, and for pairs what the data set's targets need. Longer targets of pairs are cut;
   * texts are divided so that none is longer.
   */
  targetLength: z.int().min(TARGET_LENGTH_MIN).nullable().default(null),
  /**
   * Decoder slots of a micro-batch: as many as its longest target has, as published; a random number from
   * there to `targetLength`; or always `targetLength`. Slots beyond a target's end carry no loss, but are
   * attended to: a model that has never seen them cannot tell where to end.
   */
  targetSlots: z.enum(TARGET_SLOTS).default('longest'),
  /** Share of the documents that is held out for validation, chosen by document hash. */
  validationShare: z.number().min(0).max(0.5).default(0),
  noise: noiseSchema,
});

export const OBJECTIVE_KINDS = ['lplm', 'lastLayer', 'soft', 'autoregressive'] as const;
export type ObjectiveKind = (typeof OBJECTIVE_KINDS)[number];

const objectiveSchema = z.strictObject({
  /**
   * What the decoder learns. `lplm`: all slots at once, each predicted at an exit layer of its own. `lastLayer`:
   * all at once, at the last layer only. `soft`: all at once, at every layer, each layer reading what the one
   * below predicts (needs `model.concatHead`). `autoregressive`: each token from those before it, as in BART.
   */
  kind: z.enum(OBJECTIVE_KINDS).default('lplm'),
  /** lplm: how exit layers are drawn: independent and uniform, as published, or each layer equally often in a sequence. */
  exitLayers: z.enum(['iid', 'balanced']),
  /** lplm: whether copies of exited states carry no gradient, as in the published code. */
  detachCopies: z.boolean(),
  /** soft: probability that a layer reads the true token instead of the predicted one. */
  goldRatio: probability.default(0.3),
});

const startSchema = z.strictObject({
  /** SHA-256 (hex) of the parameters that the run starts from. */
  weightsSha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits'),
});

const stepSchema = z.strictObject({
  /** Micro-batches of one step (M), whatever the number of workers. */
  microBatches: z.int().min(1).max(65_536),
  /** Sequences in one micro-batch (B). */
  microBatchSize: z.int().min(1).max(65_536),
});

export const SCHEDULES = ['constant', 'linear', 'cosine', 'inverse-sqrt'] as const;

const optimizerSchema = z.strictObject({
  learningRate: z.number().positive(),
  schedule: z.enum(SCHEDULES),
  warmupSteps: z.int().min(0),
  /** Step at which linear and cosine decay end; null takes the run's number of steps at its first start. */
  decaySteps: positiveInt.nullable(),
  /** What linear and cosine decay end at, as a share of the learning rate. */
  finalLearningRateRatio: probability,
  beta1: z.number().min(0).lt(1),
  beta2: z.number().min(0).lt(1),
  epsilon: z.number().positive(),
  weightDecay: z.number().min(0),
  /** Largest global gradient norm, or null for no clipping. */
  clipNorm: z.number().positive().nullable(),
  /** What becomes of a step whose gradient is not finite: the run stops, or all replicas skip the step alike. */
  onNotFinite: z.enum(['stop', 'skip']),
});

const checkpointSchema = z.strictObject({
  /** Steps from one checkpoint to the next. */
  every: positiveInt,
  /** The newest checkpoints to keep. */
  keepLast: positiveInt,
  /** Keeps each checkpoint whose step is a multiple of this, for good; null keeps none beyond `keepLast`. */
  keepEvery: positiveInt.nullable(),
});

const networkSchema = z.strictObject({
  /**
   * The one deadline setting, in milliseconds: a worker silent for this long is lost. Heartbeats,
   * lock durations and hand-shake limits derive from it (see deadlines.ts).
   */
  heartbeatLimitMs: z.int().min(500).max(600_000),
  /** Largest piece of a gradient that travels in one frame, in bytes. */
  pieceBytes: z
    .int()
    .min(16_384)
    .max(16 * 1024 * 1024)
    .refine((bytes) => bytes % 16_384 === 0, 'must be a multiple of 16384'),
});

export const GRADIENT_PRECISIONS = ['float32', 'bfloat16'] as const;
export type GradientPrecision = (typeof GRADIENT_PRECISIONS)[number];

export const runConfigSchema = z.strictObject({
  preset: z.enum(PRESET_NAMES),
  seed: z.int().min(0),
  engine: z.enum(['auto', ...ENGINE_NAMES]),
  /**
   * Whether workers may compute with other engines, versions and devices than each other's. Replicas stay the
   * same, for sums and optimizer run on the host; but the weights then depend on who computed what, and a
   * step that is repeated after a crash does not equal its record.
   */
  mixedEngines: z.boolean().default(false),
  /**
   * What gradients are summed in. `bfloat16` rounds each micro-batch's gradient and each sum of two to 8 significant
   * bits, so that half the bytes travel between hosts: for a network that training waits for.
   */
  gradientPrecision: z.enum(GRADIENT_PRECISIONS).default('float32'),
  /**
   * What the operands of training's matrix products are rounded to; products and sums are float32 in any case.
   * `float16` needs engine webgpu and a card with the feature `shader-f16`.
   */
  matmulPrecision: z.enum(MATMUL_PRECISIONS).default('float32'),
  /** Steps of the whole run. */
  steps: positiveInt,
  model: modelSchema,
  data: dataSchema,
  objective: objectiveSchema,
  /** Parameters to start from, as `--from` finds them; null draws them from the seed. */
  start: startSchema.nullable().default(null),
  step: stepSchema,
  optimizer: optimizerSchema,
  checkpoint: checkpointSchema,
  network: networkSchema,
});

export type RunConfig = z.infer<typeof runConfigSchema>;
export type ModelConfig = RunConfig['model'];
export type DataConfig = RunConfig['data'];
export type NoiseConfig = DataConfig['noise'];
export type ObjectiveConfig = RunConfig['objective'];
export type StartConfig = RunConfig['start'];
export type StepConfig = RunConfig['step'];
export type OptimizerConfig = RunConfig['optimizer'];
export type CheckpointConfig = RunConfig['checkpoint'];
export type NetworkConfig = RunConfig['network'];

/** The sections of a run that decide the bits of its weights. */
export interface BitDeciding {
  readonly seed: number;
  readonly engine: string;
  readonly model: ModelConfig;
  readonly data: DataConfig;
  readonly objective: ObjectiveConfig;
  readonly start: StartConfig;
  readonly step: StepConfig;
  readonly optimizer: OptimizerConfig;
  /** SHA-256 of the data set's manifest. */
  readonly dataset: string;
  /** Absent where all workers compute alike. */
  readonly mixedEngines?: true;
  /** Absent for float32. */
  readonly gradientPrecision?: 'bfloat16';
  /** Absent where it is float32. */
  readonly matmulPrecision?: MatmulPrecision;
}

export function bitDecidingPart(config: RunConfig, datasetSha256: string): BitDeciding {
  const { seed, engine, model, data, objective, start, step, optimizer } = config;
  const part = { seed, engine, model, data, objective, start, step, optimizer, dataset: datasetSha256 };
  const { mixedEngines, gradientPrecision, matmulPrecision } = config;
  return {
    ...part,
    ...(mixedEngines && { mixedEngines }),
    ...(gradientPrecision !== 'float32' && { gradientPrecision }),
    ...(matmulPrecision !== 'float32' && { matmulPrecision }),
  };
}

/** SHA-256 (hex) over the canonical JSON of what decides the bits. */
export function fingerprintOf(part: BitDeciding): string {
  return createHash('sha256').update(canonicalJson(part)).digest('hex');
}

/** JSON with object keys in code-unit order, so that equal values give equal text. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).filter(([, member]) => member !== undefined);
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}

/** Each leaf that differs, as `path: ours -> theirs`; empty when the two are equal. */
export function listDifferences(ours: unknown, theirs: unknown, path = ''): string[] {
  const isTree = (value: unknown): value is Record<string, unknown> =>
    value !== null && typeof value === 'object';
  if (isTree(ours) && isTree(theirs)) {
    const keys = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].sort();
    return keys.flatMap((key) =>
      listDifferences(ours[key], theirs[key], path === '' ? key : `${path}.${key}`),
    );
  }
  const show = (value: unknown) => JSON.stringify(value) ?? 'not set';
  return Object.is(ours, theirs) ? [] : [`${path}: ${show(ours)} -> ${show(theirs)}`];
}
