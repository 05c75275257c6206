/**
 * Sums over the rows of a matrix, for the gradients of biases and norms. Two steps: blocks of rows of a fixed
 * size, each added in row order, then the blocks in order.
 */
import type { TensorInfo } from '@tensorflow/tfjs';
import type { Recorder, Shader } from './recorder.ts';

const LANES = 64;
const BLOCK_ROWS = 64;

/** Of each block of rows, `values` and its products with `factors`; one lane a column. */
const BLOCKS = (['plain', 'withProducts'] as const).map(
  (kind): Shader => ({
    name: `column sums of blocks, ${kind}`,
    inputs: kind === 'plain' ? ['values'] : ['values', 'factors'],
    outputs: kind === 'plain' ? ['sums'] : ['sums', 'products'],
    sizes: ['rows', 'columns', 'columnGroups'],
    lanes: LANES,
    code: `
fn run(lane: u32, group: u32) {
  let block = group / sizes.columnGroups;
  let column = (group % sizes.columnGroups) * LANES + lane;
  let first = block * ${BLOCK_ROWS}u;
  if (column >= sizes.columns || first >= sizes.rows) { return; }
  var sum = 0.0;
  ${kind === 'plain' ? '' : 'var product = 0.0;'}
  for (var row = first; row < min(first + ${BLOCK_ROWS}u, sizes.rows); row++) {
    let value = values[row * sizes.columns + column];
    sum += value;
    ${kind === 'plain' ? '' : 'product += value * factors[row * sizes.columns + column];'}
  }
  sums[block * sizes.columns + column] = sum;
  ${kind === 'plain' ? '' : 'products[block * sizes.columns + column] = product;'}
}`,
  }),
);
const [PLAIN, WITH_PRODUCTS] = BLOCKS as [Shader, Shader];

/** Rows added up, whole. */
const WHOLE: Shader = {
  name: 'column sums',
  inputs: ['values'],
  outputs: ['sums'],
  sizes: ['rows', 'columns'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let column = group * LANES + lane;
  if (column >= sizes.columns) { return; }
  var sum = 0.0;
  for (var row = 0u; row < sizes.rows; row++) { sum += values[row * sizes.columns + column]; }
  sums[column] = sum;
}`,
};

/** The sums of the columns of `values` [N, D], and with `factors` [N, D] those of the products, each [D]. */
export function columnSums(recorder: Recorder, values: TensorInfo, factors?: TensorInfo): TensorInfo[] {
  const [rows, columns] = values.shape as [number, number];
  const columnGroups = Math.ceil(columns / LANES);
  const numBlocks = Math.ceil(rows / BLOCK_ROWS);
  const parts = (factors === undefined ? ['sums'] : ['sums', 'products']).map(() =>
    recorder.create([numBlocks, columns]),
  );
  const operands = { values, sums: parts[0]!, ...(factors && { factors, products: parts[1]! }) };
  const sizes = { rows, columns, columnGroups };
  recorder.run(factors === undefined ? PLAIN : WITH_PRODUCTS, operands, sizes, numBlocks * columnGroups);
  return parts.map((part) => {
    const sums = recorder.create([columns]);
    recorder.run(WHOLE, { values: part, sums }, { rows: numBlocks, columns }, columnGroups);
    recorder.release(part);
    return sums;
  });
}
