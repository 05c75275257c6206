/**
 * The bidirectional decoder of ELMER (ELMER.md section 2): no causal mask, all T slots attended, no
 * copy of the source. Slot 0 reads `<s>` and the others `<mask>`, so slot t predicts target token t. Its
 * autoregressive twin differs in what it reads and in the causal mask.
 *
 * All slots are attended in training and in generation alike, also those beyond a row's own end
 * (pitfall 4): the logits of a row thus depend on T, the length that the whole batch is given.
 * Legend: B batch, T target slots, D model; N rows of all slots, M of real source tokens, Q that still compute.
 */
import { differentiable, type Tensor, type Tf } from './differentiable.ts';
import { attentionSublayer, feedForwardSublayer, MASKED_SCORE, type Pass } from './encoder.ts';
import { addToSequences, dropout, layerNorm, linear, repeatRows } from './layers.ts';
import type { DecoderLayerParameters, ParameterTree } from './parameters.ts';
import {
  type Attended,
  attendedBy,
  groupByLength,
  isSameGrouping,
  type Keys,
  RowBlocks,
  wholeBatch,
} from './sequence-blocks.ts';

/** What the decoder reads of the encoder. */
export interface Encoded {
  /** [M, D] */
  readonly hidden: Tensor;
  readonly keys: Keys;
}

/** What the rows of a decoder layer attend to. */
export interface LayerAttention {
  readonly slots: Attended;
  readonly source: Attended;
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
 * The state h^0 of slots that read tokens, [N, D].
 * @param lengths slots of each sequence
 * @param tokens_ND the tied table's rows of what each slot reads
 */
export function causalStart(
  { tf, masks }: Pass,
  tree: ParameterTree<Tensor>,
  lengths: Int32Array,
  tokens_ND: Tensor,
  positions_TD: Tensor,
): Tensor {
  const whole = new RowBlocks(tf, lengths, wholeBatch(lengths.length));
  const placed = addToSequences(tf, tokens_ND, positions_TD, whole);
  const start = layerNorm(tf, [placed], tree.decoder.embeddingNorm);
  return dropout(tf, start, masks.embedding('decoder', start.shape));
}

/** [1, 1, T, T]: 0 where slot t may attend to slot u <= t, a large negative number elsewhere. */
function causalBias(tf: Tf, targetLength: number): Tensor {
  const bias = new Float32Array(targetLength * targetLength);
  for (let slot = 0; slot < targetLength; slot += 1) {
    bias.fill(MASKED_SCORE, slot * targetLength + slot + 1, (slot + 1) * targetLength);
  }
  return tf.tensor(bias, [1, 1, targetLength, targetLength]);
}

/** All T slots of each sequence, for all to attend to. */
export function allSlots(tf: Tf, lengths: Int32Array): Keys {
  const groups = wholeBatch(lengths.length);
  return { groups, keys: new RowBlocks(tf, lengths, groups), biases: [null] };
}

/** As many slots as a sequence has tokens, each for itself and those after it: no later slot is ever read. */
export function causalSlots(tf: Tf, lengths: Int32Array): Keys {
  const groups = groupByLength(lengths);
  const keys = new RowBlocks(tf, lengths, groups);
  return { groups, keys, biases: keys.blocks.map(({ length }) => causalBias(tf, length)) };
}

/** For `lengths[b]` rows of each sequence that compute; `stays` as for `RowBlocks`. */
export function layerAttention(
  tf: Tf,
  slots: Keys,
  source: Keys,
  lengths: Int32Array,
  stays = true,
): LayerAttention {
  const toSlots = attendedBy(tf, slots, lengths, stays);
  const isSame = isSameGrouping(slots.groups, source.groups);
  const toSource = isSame ? { ...source, queries: toSlots.queries } : attendedBy(tf, source, lengths, stays);
  return { slots: toSlots, source: toSource };
}

/**
 * One decoder layer for the rows `query` [Q, D], which attend to the state of all slots, `all` [N, D].
 * Keys and values are projected anew from every slot, exited ones too (pitfall 8).
 */
export function decoderLayer(
  pass: Pass,
  parameters: DecoderLayerParameters<Tensor>,
  layer: number,
  all: Tensor,
  query: Tensor,
  hidden: Tensor,
  { slots, source }: LayerAttention,
): Tensor {
  const { tf } = pass;
  const { selfAttention, selfAttentionNorm, crossAttention, crossAttentionNorm } = parameters;
  const key = linear(tf, all, selfAttention.k);
  const value = linear(tf, all, selfAttention.v);
  const attended = attentionSublayer(pass, selfAttention, selfAttentionNorm, query, key, value, {
    stack: 'decoder',
    layer,
    places: ['weights', 'attention'],
    attended: slots,
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
    { stack: 'decoder', layer, places: ['crossWeights', 'crossAttention'], attended: source },
  );
  return feedForwardSublayer(pass, parameters, crossed, 'decoder', layer);
}

/** All layers for all slots, `lengths[b]` of each sequence: the state h^L, [N, D]. */
export function decodeFully(
  pass: Pass,
  tree: ParameterTree<Tensor>,
  start: Tensor,
  { hidden, keys }: Encoded,
  slots: Keys,
  lengths: Int32Array,
): Tensor {
  const attention = layerAttention(pass.tf, slots, keys, lengths);
  return tree.decoder.layers.reduce(
    (state, parameters, layer) => decoderLayer(pass, parameters, layer, state, state, hidden, attention),
    start,
  );
}
