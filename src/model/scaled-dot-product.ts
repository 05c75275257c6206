/**
 * Multi-head scaled dot-product attention of one block of sequences, forward and gradient.
 *
 * Legend: B batch, Q queries and K keys per sequence, D model, H heads, E features of a head.
 * The query is scaled after its bias, as in BART: (W x + b) / sqrt(E) (ELMER.md section 8, pitfall 2).
 */
import { FUSED_KERNELS } from '../base/index.ts';
import { type Forward, fusedKernel, type Tensor, type Tf } from './differentiable.ts';

export interface AttentionShape {
  readonly batchSize: number;
  readonly heads: number;
  readonly numQueries: number;
  readonly numKeys: number;
  /**
   * Added to the scores, [B, 1, 1, K] for padded keys or [1, 1, Q, K] for a causal mask: 0 where a query attends,
   * a large negative number where not; null attends to all.
   */
  readonly keyBias: Tensor | null;
  /** Dropout of the attention weights, [B, H, Q, K]; null for none. */
  readonly weightMask: Tensor | null;
}

/** Context rows [B*Q, D] for queries [B*Q, D], keys and values [B*K, D]. */
export function attend(tf: Tf, query: Tensor, key: Tensor, value: Tensor, shape: AttentionShape): Forward {
  const { batchSize, heads, numQueries, numKeys, keyBias, weightMask } = shape;
  const scale = scaleOf(query, heads);
  const fused = fusedKernel(tf, FUSED_KERNELS.attention);
  if (fused !== null) {
    const [context, ...kept] = fused({ query, key, value, keyBias, weightMask }, { batchSize, heads, scale });
    const saved = [context!, keyBias, weightMask, ...kept].filter((x) => x !== null);
    return { value: context!, saved };
  }
  const query_BHQE = split(tf, tf.mul(query, scale), numQueries, shape);
  const key_BHKE = split(tf, key, numKeys, shape);
  const value_BHKE = split(tf, value, numKeys, shape);
  const scores_BHQK = tf.matMul(query_BHQE, key_BHKE, false, true);
  const weights_BHQK = tf.softmax(keyBias === null ? scores_BHQK : tf.add(scores_BHQK, keyBias));
  const kept_BHQK = weightMask === null ? weights_BHQK : tf.mul(weights_BHQK, weightMask);
  const context = merge(tf, tf.matMul(kept_BHQK, value_BHKE), numQueries, shape);
  const masked = weightMask === null ? [] : [kept_BHQK, weightMask];
  return { value: context, saved: [query_BHQE, key_BHKE, value_BHKE, weights_BHQK, ...masked] };
}

/** The gradients of query, key and value, from what `attend` saved. */
export function attendGradient(
  tf: Tf,
  dContext: Tensor,
  saved: readonly Tensor[],
  shape: AttentionShape,
): Tensor[] {
  const { batchSize, heads, numQueries, numKeys, keyBias, weightMask } = shape;
  const scale = scaleOf(dContext, heads);
  const fused = fusedKernel(tf, FUSED_KERNELS.attentionGradient);
  if (fused !== null) {
    const [context, ...rest] = saved;
    const bias = keyBias === null ? null : rest.shift();
    const mask = weightMask === null ? null : rest.shift();
    const [query, key, value, weights, kept] = rest;
    return fused(
      { ...{ dContext, context, keyBias: bias, weightMask: mask }, ...{ query, key, value, weights, kept } },
      { batchSize, heads, scale },
    );
  }
  const [query_BHQE, key_BHKE, value_BHKE, weights, kept, mask] = saved;
  const dContext_BHQE = split(tf, dContext, numQueries, shape);
  const dValue_BHKE = tf.matMul(kept ?? weights!, dContext_BHQE, true, false);
  const dKept_BHQK = tf.matMul(dContext_BHQE, value_BHKE!, false, true);
  const dWeights_BHQK = mask === undefined ? dKept_BHQK : tf.mul(dKept_BHQK, mask);
  const product_BHQK = tf.mul(dWeights_BHQK, weights!);
  const dScores_BHQK = tf.sub(product_BHQK, tf.mul(weights!, tf.sum(product_BHQK, -1, true)));
  return [
    tf.mul(merge(tf, tf.matMul(dScores_BHQK, key_BHKE!), numQueries, shape), scale),
    merge(tf, tf.matMul(dScores_BHQK, query_BHQE!, true, false), numKeys, shape),
    merge(tf, dValue_BHKE, numKeys, shape),
  ];
}

function scaleOf(rows: Tensor, heads: number): number {
  return 1 / Math.sqrt(rows.shape[1]! / heads);
}

/** [B*rows, D] to [B, H, rows, E] */
function split(tf: Tf, x: Tensor, rows: number, { batchSize, heads }: AttentionShape): Tensor {
  return tf.transpose(tf.reshape(x, [batchSize, rows, heads, x.shape[1]! / heads]), [0, 2, 1, 3]);
}

/** [B, H, rows, E] to [B*rows, D] */
function merge(tf: Tf, x: Tensor, rows: number, { batchSize, heads }: AttentionShape): Tensor {
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batchSize * rows, heads * x.shape[3]!]);
}
