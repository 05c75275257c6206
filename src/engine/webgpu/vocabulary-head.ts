/**
 * What rows say of a table's words, without a gradient: their logits, and the most probable of them. The table is
 * read as it lies, in as many ranges of rows as the device's largest binding asks for (most often one).
 *
 * Legend: N rows, D model, V vocabulary.
 */
import type { TensorInfo } from '@tensorflow/tfjs';
import type { FusedKernels } from './fused.ts';
import { product } from './product.ts';
import type { Shader } from './recorder.ts';

const LANES = 64;

/** The largest logit of each row and its place, beside those of the parts of the vocabulary before. */
const ARG_MAX: Shader = {
  name: 'most probable tokens',
  inputs: ['logits'],
  outputs: ['ids: i32', 'best'],
  sizes: ['rows', 'columns', 'firstRow', 'firstColumn'],
  lanes: LANES,
  reductions: ['maxOfLanes', 'firstOfLanes'],
  code: `
fn run(lane: u32, group: u32) {
  if (group >= sizes.rows) { return; }
  let start = group * sizes.columns;
  var value = -3e38;
  var place = 0u;
  for (var column = lane; column < sizes.columns; column += LANES) {
    let logit = logits[start + column];
    if (logit > value) {
      value = logit;
      place = column;
    }
  }
  let largest = maxOfLanes(lane, value);
  let first = firstOfLanes(lane, select(sizes.columns, place, value == largest));
  let row = sizes.firstRow + group;
  if (lane == 0u && (sizes.firstColumn == 0u || largest > best[row])) {
    best[row] = largest;
    ids[row] = i32(sizes.firstColumn + first);
  }
}`,
};

/** The logits of a range of words to their columns among all. */
const PLACE: Shader = {
  name: 'logits of a range to their place',
  inputs: ['part'],
  outputs: ['logits'],
  sizes: ['size', 'columns', 'firstColumn', 'allColumns'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index >= sizes.size) { return; }
  let row = index / sizes.columns;
  logits[row * sizes.allColumns + sizes.firstColumn + index % sizes.columns] = part[index];
}`,
};

export const vocabularyHeadKernels: FusedKernels = {
  argMaxRows(recorder, inputs, { rowsAtOnce }) {
    const { rows, table } = inputs as Record<'rows' | 'table', TensorInfo>;
    const numRows = rows.shape[0]!;
    const [ids, best] = [recorder.create([numRows], 'int32'), recorder.create([numRows])];
    for (let first = 0; first < numRows; first += rowsAtOnce!) {
      const count = Math.min(rowsAtOnce!, numRows - first);
      for (const part of recorder.rowRanges(table, count * 4)) {
        const logits = product(recorder, { a: { tensor: rows, first, count }, b: part, transposeB: true });
        const sizes = { rows: count, columns: part.count, firstRow: first, firstColumn: part.first };
        recorder.run(ARG_MAX, { logits, ids, best }, sizes, count);
        recorder.release(logits);
      }
    }
    recorder.release(best);
    return [ids];
  },

  tableLogits(recorder, inputs) {
    const { rows, table } = inputs as Record<'rows' | 'table', TensorInfo>;
    const [numRows, numWords] = [rows.shape[0]!, table.shape[0]!];
    const parts = recorder.rowRanges(table, numRows * 4);
    if (parts.length === 1) return [product(recorder, { a: rows, b: parts[0]!, transposeB: true })];
    const logits = recorder.create([numRows, numWords]);
    for (const range of parts) {
      const part = product(recorder, { a: rows, b: range, transposeB: true });
      const size = numRows * range.count;
      const sizes = { size, columns: range.count, firstColumn: range.first, allColumns: numWords };
      recorder.run(PLACE, { part, logits }, sizes, Math.ceil(size / LANES));
      recorder.release(part);
    }
    return [logits];
  },
};
