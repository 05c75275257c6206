/**
 * The off-ramp: softmax cross entropy of rows against the tied table, summed over rows.
 *
 * The loss ends every pass, so its gradient is computed with it, while the logits are at hand, and
 * they are never kept: rows go in chunks whose logits stay below a fixed number of floats. The chunk
 * size depends on V only, and chunks are added in row order, so the bits do not depend on the machine.
 * Legend: N rows, D model, V vocabulary.
 */
import { FUSED_KERNELS, WHOLE_KERNELS } from '../base/index.ts';
import { differentiable, fusedKernel, type Tensor, type Tf } from './differentiable.ts';

/** Largest number of logits at a time (64 MiB in float32). */
const LOGITS_MAX = 2 ** 24;

/** Rows whose logits are computed together. */
export function chunkRows(vocabSize: number): number {
  return Math.max(16, Math.floor(LOGITS_MAX / vocabSize));
}

/**
 * Sum over rows of -log softmax(hidden table^T)[label], a scalar, with gradients for both tensors.
 * @param labels_N one id of 0 .. V-1 per row; at least one row
 */
export function crossEntropySum(
  tf: Tf,
  hidden_ND: Tensor,
  table_VD: Tensor,
  labels_N: Int32Array,
  rowsAtOnce = chunkRows(table_VD.shape[0]!),
): Tensor {
  const whole = fusedKernel(tf, WHOLE_KERNELS.chunkedCrossEntropy);
  return differentiable(
    tf,
    [hidden_ND, table_VD],
    () => {
      if (whole !== null) {
        const labels = tf.tensor1d(labels_N, 'int32');
        const inputs = { rows: hidden_ND, table: table_VD, labels };
        const [value, ...saved] = whole(inputs, { rowsAtOnce, gradients: 1 });
        return { value: value!, saved };
      }
      let loss = tf.scalar(0) as Tensor;
      let dTable_VD: Tensor | null = null;
      const dHidden: Tensor[] = [];
      forEachChunk(tf, hidden_ND, labels_N, rowsAtOnce, (rows, labels) => {
        const [nextLoss, dRows, nextTable] = tf.tidy(() => {
          const [lossSum, dRowsOfChunk, dTableOfChunk] = chunkGradients(tf, rows, table_VD, labels);
          return [
            tf.add(loss, lossSum!),
            dRowsOfChunk!,
            dTable_VD === null ? dTableOfChunk! : tf.add(dTable_VD, dTableOfChunk!),
          ] as const;
        });
        tf.dispose([loss, dTable_VD ?? []]);
        loss = nextLoss;
        dTable_VD = nextTable;
        dHidden.push(dRows);
      });
      const dHidden_ND = dHidden.length === 1 ? dHidden[0]! : tf.concat(dHidden, 0);
      return { value: loss, saved: [dHidden_ND, dTable_VD!] };
    },
    (dy, [dHidden_ND, dTable]) => [scaled(tf, dHidden_ND!, dy), scaled(tf, dTable!, dy)],
  );
}

/** A loss is most often differentiated with 1, which spares a pass over a gradient as large as the table. */
function scaled(tf: Tf, gradient: Tensor, dy: Tensor): Tensor {
  // An engine with the fused kernel can be read within a pass.
  const isFused = fusedKernel(tf, FUSED_KERNELS.crossEntropy) !== null;
  return isFused && dy.dataSync()[0] === 1 ? tf.clone(gradient) : tf.mul(gradient, dy);
}

/** The loss of a chunk, and its gradients for rows and table. */
function chunkGradients(tf: Tf, rows: Tensor, table: Tensor, labels: Tensor): readonly Tensor[] {
  const fused = fusedKernel(tf, FUSED_KERNELS.crossEntropy);
  if (fused !== null) return fused({ rows, table, labels });
  const { lossSum, exponential, total } = logSumExp(tf, rows, table, labels);
  const oneHot = tf.oneHot(labels, table.shape[0]!) as Tensor;
  const dLogits = tf.sub(tf.div(exponential, total), oneHot);
  return [lossSum, tf.matMul(dLogits, table), tf.matMul(dLogits, rows, true, false)];
}

/** The same sum without gradients, for validation. */
export function crossEntropySumOnly(
  tf: Tf,
  hidden_ND: Tensor,
  table_VD: Tensor,
  labels_N: Int32Array,
): Tensor {
  const whole = fusedKernel(tf, WHOLE_KERNELS.chunkedCrossEntropy);
  if (whole !== null) {
    const labels = tf.tensor1d(labels_N, 'int32');
    const attributes = { rowsAtOnce: chunkRows(table_VD.shape[0]!), gradients: 0 };
    const [lossSum] = whole({ rows: hidden_ND, table: table_VD, labels }, attributes);
    labels.dispose();
    return lossSum!;
  }
  let loss = tf.scalar(0) as Tensor;
  forEachChunk(tf, hidden_ND, labels_N, chunkRows(table_VD.shape[0]!), (rows, labels) => {
    const previous = loss;
    loss = tf.tidy(() => tf.add(previous, logSumExp(tf, rows, table_VD, labels).lossSum));
    previous.dispose();
  });
  return loss;
}

/** The most probable token of each row, [N] of int32; ties go to the lowest id. */
export function argMaxTokens(tf: Tf, hidden_ND: Tensor, table_VD: Tensor): Tensor {
  const whole = fusedKernel(tf, WHOLE_KERNELS.argMaxRows);
  if (whole !== null) {
    return whole({ rows: hidden_ND, table: table_VD }, { rowsAtOnce: chunkRows(table_VD.shape[0]!) })[0]!;
  }
  const numRows = hidden_ND.shape[0]!;
  const step = chunkRows(table_VD.shape[0]!);
  const chunks: Tensor[] = [];
  for (let first = 0; first < numRows; first += step) {
    const count = Math.min(step, numRows - first);
    const chunk = tf.tidy(() =>
      tf.argMax(tf.matMul(tf.slice(hidden_ND, [first, 0], [count, -1]), table_VD, false, true), -1),
    );
    chunks.push(chunk);
  }
  const tokens = tf.concat(chunks, 0);
  tf.dispose(chunks);
  return tokens;
}

/** Logits, shifted by their maximum so that nothing overflows: loss = log(sum exp) - shifted[label]. */
function logSumExp(tf: Tf, rows_ND: Tensor, table_VD: Tensor, labels: Tensor) {
  const logits_NV = tf.matMul(rows_ND, table_VD, false, true);
  const shifted_NV = tf.sub(logits_NV, tf.max(logits_NV, -1, true));
  const exponential = tf.exp(shifted_NV);
  const total = tf.sum(exponential, -1, true);
  const numRows = rows_ND.shape[0]!;
  const place_N2 = tf.stack([tf.range(0, numRows, 1, 'int32'), labels], 1);
  const lossSum = tf.sub(tf.sum(tf.log(total)), tf.sum(tf.gatherND(shifted_NV, place_N2)));
  return { lossSum, exponential, total };
}

function forEachChunk(
  tf: Tf,
  rows_ND: Tensor,
  labels_N: Int32Array,
  rowsAtOnce: number,
  visit: (rows: Tensor, labels: Tensor) => void,
): void {
  const numRows = labels_N.length;
  for (let first = 0; first < numRows; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, numRows - first);
    const rows = count === numRows ? tf.clone(rows_ND) : tf.slice(rows_ND, [first, 0], [count, -1]);
    const labels = tf.tensor1d(labels_N.slice(first, first + count), 'int32');
    visit(rows, labels);
    tf.dispose([rows, labels]);
  }
}
