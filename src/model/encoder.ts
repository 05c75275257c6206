/**
 * The encoder, and what a layer of either stack has in common: the BART encoder, post-LN.
 *
 * Legend: B batch, S longest source, D model, F feed-forward, N rows: the real tokens of all sources, end to end.
 * Padding exists in attention alone, where it is masked as a key (sequence-blocks.ts).
 */
import type { ModelConfig } from '../config/index.ts';
import { attention } from './attention.ts';
import type { Tensor, Tf } from './differentiable.ts';
import type { Dropout, StackName } from './dropout.ts';
import { addToSequences, dropout, gelu, layerNorm, linear } from './layers.ts';
import type { Affine, AttentionParameters, ParameterTree } from './parameters.ts';
import { type Attended, groupByLength, type Keys, RowBlocks, wholeBatch } from './sequence-blocks.ts';

/** What every function of a pass needs. */
export interface Pass {
  readonly tf: Tf;
  readonly model: ModelConfig;
  readonly masks: Dropout;
}

/** Added to the score of a masked key. Its exponential is exactly 0 beside any real key's. */
export const MASKED_SCORE = -1e9;

/** [B, 1, 1, S]: 0 for real tokens, a large negative number for padding; null when nothing is padded. */
export function paddingBias(tf: Tf, sourceLengths: Int32Array, sourceLength: number): Tensor | null {
  if (sourceLengths.every((length) => length === sourceLength)) return null;
  const bias = new Float32Array(sourceLengths.length * sourceLength);
  sourceLengths.forEach((length, row) => {
    bias.fill(MASKED_SCORE, row * sourceLength + length, (row + 1) * sourceLength);
  });
  return tf.tensor(bias, [sourceLengths.length, 1, 1, sourceLength]);
}

/** The sources' real tokens, of which there are `lengths[b]`, for all to attend to. The caller's `tf.tidy` frees them. */
export function sourceKeys(tf: Tf, lengths: Int32Array): Keys {
  const groups = groupByLength(lengths);
  const keys = new RowBlocks(tf, lengths, groups);
  const biases = keys.blocks.map(({ length }, block) =>
    paddingBias(
      tf,
      Int32Array.from(groups[block]!, (sequence) => lengths[sequence]!),
      length,
    ),
  );
  return { groups, keys, biases };
}

export interface SublayerAttention {
  readonly stack: StackName;
  readonly layer: number;
  readonly places: readonly ['weights', 'attention'] | readonly ['crossWeights', 'crossAttention'];
  readonly attended: Attended;
}

/** LN(x + drop(attention(x, keys, values))) for rows `x` and already projected keys and values. */
export function attentionSublayer(
  { tf, model, masks }: Pass,
  parameters: AttentionParameters<Tensor>,
  norm: Affine<Tensor>,
  x: Tensor,
  key: Tensor,
  value: Tensor,
  { stack, layer, places, attended }: SublayerAttention,
): Tensor {
  const [weightsPlace, outputPlace] = places;
  const { heads } = model;
  const { queries, keys } = attended;
  const shapes = queries.blocks.map(({ batchSize, length }, block) => [
    ...[batchSize, heads, length, keys.blocks[block]!.length],
  ]);
  const context = attention(tf, linear(tf, x, parameters.q), key, value, {
    ...attended,
    heads,
    weightMasks: masks.parts(stack, layer, weightsPlace, shapes),
  });
  const output = linear(tf, context, parameters.out);
  const dropped = dropout(tf, output, masks.layer(stack, layer, outputPlace, output.shape));
  return layerNorm(tf, [x, dropped], norm);
}

export interface FeedForwardParameters {
  readonly fc1: Affine<Tensor>;
  readonly fc2: Affine<Tensor>;
  readonly finalNorm: Affine<Tensor>;
}

/** LN(x + drop(fc2(drop(GELU(fc1 x))))). */
export function feedForwardSublayer(
  { tf, masks }: Pass,
  { fc1, fc2, finalNorm }: FeedForwardParameters,
  x: Tensor,
  stack: StackName,
  layer: number,
): Tensor {
  const hidden = gelu(tf, linear(tf, x, fc1));
  const kept = dropout(tf, hidden, masks.layer(stack, layer, 'activation', hidden.shape));
  const output = linear(tf, kept, fc2);
  const dropped = dropout(tf, output, masks.layer(stack, layer, 'feedForward', output.shape));
  return layerNorm(tf, [x, dropped], finalNorm);
}

/**
 * Encodes embedded sources.
 * @param lengths real tokens of each source, of which `source` is made
 * @param lookup_ND rows of the tied table for the ids of real tokens
 * @param positions_SD the position rows 0 .. S-1
 * @returns [N, D]
 */
export function encode(
  pass: Pass,
  tree: ParameterTree<Tensor>,
  source: Keys,
  lengths: Int32Array,
  lookup_ND: Tensor,
  positions_SD: Tensor,
): Tensor {
  const { tf, masks } = pass;
  const attended = { ...source, queries: source.keys };
  const whole = new RowBlocks(tf, lengths, wholeBatch(lengths.length));
  const embedded = addToSequences(tf, lookup_ND, positions_SD, whole);
  const normed = layerNorm(tf, [embedded], tree.encoder.embeddingNorm);
  let hidden_ND = dropout(tf, normed, masks.embedding('encoder', normed.shape));
  tree.encoder.layers.forEach((parameters, layer) => {
    const key = linear(tf, hidden_ND, parameters.selfAttention.k);
    const value = linear(tf, hidden_ND, parameters.selfAttention.v);
    const { selfAttention, selfAttentionNorm } = parameters;
    const context = attentionSublayer(pass, selfAttention, selfAttentionNorm, hidden_ND, key, value, {
      stack: 'encoder',
      layer,
      places: ['weights', 'attention'],
      attended,
    });
    hidden_ND = feedForwardSublayer(pass, parameters, context, 'encoder', layer);
  });
  return hidden_ND;
}
