/**
 * The building blocks of a transformer layer, each one operation with a hand-derived gradient.
 * Activations are two-dimensional, rows by features: a row is one token of one sequence.
 *
 * Legend: N rows, I features in, O features out, D model. Post-LN, LN epsilon 1e-5, exact GELU by the
 * error function (ELMER.md section 8, pitfall 2). Sums over rows run in the engine's fixed order.
 */
import { FUSED_KERNELS } from '../base/index.ts';
import { differentiable, fusedKernel, type Tensor, type Tf } from './differentiable.ts';
import type { Affine } from './parameters.ts';
import type { RowBlocks } from './sequence-blocks.ts';

const LAYER_NORM_EPSILON = 1e-5;

/** y_NO = x_NI W_OI^T + b_O. */
export function linear(tf: Tf, x_NI: Tensor, { weight, bias }: Affine<Tensor>): Tensor {
  const fused = fusedKernel(tf, FUSED_KERNELS.linear);
  const fusedGradient = fusedKernel(tf, FUSED_KERNELS.linearGradient);
  return differentiable(
    tf,
    [x_NI, weight, bias],
    () => ({
      value: fused?.({ x: x_NI, weight, bias })[0] ?? tf.add(tf.matMul(x_NI, weight, false, true), bias),
      saved: [x_NI],
    }),
    (dy_NO, [x]) =>
      fusedGradient?.({ dy: dy_NO, x, weight }) ?? [
        tf.matMul(dy_NO, weight),
        tf.matMul(dy_NO, x!, true, false),
        tf.sum(dy_NO, 0),
      ],
  );
}

/** Layer norm over the features of the sum of `terms`, each [N, D]. */
export function layerNorm(tf: Tf, terms: readonly Tensor[], { weight, bias }: Affine<Tensor>): Tensor {
  const fused = fusedKernel(tf, FUSED_KERNELS.layerNorm);
  const fusedGradient = fusedKernel(tf, FUSED_KERNELS.layerNormGradient);
  return differentiable(
    tf,
    [...terms, weight, bias],
    () => {
      if (fused !== null && terms.length <= 2) {
        const [x, y] = terms;
        const [value, ...saved] = fused({ x, y, weight, bias }, { epsilon: LAYER_NORM_EPSILON });
        return { value: value!, saved };
      }
      const x_ND = terms.reduce((sum, term) => tf.add(sum, term));
      const centred_ND = tf.sub(x_ND, rowMean(tf, x_ND));
      const variance_N1 = rowMean(tf, tf.square(centred_ND));
      const scale_N1 = tf.rsqrt(tf.add(variance_N1, LAYER_NORM_EPSILON));
      const unit_ND = tf.mul(centred_ND, scale_N1);
      return { value: tf.add(tf.mul(unit_ND, weight), bias), saved: [unit_ND, scale_N1] };
    },
    (dy_ND, [unit_ND, scale_N1]) => {
      const others = (dx: Tensor) => terms.slice(1).map(() => tf.clone(dx));
      if (fusedGradient !== null) {
        const [dx, dWeight, dBias] = fusedGradient({ dy: dy_ND, unit: unit_ND, scale: scale_N1, weight });
        return [dx!, ...others(dx!), dWeight!, dBias!];
      }
      const dyUnit_ND = tf.mul(dy_ND, unit_ND!);
      const dUnit_ND = tf.mul(dy_ND, weight);
      // The gradient loses its parts along the mean and along the normalized row itself.
      const along_N1 = rowMean(tf, tf.mul(dUnit_ND, unit_ND!));
      const free_ND = tf.sub(tf.sub(dUnit_ND, rowMean(tf, dUnit_ND)), tf.mul(unit_ND!, along_N1));
      const dx_ND = tf.mul(free_ND, scale_N1!);
      return [dx_ND, ...others(dx_ND), tf.sum(dyUnit_ND, 0), tf.sum(dy_ND, 0)];
    },
  );
}

/** Mean over the features, [N, 1]. Not `tf.mean`, which copies its input first in the tensorflow engine. */
function rowMean(tf: Tf, x_ND: Tensor): Tensor {
  return tf.mul(tf.sum(x_ND, -1, true), 1 / x_ND.shape[1]!);
}

/** GELU(x) = x Phi(x), Phi the normal distribution function, by the error function. */
export function gelu(tf: Tf, x: Tensor): Tensor {
  const fused = fusedKernel(tf, FUSED_KERNELS.gelu);
  if (fused !== null) {
    return differentiable(
      tf,
      [x],
      () => {
        const [value, slope] = fused({ x });
        return { value: value!, saved: [slope!] };
      },
      (dy, [slope]) => [tf.mul(dy, slope!)],
    );
  }
  return differentiable(
    tf,
    [x],
    () => {
      const phi = tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);
      return { value: tf.mul(x, phi), saved: [x, phi] };
    },
    (dy, [saved, phi]) => {
      const density = tf.mul(tf.exp(tf.mul(tf.square(saved!), -0.5)), 1 / Math.sqrt(2 * Math.PI));
      return [tf.mul(dy, tf.add(phi!, tf.mul(saved!, density)))];
    },
  );
}

/** Multiplies by a dropout mask of 0 and 1/(1-rate); null leaves `x` as it is. */
export function dropout(tf: Tf, x: Tensor, mask: Tensor | null): Tensor {
  if (mask === null) return x;
  return differentiable(
    tf,
    [x],
    () => ({ value: tf.mul(x, mask), saved: [mask] }),
    (dy, [saved]) => [tf.mul(dy, saved!)],
  );
}

/**
 * Adds the same rows [T, D] to the first rows of each sequence of `x`, as many as it has.
 * @param whole the sequences as one block, of length T
 */
export function addToSequences(tf: Tf, x_ND: Tensor, rows_TD: Tensor, whole: RowBlocks): Tensor {
  const perSequence = [-1, ...rows_TD.shape];
  return differentiable(
    tf,
    [x_ND, rows_TD],
    () => {
      if (whole.isDense) {
        return { value: tf.reshape(tf.add(tf.reshape(x_ND, perSequence), rows_TD), x_ND.shape), saved: [] };
      }
      const repeated = tf.tile(rows_TD, [whole.blocks[0]!.batchSize, 1]);
      return { value: tf.add(x_ND, whole.join([repeated])), saved: [] };
    },
    (dy) => [tf.clone(dy), tf.sum(tf.reshape(whole.splitGradient(dy)[0]!, perSequence), 0)],
  );
}

/** Of scalars. */
export function mean(tf: Tf, terms: readonly Tensor[]): Tensor {
  return differentiable(
    tf,
    terms,
    () => ({
      value: tf.mul(
        terms.reduce((sum, term) => tf.add(sum, term)),
        1 / terms.length,
      ),
      saved: [],
    }),
    (dy) => terms.map(() => tf.mul(dy, 1 / terms.length)),
  );
}

/** Repeats a block of rows [T, D] for each of `count` sequences: [count * T, D]. */
export function repeatRows(tf: Tf, x_TD: Tensor, count: number): Tensor {
  const [numRows, dModel] = x_TD.shape as [number, number];
  return differentiable(
    tf,
    [x_TD],
    () => ({ value: tf.tile(x_TD, [count, 1]), saved: [] }),
    (dy) => [tf.sum(tf.reshape(dy, [count, numRows, dModel]), 0)],
  );
}
