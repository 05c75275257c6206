/**
 * The parameters as inference reads them: folded once when they are uploaded, so that a pass runs fewer
 * and faster operations. In exact arithmetic the folded network is the trained one:
 *
 * - linear weights are [in, out]: engines multiply by an untransposed matrix several times faster;
 * - the scale 1/sqrt(E) of queries is in their weights; a key's bias adds the same to every score of a
 *   query, which softmax does not see, and a value's bias, whose weights sum to one, is in the output's;
 * - GELU(u) = v (1 + erf(v)) / sqrt(2) with v = u / sqrt(2): both factors are in the weights around it;
 * - layer norm divides by the root of a sum instead of a mean: sqrt(D) is in its gain.
 *
 * Legend: D model, E features of a head, F feed-forward, V vocabulary, P positions.
 */
import type { ModelConfig } from '../config/index.ts';
import type { Tensor, Tf } from './differentiable.ts';
import {
  type Affine,
  type AttentionParameters,
  type DecoderLayerParameters,
  type EncoderLayerParameters,
  type ParameterTree,
  POSITION_OFFSET,
} from './parameters.ts';
import { type WordEmbeddings, wordEmbeddings } from './vocabulary-head.ts';

/** y = x weight + bias, weight [in, out]. */
export interface Projection {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

export interface AttentionWeights {
  readonly query: Projection;
  /** [D, 2D]: keys, then values; they need no bias. */
  readonly keyValue: Tensor;
  readonly out: Projection;
}

export interface NormWeights {
  readonly gain: Tensor;
  readonly bias: Tensor;
}

export interface EncoderLayerWeights {
  readonly selfAttention: AttentionWeights;
  readonly selfAttentionNorm: NormWeights;
  readonly fc1: Projection;
  readonly fc2: Projection;
  readonly finalNorm: NormWeights;
}

export interface DecoderLayerWeights extends EncoderLayerWeights {
  readonly crossAttention: AttentionWeights;
  readonly crossAttentionNorm: NormWeights;
}

export interface StackWeights<Layer> {
  /** [P, D]; row p is position p. */
  readonly positions: Tensor;
  readonly embeddingNorm: NormWeights;
  readonly layers: readonly Layer[];
}

export interface InferenceWeights {
  /** [V, D], for lookups. */
  readonly table: Tensor;
  /** The same for the off-ramp. */
  readonly offRamp: WordEmbeddings;
  readonly encoder: StackWeights<EncoderLayerWeights>;
  readonly decoder: StackWeights<DecoderLayerWeights>;
  /** [2D, D] or null. */
  readonly concatHead: Tensor | null;
}

/** New tensors, which `disposeWeights` frees; those of `tree` stay the caller's. */
export function foldWeights(tf: Tf, model: ModelConfig, tree: ParameterTree<Tensor>): InferenceWeights {
  const { dModel, heads, maxPositions } = model;
  const queryScale = 1 / Math.sqrt(dModel / heads);
  const transposed = (weight: Tensor, scale = 1) => tf.tidy(() => tf.mul(tf.transpose(weight), scale));
  const projection = (
    { weight, bias }: Affine<Tensor>,
    weightScale: number,
    biasScale: number,
  ): Projection => ({ weight: transposed(weight, weightScale), bias: tf.mul(bias, biasScale) });
  const attention = ({ k, v, q, out }: AttentionParameters<Tensor>): AttentionWeights => ({
    query: projection(q, queryScale, queryScale),
    keyValue: tf.tidy(() => tf.transpose(tf.concat([k.weight, v.weight], 0))),
    out: {
      weight: transposed(out.weight),
      bias: tf.tidy(() => {
        const ofValues = tf.matMul(out.weight, tf.reshape(v.bias, [dModel, 1]));
        return tf.add(out.bias, tf.reshape(ofValues, [dModel]));
      }),
    },
  });
  const norm = ({ weight, bias }: Affine<Tensor>): NormWeights => ({
    gain: tf.mul(weight, Math.sqrt(dModel)),
    bias: tf.clone(bias),
  });
  const encoderLayer = (layer: EncoderLayerParameters<Tensor>): EncoderLayerWeights => ({
    selfAttention: attention(layer.selfAttention),
    selfAttentionNorm: norm(layer.selfAttentionNorm),
    fc1: projection(layer.fc1, Math.SQRT1_2, Math.SQRT1_2),
    fc2: projection(layer.fc2, Math.SQRT1_2, 1),
    finalNorm: norm(layer.finalNorm),
  });
  const decoderLayer = (layer: DecoderLayerParameters<Tensor>): DecoderLayerWeights => ({
    ...encoderLayer(layer),
    crossAttention: attention(layer.crossAttention),
    crossAttentionNorm: norm(layer.crossAttentionNorm),
  });
  const positions = (table: Tensor) => tf.slice(table, [POSITION_OFFSET, 0], [maxPositions, dModel]);
  const { encoder, decoder } = tree;
  return {
    table: tf.clone(tree.shared),
    offRamp: wordEmbeddings(tf, tree.shared),
    encoder: {
      positions: positions(encoder.positions),
      embeddingNorm: norm(encoder.embeddingNorm),
      layers: encoder.layers.map(encoderLayer),
    },
    decoder: {
      positions: positions(decoder.positions),
      embeddingNorm: norm(decoder.embeddingNorm),
      layers: decoder.layers.map(decoderLayer),
    },
    concatHead: tree.concatHead === null ? null : transposed(tree.concatHead),
  };
}

export function disposeWeights(tf: Tf, weights: InferenceWeights): void {
  // Walks objects and arrays down to the tensors.
  tf.dispose(weights as unknown as Tensor);
}
