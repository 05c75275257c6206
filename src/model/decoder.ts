/**
 * The bidirectional decoder of ELMER (ELMER.md section 2): no causal mask, all T slots attended, no
 * copy of the source. Slot 0 reads `<s>` and the others `<mask>`, so slot t predicts target token t. Its
 * autoregressive twin differs in what it reads and in the causal mask.
 *
 * All slots are attended in training and in generation alike, also those beyond a row's own end
 * (pitfall 4): the logits of a row thus depend on T, the length that the whole batch is given.
 * Legend: B batch, T target slots, S source, D model; Q rows that still compute.
 */
import { differentiable, type Tensor, type Tf } from './differentiable.ts';
import { attentionSublayer, feedForwardSublayer, MASKED_SCORE, type Pass } from './encoder.ts';
import { addToSequences, dropout, layerNorm, linear, repeatRows } from './layers.ts';
import type { DecoderLayerParameters, ParameterTree } from './parameters.ts';

/** What the decoder reads of the encoder. */
export interface Encoded {
  readonly batchSize: number;
  /** [B*S, D] */
  readonly hidden: Tensor;
  /** [B, 1, 1, S] or null */
  readonly keyBias: Tensor | null;
}

/**
 * The state h^0 of all slots, [B*T, D]; the same for every sequence but for dropout.
 * @param bos_1D the tied table's row of `<s>`
 * @param mask_1D the tied table's row of `<mask>`
 * @param positions_TD the position rows 0 .. T-1
 */
export function decoderStart(
  { tf, masks }: Pass,
  tree: ParameterTree<Tensor>,
  batchSize: number,
  bos_1D: Tensor,
  mask_1D: Tensor,
  positions_TD: Tensor,
): Tensor {
  const placed_TD = differentiable(
    tf,
    [bos_1D, mask_1D, positions_TD],
    () => {
      const isFirst = new Float32Array(positions_TD.shape[0]!);
      isFirst[0] = 1;
      const first_T1 = tf.tensor(isFirst, [isFirst.length, 1]);
      const rest_T1 = tf.sub(1, first_T1) as Tensor;
      const tokens_TD = tf.add(tf.mul(first_T1, bos_1D), tf.mul(rest_T1, mask_1D));
      return { value: tf.add(tokens_TD, positions_TD), saved: [first_T1, rest_T1] };
    },
    (dy, [first_T1, rest_T1]) => [
      tf.sum(tf.mul(dy, first_T1!), 0, true),
      tf.sum(tf.mul(dy, rest_T1!), 0, true),
      tf.clone(dy),
    ],
  );
  const start_TD = layerNorm(tf, [placed_TD], tree.decoder.embeddingNorm);
  const start = repeatRows(tf, start_TD, batchSize);
  return dropout(tf, start, masks.embedding('decoder', start.shape));
}

/**
 * The state h^0 of slots that read tokens, [B*T, D].
 * @param tokens_ND the tied table's rows of what each slot reads
 */
export function causalStart(
  { tf, masks }: Pass,
  tree: ParameterTree<Tensor>,
  tokens_ND: Tensor,
  positions_TD: Tensor,
): Tensor {
  const placed = addToSequences(tf, tokens_ND, positions_TD);
  const start = layerNorm(tf, [placed], tree.decoder.embeddingNorm);
  return dropout(tf, start, masks.embedding('decoder', start.shape));
}

/** [1, 1, T, T]: 0 where slot t may attend to slot u <= t, a large negative number elsewhere. */
export function causalBias(tf: Tf, targetLength: number): Tensor {
  const bias = new Float32Array(targetLength * targetLength);
  for (let slot = 0; slot < targetLength; slot += 1) {
    bias.fill(MASKED_SCORE, slot * targetLength + slot + 1, (slot + 1) * targetLength);
  }
  return tf.tensor(bias, [1, 1, targetLength, targetLength]);
}

/**
 * One decoder layer for the rows `query` [B*Q, D], which attend to the state of all slots, `all` [B*T, D].
 * Keys and values are projected anew from every slot, exited ones too (pitfall 8). `selfBias` is added to the
 * scores of self-attention: null lets every row see every slot.
 */
export function decoderLayer(
  pass: Pass,
  parameters: DecoderLayerParameters<Tensor>,
  layer: number,
  all: Tensor,
  query: Tensor,
  { batchSize, hidden, keyBias }: Encoded,
  selfBias: Tensor | null = null,
): Tensor {
  const { tf } = pass;
  const { selfAttention, selfAttentionNorm, crossAttention, crossAttentionNorm } = parameters;
  const key = linear(tf, all, selfAttention.k);
  const value = linear(tf, all, selfAttention.v);
  const attended = attentionSublayer(pass, selfAttention, selfAttentionNorm, query, key, value, {
    stack: 'decoder',
    layer,
    places: ['weights', 'attention'],
    batchSize,
    keyBias: selfBias,
  });
  const crossKey = linear(tf, hidden, crossAttention.k);
  const crossValue = linear(tf, hidden, crossAttention.v);
  const crossed = attentionSublayer(
    pass,
    crossAttention,
    crossAttentionNorm,
    attended,
    crossKey,
    crossValue,
    { stack: 'decoder', layer, places: ['crossWeights', 'crossAttention'], batchSize, keyBias },
  );
  return feedForwardSublayer(pass, parameters, crossed, 'decoder', layer);
}

/** All layers for all slots: the state h^L, [B*T, D]. */
export function decodeFully(
  pass: Pass,
  tree: ParameterTree<Tensor>,
  start: Tensor,
  encoded: Encoded,
  selfBias: Tensor | null,
): Tensor {
  return tree.decoder.layers.reduce(
    (hidden, parameters, layer) => decoderLayer(pass, parameters, layer, hidden, hidden, encoded, selfBias),
    start,
  );
}
