/**
 * The soft early exit (ELMER.md section 4; DSLP with mixed training): every layer predicts every slot, and each
 * layer but the first reads the state below it together with the embedding of what that state predicts,
 * through one matrix for all layers. In training a true token stands in for a predicted one here and there.
 *
 * An argmax has no gradient: it flows through the embedding that was looked up, and through the state. As
 * published, a slot that was shown its own token counts in the loss like any other.
 * Legend: B batch, T target slots, N = B*T rows, D model, L layers.
 */
import { assert } from '../base/index.ts';
import { argMaxTokens } from './cross-entropy.ts';
import { allSlots, decoderLayer, type Encoded, layerAttention } from './decoder.ts';
import { differentiable, type Tensor, type Tf } from './differentiable.ts';
import type { Pass } from './encoder.ts';
import type { ParameterTree } from './parameters.ts';

/** What stands between two layers: takes the gradient of the rows read there, and is told which they were. */
export interface ReadTokens {
  /** [N, D] of zeros. */
  readonly sink: Tensor;
  /** The tokens to read, [N] of int32, given those that the state predicts; neither leaves the device. */
  choose(predicted: Tensor): Tensor;
}

/** The state after each layer, L of [N, D], for `lengths[b]` slots of each sequence. `between` has L-1 members. */
export function softStates(
  pass: Pass,
  tree: ParameterTree<Tensor>,
  start: Tensor,
  { hidden, keys }: Encoded,
  lengths: Int32Array,
  between: readonly ReadTokens[],
): Tensor[] {
  const { concatHead } = tree;
  assert(concatHead !== null, 'objective soft has a concat_head');
  const attention = layerAttention(pass.tf, allSlots(pass.tf, lengths), keys, lengths);
  let state = start;
  return tree.decoder.layers.map((parameters, layer) => {
    const reading = between[layer - 1];
    if (reading !== undefined) state = readPredicted(pass.tf, state, tree.shared, concatHead, reading);
    state = decoderLayer(pass, parameters, layer, state, state, hidden, attention);
    return state;
  });
}

/** [h ; E[token]] W^T for rows h, [N, D]; the table takes its gradient through the sink. */
function readPredicted(
  tf: Tf,
  state_ND: Tensor,
  table_VD: Tensor,
  concatHead: Tensor,
  { sink, choose }: ReadTokens,
): Tensor {
  return differentiable(
    tf,
    [state_ND, sink, concatHead],
    () => {
      const tokens = choose(argMaxTokens(tf, state_ND, table_VD));
      const both = tf.concat([state_ND, tf.gather(table_VD, tokens)], 1);
      return { value: tf.matMul(both, concatHead, false, true), saved: [both] };
    },
    (dy_ND, [both]) => {
      const [dState, dToken] = tf.split(tf.matMul(dy_ND, concatHead), 2, 1);
      return [dState!, dToken!, tf.matMul(dy_ND, both!, true, false)];
    },
  );
}
