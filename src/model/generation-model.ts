/**
 * The model as generation uses it: sources in, tokens out, with the layer and the confidence of each. The
 * stateful parts are the uploaded parameters, folded (inference-weights.ts), and what is derived of them once.
 *
 * Invariants: no tensor outlives a call but the parameters and the encoded batch that the caller frees. The
 * length of the output is never read from a reference: every sequence gets `targetLength` slots and ends at
 * its first `</s>`.
 */
import { assert, LockstepError, layoutSize, type ParameterLayout } from '../base/index.ts';
import type { ModelConfig, ObjectiveKind } from '../config/index.ts';
import { decodeWithBeams } from './beam-search.ts';
import type { Tensor, Tf } from './differentiable.ts';
import { paddingBias } from './encoder.ts';
import { decodeGreedily } from './greedy.ts';
import { InferenceLayers } from './inference-layers.ts';
import { disposeWeights, foldWeights, type InferenceWeights } from './inference-weights.ts';
import type { SourceBatch, SpecialIds } from './micro-batch.ts';
import {
  type DecodedBatch,
  decodeInParallel,
  type EncodedSource,
  type Exit,
  type Inference,
} from './parallel-decoder.ts';
import { parameterLayout, treeOf } from './parameters.ts';
import { expectedTokens, shortlistOf } from './shortlist.ts';

export const CONFIDENCES = ['shortlist', 'full'] as const;
/** What the confidence test reads: a candidate sub-vocabulary, or all of it as published. */
export type Confidence = (typeof CONFIDENCES)[number];

export interface GenerationModelOptions {
  readonly tf: Tf;
  readonly model: ModelConfig;
  readonly kind: ObjectiveKind;
  readonly specialIds: SpecialIds;
  /** K, how many of the tokens that the model gives most often are in every shortlist. */
  readonly shortlistSize?: number;
}

export interface DecodingOptions {
  readonly exit: Exit;
  /** Hard exit: nats; a slot leaves below it. */
  readonly threshold: number;
  /** Hard exit: the share of a sequence's slots whose leaving lets the others leave; 1 waits for each. */
  readonly quorum: number;
  readonly confidence: Confidence;
  /** Slots of every sequence. */
  readonly targetLength: number;
  /** Autoregressive: 1 decodes greedily. */
  readonly beams: number;
  readonly lengthPenalty: number;
}

/** A batch of sources as the encoder left it; `dispose` frees its tensors. */
export interface EncodedBatch extends EncodedSource {
  readonly sourceIds: Int32Array;
  dispose(): void;
}

export interface GenerationModel {
  readonly layout: ParameterLayout;
  /** Uploads parameters (layout order). `flat` may be shared memory and may change after the call. */
  setParameters(flat: Float32Array): void;
  /** Throws CONFIG_INVALID for a source that does not fit the position table. */
  encode(batch: SourceBatch): EncodedBatch;
  /** One sequence for each source. Throws CONFIG_INVALID for an exit that this model has not got. */
  decode(encoded: EncodedBatch, options: DecodingOptions): Promise<DecodedBatch>;
  dispose(): void;
}

const SHORTLIST_SIZE = 256;

export function createGenerationModel(options: GenerationModelOptions): GenerationModel {
  const { tf, model, kind, specialIds, shortlistSize = SHORTLIST_SIZE } = options;
  const layout = parameterLayout(model);
  const size = layoutSize(layout);
  const layers = new InferenceLayers(tf, model);
  let weights: InferenceWeights | null = null;
  let expected: Int32Array | null = null;

  const inference = (): Inference => {
    assert(weights !== null, 'setParameters comes before any computation');
    return { layers, weights, specialIds };
  };

  const release = () => {
    if (weights !== null) disposeWeights(tf, weights);
    weights = null;
    expected = null;
  };

  const encode = ({ batchSize, sourceIds, sourceLength, sourceLengths }: SourceBatch): EncodedBatch => {
    requireLength(model, 'source', sourceLength);
    const keyBias = paddingBias(tf, sourceLengths, sourceLength);
    const hidden = layers.encode(inference().weights, sourceIds, batchSize, keyBias);
    const dispose = () => tf.dispose(keyBias === null ? [hidden] : [hidden, keyBias]);
    return { batchSize, hidden, keyBias, sourceIds, dispose };
  };

  const wordsExpected = async (): Promise<Int32Array> => {
    if (expected !== null) return expected;
    const sourceIds = Int32Array.of(specialIds.bos, specialIds.eos);
    const wordless = encode({ batchSize: 1, sourceLength: 2, sourceIds, sourceLengths: Int32Array.of(2) });
    const { maxPositions } = model;
    const found = await expectedTokens(inference(), wordless, { count: shortlistSize, maxPositions });
    wordless.dispose();
    expected = found;
    return found;
  };

  const decodeParallel = async (encoded: EncodedBatch, decoding: DecodingOptions): Promise<DecodedBatch> => {
    const { exit, threshold, quorum, confidence, targetLength } = decoding;
    const all = { embeddings: inference().weights.offRamp, ids: null };
    const words =
      confidence === 'full' ? all : shortlistOf(inference(), encoded.sourceIds, await wordsExpected());
    try {
      return await decodeInParallel(inference(), encoded, { exit, threshold, quorum, targetLength, words });
    } finally {
      if (words !== all) words.embeddings.values.dispose();
    }
  };

  return {
    layout,

    setParameters(flat) {
      assert(flat.length === size, `parameter vector of ${flat.length} floats, layout has ${size}`);
      release();
      weights = tf.tidy(() => {
        const leaves: Tensor[] = layout.map(({ shape, offset, size: length }) =>
          // A copy: tfjs reads the array it is given only when an operation first needs it.
          tf.tensor(flat.slice(offset, offset + length), [...shape]),
        );
        const folded = foldWeights(tf, model, treeOf(model, leaves));
        return folded as unknown as Tensor;
      }) as unknown as InferenceWeights;
    },

    encode,

    async decode(encoded, decoding) {
      requireLength(model, 'target', decoding.targetLength);
      requireExit(kind, model, decoding);
      const { beams, lengthPenalty, targetLength } = decoding;
      if (kind !== 'autoregressive') return decodeParallel(encoded, decoding);
      if (beams === 1) return decodeGreedily(inference(), encoded, targetLength);
      return decodeWithBeams(inference(), encoded, { beams, lengthPenalty, targetLength });
    },

    dispose() {
      release();
      layers.dispose();
    },
  };
}

function requireExit(kind: ObjectiveKind, model: ModelConfig, { exit, beams }: DecodingOptions): void {
  const refuse = (field: string, value: string | number, why: string): never => {
    throw new LockstepError('CONFIG_INVALID', `${field} is ${value}: ${why}`, { context: { field, value } });
  };
  if (kind === 'autoregressive') {
    if (exit !== 'full') refuse('exit', exit, 'an autoregressive model runs all layers; use full');
    return;
  }
  if (beams !== 1) refuse('beams', beams, 'only an autoregressive model has beams; use 1');
  if (exit === 'soft' && !model.concatHead)
    refuse('exit', exit, 'the model has no concat_head; use full or hard');
}

function requireLength(model: ModelConfig, what: string, length: number): void {
  if (length >= 1 && length <= model.maxPositions) return;
  throw new LockstepError(
    'CONFIG_INVALID',
    `a ${what} of ${length} tokens does not fit the model's ${model.maxPositions} positions; give 1 to ${model.maxPositions}`,
    { context: { field: 'model.maxPositions', value: model.maxPositions, length } },
  );
}
