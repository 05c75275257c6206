/**
 * Multi-head scaled dot-product attention as one operation with a hand-derived gradient.
 *
 * Legend: B batch, Q queries and K keys per sequence, D model, H heads, E features of a head.
 * The query is scaled after its bias, as in BART: (W x + b) / sqrt(E) (ELMER.md section 8, pitfall 2).
 */
import { FUSED_KERNELS } from '../base/index.ts';
import { differentiable, fusedKernel, type Tensor, type Tf } from './differentiable.ts';

export interface AttentionShape {
  readonly batchSize: number;
  readonly heads: number;
  readonly numQueries: number;
  readonly numKeys: number;
}

export interface AttentionOptions extends AttentionShape {
  /**
   * Added to the scores, [B, 1, 1, K] for padded keys or [1, 1, Q, K] for a causal mask: 0 where a query attends,
   * a large negative number where not; null attends to all.
   */
  readonly keyBias: Tensor | null;
  /** Dropout of the attention weights, [B, H, Q, K]; null for none. */
  readonly weightMask: Tensor | null;
}

/** Context rows [B*Q, D] for queries [B*Q, D], keys and values [B*K, D]. */
export function attention(
  tf: Tf,
  query: Tensor,
  key: Tensor,
  value: Tensor,
  { batchSize, heads, numQueries, numKeys, keyBias, weightMask }: AttentionOptions,
): Tensor {
  const dModel = query.shape[1]!;
  const headSize = dModel / heads;
  const scale = 1 / Math.sqrt(headSize);
  const fused = fusedKernel(tf, FUSED_KERNELS.attention);
  const fusedGradient = fusedKernel(tf, FUSED_KERNELS.attentionGradient);
  if (fused !== null && fusedGradient !== null) {
    const attributes = { batchSize, heads, scale };
    return differentiable(
      tf,
      [query, key, value],
      () => {
        const [context, ...kept] = fused({ query, key, value, keyBias, weightMask }, attributes);
        return { value: context!, saved: [context!, keyBias, weightMask, ...kept].filter((x) => x !== null) };
      },
      (dContext, saved) => {
        const [context, ...rest] = saved;
        const bias = keyBias === null ? null : rest.shift();
        const mask = weightMask === null ? null : rest.shift();
        const [ofQuery, ofKey, ofValue, weights, kept] = rest;
        return fusedGradient(
          {
            ...{ dContext, context, keyBias: bias, weightMask: mask },
            ...{ query: ofQuery, key: ofKey, value: ofValue, weights, kept },
          },
          attributes,
        );
      },
    );
  }
  /** [B*rows, D] to [B, H, rows, E] */
  const split = (x: Tensor, rows: number) =>
    tf.transpose(tf.reshape(x, [batchSize, rows, heads, headSize]), [0, 2, 1, 3]);
  /** [B, H, rows, E] to [B*rows, D] */
  const merge = (x: Tensor, rows: number) =>
    tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batchSize * rows, dModel]);

  return differentiable(
    tf,
    [query, key, value],
    () => {
      const query_BHQE = split(tf.mul(query, scale), numQueries);
      const key_BHKE = split(key, numKeys);
      const value_BHKE = split(value, numKeys);
      const scores_BHQK = tf.matMul(query_BHQE, key_BHKE, false, true);
      const weights_BHQK = tf.softmax(keyBias === null ? scores_BHQK : tf.add(scores_BHQK, keyBias));
      const kept_BHQK = weightMask === null ? weights_BHQK : tf.mul(weights_BHQK, weightMask);
      const context = merge(tf.matMul(kept_BHQK, value_BHKE), numQueries);
      const masked = weightMask === null ? [] : [kept_BHQK, weightMask];
      return { value: context, saved: [query_BHQE, key_BHKE, value_BHKE, weights_BHQK, ...masked] };
    },
    (dContext, [query_BHQE, key_BHKE, value_BHKE, weights, kept, mask]) => {
      const dContext_BHQE = split(dContext, numQueries);
      const dValue_BHKE = tf.matMul(kept ?? weights!, dContext_BHQE, true, false);
      const dKept_BHQK = tf.matMul(dContext_BHQE, value_BHKE!, false, true);
      const dWeights_BHQK = mask === undefined ? dKept_BHQK : tf.mul(dKept_BHQK, mask);
      const product_BHQK = tf.mul(dWeights_BHQK, weights!);
      const dScores_BHQK = tf.sub(product_BHQK, tf.mul(weights!, tf.sum(product_BHQK, -1, true)));
      return [
        tf.mul(merge(tf.matMul(dScores_BHQK, key_BHKE!), numQueries), scale),
        merge(tf.matMul(dScores_BHQK, query_BHQE!, true, false), numKeys),
        merge(dValue_BHKE, numKeys),
      ];
    },
  );
}
