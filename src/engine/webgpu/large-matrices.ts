/**
 * The backend's kernels for what the model does with matrices that a device may not bind whole, besides own kernels: rows
 * of the tied table looked up or taken, its gradients scaled and added, activations multiplied by a mask or a slope. The backend
 * binds whole buffers, and WebGPU promises bindings of 128 MiB only, less than 50,265 x 768 floats; beyond the
 * device's limit these take rows in ranges. Everything else goes to the backend's own kernel.
 */
import type * as tfjs from '@tensorflow/tfjs';
import { assert } from '../../base/index.ts';
import type { WatchedBackend } from './backend.ts';
import { type Recorder, rowsOf, type Shader } from './recorder.ts';

type Tensor = tfjs.TensorInfo;
type Inputs = Readonly<Record<string, Tensor>>;
type Attributes = Readonly<Record<string, unknown>>;
/** The result, or null where the backend's own kernel is to be taken. */
type Replacement = (recorder: Recorder, inputs: Inputs, attributes: Attributes) => Tensor | null;

const LANES = 64;
const groupsFor = (size: number) => Math.ceil(size / LANES);

/** Writes the rows whose id lies in a range of the table, and leaves the others. */
const GATHER: Shader = {
  name: 'rows of a range by id',
  inputs: ['table', 'ids: i32'],
  outputs: ['out'],
  sizes: ['size', 'columns', 'first', 'count', 'skip_table'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index >= sizes.size) { return; }
  let id = u32(ids[index / sizes.columns]);
  if (id < sizes.first || id >= sizes.first + sizes.count) { return; }
  out[index] = table[sizes.skip_table + (id - sizes.first) * sizes.columns + index % sizes.columns];
}`,
};

const COPY: Shader = {
  name: 'rows of a range',
  inputs: ['table'],
  outputs: ['out'],
  sizes: ['size', 'skip_table'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index < sizes.size) { out[index] = table[sizes.skip_table + index]; }
}`,
};

const SCALE: Shader = {
  name: 'range times a number',
  inputs: ['table', 'factor'],
  outputs: ['out'],
  sizes: ['size', 'skip_table', 'skip_out'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index < sizes.size) { out[sizes.skip_out + index] = table[sizes.skip_table + index] * factor[0]; }
}`,
};

const elementwise = (name: string, operator: string): Shader => ({
  name: `range ${name} another`,
  inputs: ['left', 'right'],
  outputs: ['out'],
  sizes: ['size', 'skip_left', 'skip_right', 'skip_out'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index >= sizes.size) { return; }
  out[sizes.skip_out + index] = left[sizes.skip_left + index] ${operator} right[sizes.skip_right + index];
}`,
});
const PRODUCT = elementwise('times', '*');
const SUM = elementwise('plus', '+');

function isLarge(recorder: Recorder, { shape }: Tensor): boolean {
  return shape.length === 2 && shape[0]! * shape[1]! * 4 > recorder.bindingBytesMax;
}

const gather: Replacement = (recorder, { x, indices }, { axis, batchDims }) => {
  const table = x!;
  if (!isLarge(recorder, table) || axis !== 0 || batchDims !== 0 || indices!.shape.length !== 1) return null;
  const columns = table.shape[1]!;
  const out = recorder.create([indices!.shape[0]!, columns]);
  const size = indices!.shape[0]! * columns;
  for (const range of recorder.rowRanges(table)) {
    const { first, count } = range;
    const operands = { table: range, ids: indices!, out };
    recorder.run(GATHER, operands, { size, columns, first, count }, groupsFor(size));
  }
  return out;
};

const slice: Replacement = (recorder, { x }, { begin, size }) => {
  const table = x!;
  const [[first, firstColumn], [numRows, numColumns]] = [begin, size] as [[number, number], [number, number]];
  if (!isLarge(recorder, table)) return null;
  const columns = table.shape[1]!;
  assert(firstColumn === 0 && (numColumns === -1 || numColumns === columns), 'whole rows of a large table');
  const count = numRows === -1 ? table.shape[0]! - first : numRows;
  const out = recorder.create([count, columns]);
  const floats = count * columns;
  recorder.run(COPY, { table: { tensor: table, first, count }, out }, { size: floats }, groupsFor(floats));
  return out;
};

const multiply: Replacement = (recorder, { a, b }) => {
  const [left, right] = [a!, b!];
  if (right.shape.length > 0) return combined(recorder, PRODUCT, left, right);
  if (!isLarge(recorder, left)) return null;
  const out = recorder.create(left.shape);
  for (const range of recorder.rowRanges(left)) {
    const size = range.count * left.shape[1]!;
    const operands = { table: range, factor: right, out: rowsOf(out, range) };
    recorder.run(SCALE, operands, { size }, groupsFor(size));
  }
  return out;
};

/** tfjs adds up what several uses of a matrix give its gradient. */
const add: Replacement = (recorder, { a, b }) => combined(recorder, SUM, a!, b!);

function combined(recorder: Recorder, shader: Shader, left: Tensor, right: Tensor): Tensor | null {
  if (!isLarge(recorder, left) || String(left.shape) !== String(right.shape)) return null;
  const out = recorder.create(left.shape);
  for (const range of recorder.rowRanges(left)) {
    const size = range.count * left.shape[1]!;
    const operands = { left: range, right: rowsOf(right, range), out: rowsOf(out, range) };
    recorder.run(shader, operands, { size }, groupsFor(size));
  }
  return out;
}

const REPLACEMENTS: Readonly<Record<string, Replacement>> = {
  GatherV2: gather,
  Slice: slice,
  Multiply: multiply,
  Add: add,
};

/** Call once, after the backend's package has been loaded. */
export function registerLargeMatrices(tf: typeof tfjs): void {
  for (const [name, replacement] of Object.entries(REPLACEMENTS)) {
    const config = tf.getKernel(name, 'webgpu');
    assert(config !== undefined, `the webgpu backend has no kernel ${name}`);
    tf.unregisterKernel(name, 'webgpu');
    tf.registerKernel({
      ...config,
      kernelFunc: (parameters) => {
        const { inputs, attrs, backend } = parameters;
        const { recorder } = backend as WatchedBackend;
        // The kernel registry types arguments of all kernels alike.
        const result = replacement(recorder, inputs as Inputs, (attrs ?? {}) as Attributes);
        return result ?? config.kernelFunc(parameters);
      },
    });
  }
}
