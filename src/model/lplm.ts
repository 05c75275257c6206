/**
 * Layer permutation language modelling (ELMER.md section 3.3) by scheme C (section 6): each decoder
 * layer computes only the rows that have not exited, and each real target token is projected once,
 * from the layer it exits at. Exactly the objective of the published code.
 *
 * A state is copied after `final_layer_norm` and before the next layer; the copy carries no gradient
 * (`detachCopies`), the state that the loss reads does (pitfall 7).
 * Legend: B batch, T target slots, D model.
 */
import { crossEntropySum } from './cross-entropy.ts';
import { decoderLayer, type Encoded, layerAttention } from './decoder.ts';
import type { Tensor } from './differentiable.ts';
import type { Pass } from './encoder.ts';
import type { ExitPlan } from './exit-layers.ts';
import type { ParameterTree } from './parameters.ts';
import { gatherRows, gatherRowsOfAll } from './rows.ts';
import type { Keys } from './sequence-blocks.ts';

/** Summed loss over the real target tokens, a scalar. `start` is h^0, [B*T, D]; `table` [V, D] the off-ramp. */
export function lplmLossSum(
  pass: Pass,
  tree: ParameterTree<Tensor>,
  start: Tensor,
  { hidden, keys }: Encoded,
  slots: Keys,
  plan: ExitPlan,
): Tensor {
  const { tf } = pass;
  const outputs: Tensor[] = [];
  let state = start;
  plan.layers.forEach((rows, layer) => {
    const query = rows.isWhole ? state : gatherRows(tf, state, rows.query, rows.queryInverse);
    // Which rows compute is drawn; that as many are left of each sequence is chance, unless it is one or all are.
    const stays = rows.isWhole || rows.counts.length === 1;
    const attention = layerAttention(tf, slots, keys, rows.counts, stays);
    const parameters = tree.decoder.layers[layer]!;
    const output = decoderLayer(pass, parameters, layer, state, query, hidden, attention);
    outputs.push(output);
    if (rows.merge === null) return;
    state = gatherRowsOfAll(tf, [state, output], rows.merge, [rows.oldInverse, rows.outputInverse]);
  });
  const inverses = plan.layers.map(({ pickedInverse }) => pickedInverse);
  const picked = gatherRowsOfAll(tf, outputs, plan.picked, inverses);
  return crossEntropySum(tf, picked, tree.shared, plan.labels);
}
