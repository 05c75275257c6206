/**
 * Rows added into those of a table, in their order: a lane owns a column and goes through all rows, so that each
 * element is added to in one order, on every device. Sums are flushed, what is below 2^-126 to +0, for WebGPU leaves open
 * whether that is kept: model/lookups.ts does the same on the host.
 */
import type { FusedKernels } from './fused.ts';
import type { Shader } from './recorder.ts';

const LANES = 64;

const ADD_ROWS: Shader = {
  name: 'rows added into a table',
  inputs: ['rows', 'ids: i32'],
  outputs: ['table: u32'],
  sizes: ['count', 'columns', 'first', 'countOfTable', 'skip_table'],
  lanes: LANES,
  code: `
fn flushed(bits: u32) -> u32 {
  return select(bits, 0u, (bits & 0x7fffffffu) < 0x00800000u);
}
fn run(lane: u32, group: u32) {
  let column = group * LANES + lane;
  if (column >= sizes.columns) { return; }
  for (var row = 0u; row < sizes.count; row++) {
    // An input row that is read nowhere has no id, -1.
    let id = u32(ids[row]);
    if (id < sizes.first || id >= sizes.first + sizes.countOfTable) { continue; }
    let at = sizes.skip_table + (id - sizes.first) * sizes.columns + column;
    let term = flushed(bitcast<u32>(rows[row * sizes.columns + column]));
    table[at] = flushed(bitcast<u32>(bitcast<f32>(flushed(table[at])) + bitcast<f32>(term)));
  }
}`,
};

export const addRowsKernels: FusedKernels = {
  addRows(recorder, { table, rows, ids }) {
    const columns = table!.shape[1]!;
    for (const range of recorder.rowRanges(table!)) {
      const sizes = { count: rows!.shape[0]!, columns, first: range.first, countOfTable: range.count };
      recorder.run(ADD_ROWS, { rows: rows!, ids: ids!, table: range }, sizes, Math.ceil(columns / LANES));
    }
    return [recorder.share(table!)];
  },
};
