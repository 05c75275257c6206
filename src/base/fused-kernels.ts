/**
 * Fused kernels that an engine may offer beyond TensorFlow.js's own: one call for what the model would
 * else compose of many core ops. An engine registers them in the tfjs kernel registry under these names;
 * the model asks the registry and composes core ops where there is none. Both forms compute the same
 * function, within rounding.
 *
 * Legend: N rows, I and O features in and out, D model, V vocabulary, B batch, H heads, Q queries, K keys,
 * E features of a head. All float32 but where said.
 */
export const FUSED_KERNELS = {
  /** {x [N,I], weight [O,I], bias [O]} to [y [N,O]]. */
  linear: 'LockstepLinear',
  /** {dy, x, weight} to [dx, dWeight, dBias]. */
  linearGradient: 'LockstepLinearGradient',
  /** {x [N,D], y [N,D] or none, weight [D], bias [D]}, {epsilon} to [value, unit [N,D], scale [N,1]]: of x + y. */
  layerNorm: 'LockstepLayerNorm',
  /** {dy, unit, scale, weight} to [dx, dWeight, dBias]. */
  layerNormGradient: 'LockstepLayerNormGradient',
  /** {x [N,I]} to [value, slope]: the gradient is dy * slope. */
  gelu: 'LockstepGelu',
  /**
   * {query [B*Q,D], key [B*K,D], value, keyBias and weightMask or none}, {batchSize, heads, scale} to
   * [context [B*Q,D], query, key, value, weights, and maybe masked weights]. But for the context they are for the
   * gradient alone, in any form that it can read: heads apart, weights [B,H,Q,K] or only each row's logarithm of its
   * sum of exponentials.
   */
  attention: 'LockstepAttention',
  /**
   * {dContext, context, keyBias, weightMask, and what `attention` kept as query, key, value, weights, kept},
   * {batchSize, heads, scale} to [dQuery, dKey, dValue].
   */
  attentionGradient: 'LockstepAttentionGradient',
  /** {rows [N,D], table [V,D], labels int32 [N]} to [lossSum, dRows, dTable]. */
  crossEntropy: 'LockstepCrossEntropy',
  // Of generation, on folded weights (model/inference-weights.ts): projections [I,O].
  /** {all [B*K,D], weight [D,2D]}, {batchSize, heads} to [keys [B,H,K,E], values [B,H,K,E]]. */
  keysAndValues: 'LockstepKeysAndValues',
  /**
   * {x [B*Q,D], keys, values, keyBias or none, queryWeight, queryBias, outWeight, outBias, gain, bias}, {epsilon} to
   * [norm(x + attention) [B*Q,D]].
   */
  attendedNorm: 'LockstepAttendedNorm',
  /** {x [N,D], weight1, bias1, weight2, bias2, gain, bias}, {epsilon} to [norm(x + feedForward) [N,D]]. */
  feedForwardNorm: 'LockstepFeedForwardNorm',
  /** {rows [N,D], columns [D,V]} to [[3,N]: the best column, the sum of e = exp(z - max z), the sum of e (z - max z)]. */
  head: 'LockstepHead',
} as const;

/** Kernels that an engine may have besides, in the place of a loop of the model's over others. */
export const WHOLE_KERNELS = {
  /**
   * {rows [N,D], table [V,D], labels int32 [N]}, {rowsAtOnce, gradients: 1 or 0} to [lossSum, dRows, dTable], or
   * [lossSum]. Of the logits at most `rowsAtOnce` rows exist at a time.
   */
  chunkedCrossEntropy: 'LockstepChunkedCrossEntropy',
  /** {rows [N,D], table [V,D]}, {rowsAtOnce} to [ids int32 [N]] of the table's row with the largest product; the first of equals. */
  argMaxRows: 'LockstepArgMaxRows',
  /**
   * {table [V,D], rows [N,D], ids int32 [N]} to [table], the same tensor, which is written to: with row n added to its row
   * ids[n], for rising n; a row of id -1 is left out. Each sum is flushed, what is below 2^-126 to +0.
   */
  addRows: 'LockstepAddRows',
  /** {rows [N,D], table [V,D]} to [logits [N,V]], of a table as large as the device holds. */
  tableLogits: 'LockstepTableLogits',
} as const;

export type FusedKernelKey = keyof typeof FUSED_KERNELS | keyof typeof WHOLE_KERNELS;
export type FusedKernelName =
  | (typeof FUSED_KERNELS)[keyof typeof FUSED_KERNELS]
  | (typeof WHOLE_KERNELS)[keyof typeof WHOLE_KERNELS];

export function fusedKernelName(key: FusedKernelKey): FusedKernelName {
  return { ...FUSED_KERNELS, ...WHOLE_KERNELS }[key];
}
