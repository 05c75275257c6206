/**
 * Sums over the rows of a matrix, for the gradients of biases and norms. Two steps: blocks of rows of a fixed
 * size, each added in row order, then the blocks in order.
 */
import type { TensorInfo } from '@tensorflow/tfjs';
import { type Recorder, type RowRange, rowsOf, type Shader } from './recorder.ts';

const LANES = 64;
const BLOCK_ROWS = 64;

const SKIPS = ['skip_values', 'skip_factors'];
/** Of each block of rows, `values` and its products with `factors`; one lane a column. */
const BLOCKS = (['plain', 'withProducts'] as const).map(
  (kind): Shader => ({
    name: `column sums of blocks, ${kind}`,
    inputs: kind === 'plain' ? ['values'] : ['values', 'factors'],
    outputs: kind === 'plain' ? ['sums'] : ['sums', 'products'],
    sizes: [
      'rows',
      'columns',
      'columnGroups',
      'firstBlock',
      ...(kind === 'plain' ? SKIPS.slice(0, 1) : SKIPS),
    ],
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
    let value = values[sizes.skip_values + row * sizes.columns + column];
    sum += value;
    ${kind === 'plain' ? '' : 'product += value * factors[sizes.skip_factors + row * sizes.columns + column];'}
  }
  let at = (sizes.firstBlock + block) * sizes.columns + column;
  sums[at] = sum;
  ${kind === 'plain' ? '' : 'products[at] = product;'}
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
  const columns = values.shape[1]!;
  const columnGroups = Math.ceil(columns / LANES);
  const ranges = recorder.rowRanges(values);
  const blocksOf = ({ count }: RowRange) => Math.ceil(count / BLOCK_ROWS);
  const numBlocks = ranges.reduce((sum, range) => sum + blocksOf(range), 0);
  const parts = (factors === undefined ? ['sums'] : ['sums', 'products']).map(() =>
    recorder.create([numBlocks, columns]),
  );
  let firstBlock = 0;
  for (const range of ranges) {
    const products = factors && { factors: rowsOf(factors, range), products: parts[1]! };
    const sizes = { rows: range.count, columns, columnGroups, firstBlock };
    const operands = { values: range, sums: parts[0]!, ...products };
    recorder.run(
      factors === undefined ? PLAIN : WITH_PRODUCTS,
      operands,
      sizes,
      blocksOf(range) * columnGroups,
    );
    firstBlock += blocksOf(range);
  }
  return parts.map((part) => {
    const sums = recorder.create([columns]);
    recorder.run(WHOLE, { values: part, sums }, { rows: numBlocks, columns }, columnGroups);
    recorder.release(part);
    return sums;
  });
}
