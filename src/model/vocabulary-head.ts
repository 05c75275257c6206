/**
 * The off-ramp for inference: from states to the most probable token, its probability and the entropy of
 * the distribution, over the whole vocabulary or over a candidate sub-vocabulary.
 *
 * H(p) = log sum exp(z) - sum p z, in nats and float32 (ELMER.md section 8, pitfalls 13 and 14).
 * Legend: N rows, D model, V words.
 */
import { FUSED_KERNELS, WHOLE_KERNELS } from '../base/index.ts';
import { argMaxTokens, chunkRows } from './cross-entropy.ts';
import { fusedKernel, type Tensor, type Tf } from './differentiable.ts';

/** The embeddings of V words in the form that the engine multiplies by. */
export interface WordEmbeddings {
  readonly values: Tensor;
  /** [V, D] where the engine has kernels for a table as it lies, else [D, V]. */
  readonly byRow: boolean;
}

/** The tokens that a head chooses from. */
export interface Words {
  readonly embeddings: WordEmbeddings;
  /** [V] ids of the words; null where they are the ids 0 .. V-1. */
  readonly ids: Int32Array | null;
}

/** The words of a table [V, D]; a new tensor. A copy elsewhere: a product with a transposed matrix is too slow. */
export function wordEmbeddings(tf: Tf, table_VD: Tensor): WordEmbeddings {
  const byRow = fusedKernel(tf, WHOLE_KERNELS.tableLogits) !== null;
  return { values: byRow ? tf.clone(table_VD) : tf.transpose(table_VD), byRow };
}

export function numWords({ values, byRow }: WordEmbeddings): number {
  return values.shape[byRow ? 0 : 1]!;
}

/** The words of these ids, in this order; a new tensor. */
export function pickWords(tf: Tf, { values, byRow }: WordEmbeddings, ids: Int32Array): WordEmbeddings {
  return { values: tf.tidy(() => tf.gather(values, tf.tensor1d(ids, 'int32'), byRow ? 0 : 1)), byRow };
}

/** [N, V] of states [N, D]. */
export function wordLogits(tf: Tf, states_ND: Tensor, { values, byRow }: WordEmbeddings): Tensor {
  if (!byRow) return tf.matMul(states_ND, values);
  return fusedKernel(tf, WHOLE_KERNELS.tableLogits)!({ rows: states_ND, table: values })[0]!;
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
  { embeddings, ids: wordIds }: Words,
): Promise<HeadResult> {
  const numRows = states_ND.shape[0]!;
  const result = {
    ids: new Int32Array(numRows),
    probabilities: new Float32Array(numRows),
    entropies: new Float32Array(numRows),
  };
  const step = chunkRows(numWords(embeddings));
  for (let first = 0; first < numRows; first += step) {
    const count = Math.min(step, numRows - first);
    const packed = tf.tidy(() => {
      const rows = count === numRows ? states_ND : tf.slice(states_ND, [first, 0], [count, -1]);
      const fused = fusedKernel(tf, FUSED_KERNELS.head);
      if (fused !== null) return fused({ rows, columns: embeddings.values })[0]!;
      const logits = wordLogits(tf, rows, embeddings);
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
export function headArgMax(tf: Tf, states_ND: Tensor, embeddings: WordEmbeddings): Tensor {
  if (embeddings.byRow) return argMaxTokens(tf, states_ND, embeddings.values);
  const numRows = states_ND.shape[0]!;
  const step = chunkRows(numWords(embeddings));
  const chunks: Tensor[] = [];
  for (let first = 0; first < numRows; first += step) {
    const count = Math.min(step, numRows - first);
    chunks.push(
      tf.tidy(() => tf.argMax(wordLogits(tf, tf.slice(states_ND, [first, 0], [count, -1]), embeddings), -1)),
    );
  }
  if (chunks.length === 1) return chunks[0]!;
  const ids = tf.concat(chunks, 0);
  tf.dispose(chunks);
  return ids;
}
