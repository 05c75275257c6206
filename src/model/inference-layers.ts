/**
 * The layers of both stacks for inference: no gradients, no dropout, folded weights.
 *
 * Legend: B sequences, Q queries and K keys of each, S source, D model, H heads, E features of a head,
 * N rows (a row is one token of one sequence). Every function returns tensors that the caller frees.
 */
import { FUSED_KERNELS } from '../base/index.ts';
import { fusedKernel, type Tensor, type Tf } from './differentiable.ts';
import type {
  AttentionWeights,
  EncoderLayerWeights,
  InferenceWeights,
  NormWeights,
  Projection,
} from './inference-weights.ts';

const LAYER_NORM_EPSILON = 1e-5;

/** Keys and values of one attention, [B, H, K, E] each. */
export interface KeysAndValues {
  readonly keys: Tensor;
  readonly values: Tensor;
}

export class InferenceLayers {
  readonly tf: Tf;
  readonly heads: number;
  readonly dModel: number;
  /** [D, 1] of 1/D and of 1: their products are a row's mean and sum in one operation. */
  readonly #mean: Tensor;
  readonly #sum: Tensor;

  constructor(tf: Tf, model: { readonly dModel: number; readonly heads: number }) {
    this.tf = tf;
    this.heads = model.heads;
    this.dModel = model.dModel;
    this.#mean = tf.fill([model.dModel, 1], 1 / model.dModel);
    this.#sum = tf.fill([model.dModel, 1], 1);
  }

  dispose(): void {
    this.tf.dispose([this.#mean, this.#sum]);
  }

  project(x: Tensor, { weight, bias }: Projection): Tensor {
    const { tf } = this;
    return tf.add(tf.matMul(x, weight), bias);
  }

  /** Layer norm of rows [N, D]. */
  norm(x: Tensor, { gain, bias }: NormWeights): Tensor {
    const { tf } = this;
    const centred = tf.sub(x, tf.matMul(x, this.#mean));
    const squares = tf.matMul(tf.square(centred), this.#sum);
    const scale = tf.rsqrt(tf.add(squares, LAYER_NORM_EPSILON * this.dModel));
    return tf.add(tf.mul(tf.mul(centred, scale), gain), bias);
  }

  /** Keys and values of `all` [B*K, D]. */
  keysAndValues(all: Tensor, { keyValue }: AttentionWeights, batchSize: number): KeysAndValues {
    const { tf, heads, dModel } = this;
    const fused = fusedKernel(tf, FUSED_KERNELS.keysAndValues);
    if (fused !== null) {
      const [keys, values] = fused({ all, weight: keyValue }, { batchSize, heads });
      return { keys: keys!, values: values! };
    }
    const both = tf.reshape(tf.matMul(all, keyValue), [batchSize, -1, 2 * heads, dModel / heads]);
    const [keys, values] = tf.split(tf.transpose(both, [0, 2, 1, 3]), 2, 1);
    return { keys: keys!, values: values! };
  }

  /** LN(x + attention(x)) for rows x [B*Q, D]; `keyBias` [B, 1, 1, K] is added to the scores. */
  attend(
    x: Tensor,
    weights: AttentionWeights,
    norm: NormWeights,
    { keys, values }: KeysAndValues,
    keyBias: Tensor | null,
  ): Tensor {
    const { tf, heads, dModel } = this;
    const fused = fusedKernel(tf, FUSED_KERNELS.attendedNorm);
    if (fused !== null) {
      const { query, out } = weights;
      const projections = {
        ...{ queryWeight: query.weight, queryBias: query.bias },
        ...{ outWeight: out.weight, outBias: out.bias },
      };
      const inputs = { x, keys, values, keyBias, ...projections, ...norm };
      return fused(inputs, { epsilon: LAYER_NORM_EPSILON })[0]!;
    }
    const batchSize = keys.shape[0]!;
    const query = this.#heads(this.project(x, weights.query), batchSize);
    const scores = tf.matMul(query, keys, false, true);
    const attention = tf.softmax(keyBias === null ? scores : tf.add(scores, keyBias));
    const context = tf.matMul(attention, values);
    // With one query, [B, H, 1, E] and [B, 1, H, E] lie in memory alike.
    const merged = context.shape[2] === 1 ? context : tf.transpose(context, [0, 2, 1, 3]);
    const output = this.project(tf.reshape(merged, [-1, heads * (dModel / heads)]), weights.out);
    return this.norm(tf.add(x, output), norm);
  }

  /** LN(x + fc2(GELU(fc1 x))); the factors of GELU are in the weights. */
  feedForward(x: Tensor, { fc1, fc2, finalNorm }: EncoderLayerWeights): Tensor {
    const { tf } = this;
    const fused = fusedKernel(tf, FUSED_KERNELS.feedForwardNorm);
    if (fused !== null) {
      const [first, second] = [
        { weight1: fc1.weight, bias1: fc1.bias },
        { weight2: fc2.weight, bias2: fc2.bias },
      ];
      return fused({ x, ...first, ...second, ...finalNorm }, { epsilon: LAYER_NORM_EPSILON })[0]!;
    }
    const scaled = this.project(x, fc1);
    const activated = tf.mul(scaled, tf.add(tf.erf(scaled), 1));
    return this.norm(tf.add(x, this.project(activated, fc2)), finalNorm);
  }

  /** The encoder's states [B*S, D] of ids [B*S]. */
  encode(
    { table, encoder }: InferenceWeights,
    ids: Int32Array,
    batchSize: number,
    keyBias: Tensor | null,
  ): Tensor {
    const { tf, dModel } = this;
    return tf.tidy(() => {
      const length = ids.length / batchSize;
      const words = tf.reshape(tf.gather(table, tf.tensor1d(ids, 'int32')), [batchSize, length, dModel]);
      const placed = tf.add(words, tf.slice(encoder.positions, [0, 0], [length, dModel]));
      const start = this.norm(tf.reshape(placed, [-1, dModel]), encoder.embeddingNorm);
      return encoder.layers.reduce((hidden, layer) => {
        const { selfAttention, selfAttentionNorm } = layer;
        const own = this.keysAndValues(hidden, selfAttention, batchSize);
        return this.feedForward(this.attend(hidden, selfAttention, selfAttentionNorm, own, keyBias), layer);
      }, start);
    });
  }

  /** [B*Q, D] to [B, H, Q, E]. */
  #heads(x: Tensor, batchSize: number): Tensor {
    const { tf, heads, dModel } = this;
    const headSize = dModel / heads;
    if (x.shape[0] === batchSize) return tf.reshape(x, [batchSize, heads, 1, headSize]);
    return tf.transpose(tf.reshape(x, [batchSize, -1, heads, headSize]), [0, 2, 1, 3]);
  }
}
