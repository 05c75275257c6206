/**
 * The off-ramp: softmax cross entropy of rows against a table, summed, with both gradients. Rows go in chunks, and
 * the table in as many parts as the device's largest binding asks for (most often one), so the logits are
 * never whole. What is added up in the table's gradient is added as products are written.
 *
 * Legend: N rows, D model, V vocabulary, n rows of a chunk, v of a part.
 */
import type { TensorInfo } from '@tensorflow/tfjs';
import type { FusedKernels } from './fused.ts';
import { product } from './product.ts';
import type { Recorder, RowRange, Shader } from './recorder.ts';

const LANES = 64;

/** Adds a part of the vocabulary to each row's [largest, sum of exponentials, logit of the label]. */
const STATISTICS: Shader = {
  name: 'cross entropy, statistics of logits',
  inputs: ['logits', 'labels: i32'],
  outputs: ['statistics'],
  sizes: ['rows', 'columns', 'firstRow', 'firstColumn'],
  lanes: LANES,
  reductions: ['maxOfLanes', 'sumOfLanes'],
  code: `
fn run(lane: u32, group: u32) {
  if (group >= sizes.rows) { return; }
  let start = group * sizes.columns;
  var highest = -3e38;
  for (var column = lane; column < sizes.columns; column += LANES) {
    highest = max(highest, logits[start + column]);
  }
  let largest = maxOfLanes(lane, highest);
  var exponentials = 0.0;
  for (var column = lane; column < sizes.columns; column += LANES) {
    exponentials += exp(logits[start + column] - largest);
  }
  let total = sumOfLanes(lane, exponentials);
  if (lane != 0u) { return; }
  let at = group * 3u;
  if (sizes.firstColumn == 0u) {
    statistics[at] = largest;
    statistics[at + 1u] = total;
  } else {
    let both = max(largest, statistics[at]);
    statistics[at + 1u] = statistics[at + 1u] * exp(statistics[at] - both) + total * exp(largest - both);
    statistics[at] = both;
  }
  let label = u32(labels[sizes.firstRow + group]);
  if (label >= sizes.firstColumn && label < sizes.firstColumn + sizes.columns) {
    statistics[at + 2u] = logits[start + label - sizes.firstColumn];
  }
}`,
};

/** The sum of the losses of a chunk's rows, added to that of the chunks before. */
const LOSS: Shader = {
  name: 'cross entropy, loss',
  inputs: ['statistics'],
  outputs: ['loss'],
  sizes: ['rows', 'firstRow'],
  lanes: LANES,
  reductions: ['sumOfLanes'],
  code: `
fn run(lane: u32, group: u32) {
  var sum = 0.0;
  for (var row = lane; row < sizes.rows; row += LANES) {
    // The difference first: a loss is small beside its logits.
    sum += log(statistics[row * 3u + 1u]) + (statistics[row * 3u] - statistics[row * 3u + 2u]);
  }
  let total = sumOfLanes(lane, sum);
  if (lane == 0u && group == 0u) { loss[0] = select(0.0, loss[0], sizes.firstRow > 0u) + total; }
}`,
};

/** Logits to their gradient, in place: probabilities less the label. */
const GRADIENT: Shader = {
  name: 'cross entropy, gradient of logits',
  inputs: ['statistics', 'labels: i32'],
  outputs: ['logits'],
  sizes: ['rows', 'columns', 'firstRow', 'firstColumn', 'columnGroups'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let row = group / sizes.columnGroups;
  let column = (group % sizes.columnGroups) * LANES + lane;
  if (row >= sizes.rows || column >= sizes.columns) { return; }
  let at = row * sizes.columns + column;
  let probability = exp(logits[at] - statistics[row * 3u]) / statistics[row * 3u + 1u];
  let label = u32(labels[sizes.firstRow + row]);
  logits[at] = probability - select(0.0, 1.0, sizes.firstColumn + column == label);
}`,
};

export const crossEntropyKernels: FusedKernels = {
  chunkedCrossEntropy(recorder, inputs, { rowsAtOnce, gradients }) {
    const { rows, table, labels } = inputs as Record<'rows' | 'table' | 'labels', TensorInfo>;
    const [numRows, width] = rows.shape as [number, number];
    const loss = recorder.create([]);
    const dRows = gradients === 1 ? recorder.create([numRows, width]) : null;
    const dTable = gradients === 1 ? recorder.create(table.shape) : null;
    for (let first = 0; first < numRows; first += rowsAtOnce!) {
      const count = Math.min(rowsAtOnce!, numRows - first);
      const chunk = { tensor: rows, first, count };
      const parts = recorder.rowRanges(table, count * 4);
      const { logits, statistics } = logitsOf(recorder, chunk, parts, labels);
      recorder.run(LOSS, { statistics, loss }, { rows: count, firstRow: first }, 1);
      if (dRows !== null && dTable !== null) {
        parts.forEach((part, index) => {
          const dLogits = logits[index]!;
          const columnGroups = Math.ceil(part.count / LANES);
          const sizes = { rows: count, columns: part.count, firstRow: first, firstColumn: part.first };
          const operands = { logits: dLogits, statistics, labels };
          recorder.run(GRADIENT, operands, { ...sizes, columnGroups }, count * columnGroups);
          const intoRows = { tensor: dRows, first, count };
          product(recorder, { a: dLogits, b: part, into: intoRows, accumulate: index > 0 });
          const intoTable = { ...part, tensor: dTable };
          const transposed = { a: dLogits, b: chunk, transposeA: true };
          product(recorder, { ...transposed, into: intoTable, accumulate: first > 0 });
        });
      }
      recorder.release(...logits, statistics);
    }
    return dRows === null || dTable === null ? [loss] : [loss, dRows, dTable];
  },
};

/** The logits of a chunk for each part of the table, [n, v], and their statistics, [n, 3]. */
function logitsOf(
  recorder: Recorder,
  chunk: RowRange,
  parts: readonly RowRange[],
  labels: TensorInfo,
): { readonly logits: readonly TensorInfo[]; readonly statistics: TensorInfo } {
  const statistics = recorder.create([chunk.count, 3]);
  const logits = parts.map((part) => {
    const ofPart = product(recorder, { a: chunk, b: part, transposeB: true });
    const places = { firstRow: chunk.first, firstColumn: part.first };
    const sizes = { rows: chunk.count, columns: part.count, ...places };
    recorder.run(STATISTICS, { logits: ofPart, labels, statistics }, sizes, chunk.count);
    return ofPart;
  });
  return { logits, statistics };
}
