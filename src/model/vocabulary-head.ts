/**
 * The off-ramp for inference: from states to the most probable token, its probability and the entropy of
 * the distribution, over the whole vocabulary or over a candidate sub-vocabulary.
 *
 * H(p) = log sum exp(z) - sum p z, in nats and float32 (ELMER.md section 8, pitfalls 13 and 14).
 * Legend: N rows, D model, V words.
 */
import { FUSED_KERNELS } from '../base/index.ts';
import { chunkRows } from './cross-entropy.ts';
import { fusedKernel, type Tensor, type Tf } from './differentiable.ts';

/** The tokens that a head chooses from. */
export interface Words {
  /** [D, V], one column a word. */
  readonly columns: Tensor;
  /** [V] ids of the columns; null where they are the ids 0 .. V-1. */
  readonly ids: Int32Array | null;
}

export interface HeadResult {
  /** [N]; ties go to the first word. */
  readonly ids: Int32Array;
  /** [N] of the token chosen. */
  readonly probabilities: Float32Array;
  /** [N] nats, 0 or more. */
  readonly entropies: Float32Array;
}

/** Reads `states` [N, D]; leaves no tensor behind. */
export async function readHead(
  tf: Tf,
  states_ND: Tensor,
  { columns, ids: wordIds }: Words,
): Promise<HeadResult> {
  const numRows = states_ND.shape[0]!;
  const result = {
    ids: new Int32Array(numRows),
    probabilities: new Float32Array(numRows),
    entropies: new Float32Array(numRows),
  };
  const step = chunkRows(columns.shape[1]!);
  for (let first = 0; first < numRows; first += step) {
    const count = Math.min(step, numRows - first);
    const packed = tf.tidy(() => {
      const rows = count === numRows ? states_ND : tf.slice(states_ND, [first, 0], [count, -1]);
      const fused = fusedKernel(tf, FUSED_KERNELS.head);
      if (fused !== null) return fused({ rows, columns })[0]!;
      const logits = tf.matMul(rows, columns);
      const shifted = tf.sub(logits, tf.max(logits, -1, true));
      const exponential = tf.exp(shifted);
      const weighted = tf.mul(exponential, shifted);
      // One transfer for all three; an id is a whole number that float32 holds exactly.
      return tf.stack([
        tf.cast(tf.argMax(shifted, -1), 'float32'),
        tf.sum(exponential, -1),
        tf.sum(weighted, -1),
      ]);
    });
    const values = await packed.data();
    packed.dispose();
    for (let row = 0; row < count; row += 1) {
      const word = values[row]!;
      const total = values[count + row]!;
      result.ids[first + row] = wordIds === null ? word : wordIds[word]!;
      result.probabilities[first + row] = 1 / total;
      result.entropies[first + row] = Math.max(0, Math.log(total) - values[2 * count + row]! / total);
    }
  }
  return result;
}

/** The most probable token of each row, [N] int32, left on the device. */
export function headArgMax(tf: Tf, states_ND: Tensor, columns_DV: Tensor): Tensor {
  const numRows = states_ND.shape[0]!;
  const step = chunkRows(columns_DV.shape[1]!);
  const chunks: Tensor[] = [];
  for (let first = 0; first < numRows; first += step) {
    const count = Math.min(step, numRows - first);
    chunks.push(
      tf.tidy(() => tf.argMax(tf.matMul(tf.slice(states_ND, [first, 0], [count, -1]), columns_DV), -1)),
    );
  }
  if (chunks.length === 1) return chunks[0]!;
  const ids = tf.concat(chunks, 0);
  tf.dispose(chunks);
  return ids;
}
