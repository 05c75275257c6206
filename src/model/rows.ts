/**
 * Moving rows by index, with gathers in both directions. Where no row is taken twice, the gradient of
 * a gather is a gather by the inverse index: no scatter-add, whose order GPUs leave open, is needed,
 * and no kernel that an engine may lack.
 *
 * An inverse index names the row of the gradient that belongs to each input row. The index one past
 * the last row stands for a row of zeros: nothing flows back.
 */
import { differentiable, type Tensor, type Tf } from './differentiable.ts';

/** Rows of `x` by `index`; the gradient of row i of `x` is row `inverse[i]` of the result's gradient. */
export function gatherRows(tf: Tf, x: Tensor, index: Int32Array, inverse: Int32Array): Tensor {
  return differentiable(
    tf,
    [x],
    () => ({ value: takeRows(tf, x, indices(tf, index)), saved: [] }),
    (dy) => [takeRows(tf, withZeroRow(tf, dy), indices(tf, inverse))],
  );
}

/** Rows of the tensors of `parts`, laid end to end, by `index`; `inverses` has one index for each part. */
export function gatherRowsOfAll(
  tf: Tf,
  parts: readonly Tensor[],
  index: Int32Array,
  inverses: readonly Int32Array[],
): Tensor {
  return differentiable(
    tf,
    parts,
    () => ({ value: takeRows(tf, tf.concat([...parts], 0), indices(tf, index)), saved: [] }),
    (dy) => {
      const padded = withZeroRow(tf, dy);
      return inverses.map((inverse) => takeRows(tf, padded, indices(tf, inverse)));
    },
  );
}

/** Rows of `x` by an index [rows] of int32. Plain: for use within a differentiable operation. */
export function takeRows(tf: Tf, x: Tensor, index: Tensor): Tensor {
  return tf.gather(x, index as never);
}

/** Likewise: `x` and a row of zeros after its last. */
export function withZeroRow(tf: Tf, x: Tensor): Tensor {
  return tf.concat([x, tf.zeros([1, x.shape[1]!])], 0);
}

function indices(tf: Tf, index: Int32Array): Tensor {
  return tf.tensor1d(index, 'int32');
}
