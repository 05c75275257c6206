/**
 * Layer norm of a sum of one or two tensors, forward and backward: a workgroup for each row, which is read
 * from memory once and kept in cache for the passes over it.
 */
import type { TensorInfo } from '@tensorflow/tfjs';
import { columnSums } from './column-sums.ts';
import type { FusedKernels } from './fused.ts';
import type { Shader } from './recorder.ts';

const LANES = 64;

const forward = (second: boolean): Shader => ({
  name: `layer norm${second ? ' of a sum' : ''}`,
  inputs: ['x', ...(second ? ['y'] : []), 'weight', 'bias'],
  outputs: ['value', 'unit', 'scale'],
  sizes: ['rows', 'columns', 'epsilon: f32'],
  lanes: LANES,
  reductions: ['sumOfLanes'],
  code: `
fn run(lane: u32, group: u32) {
  if (group >= sizes.rows) { return; }
  let start = group * sizes.columns;
  let count = f32(sizes.columns);
  var sum = 0.0;
  for (var column = lane; column < sizes.columns; column += LANES) {
    let term = x[start + column]${second ? ' + y[start + column]' : ''};
    unit[start + column] = term;
    sum += term;
  }
  let mean = sumOfLanes(lane, sum) / count;
  var squares = 0.0;
  for (var column = lane; column < sizes.columns; column += LANES) {
    let centred = unit[start + column] - mean;
    squares += centred * centred;
  }
  let rowScale = 1.0 / sqrt(sumOfLanes(lane, squares) / count + sizes.epsilon);
  for (var column = lane; column < sizes.columns; column += LANES) {
    let normed = (unit[start + column] - mean) * rowScale;
    unit[start + column] = normed;
    value[start + column] = normed * weight[column] + bias[column];
  }
  if (lane == 0u) { scale[group] = rowScale; }
}`,
});
const FORWARD = forward(false);
const FORWARD_OF_SUM = forward(true);

/** The gradient loses its parts along the mean and along the normalized row itself. */
const BACKWARD: Shader = {
  name: 'layer norm gradient',
  inputs: ['dy', 'unit', 'scale', 'weight'],
  outputs: ['dx'],
  sizes: ['rows', 'columns'],
  lanes: LANES,
  reductions: ['sumOfLanes'],
  code: `
fn run(lane: u32, group: u32) {
  if (group >= sizes.rows) { return; }
  let start = group * sizes.columns;
  let count = f32(sizes.columns);
  var sum = 0.0;
  var products = 0.0;
  for (var column = lane; column < sizes.columns; column += LANES) {
    let dUnit = dy[start + column] * weight[column];
    sum += dUnit;
    products += dUnit * unit[start + column];
  }
  let mean = sumOfLanes(lane, sum) / count;
  let along = sumOfLanes(lane, products) / count;
  for (var column = lane; column < sizes.columns; column += LANES) {
    let dUnit = dy[start + column] * weight[column];
    dx[start + column] = (dUnit - mean - unit[start + column] * along) * scale[group];
  }
}`,
};

export const layerNormKernels: FusedKernels = {
  layerNorm(recorder, { x, y, weight, bias }, { epsilon }) {
    const [rows, columns] = x!.shape as [number, number];
    const [value, unit, scale] = [
      recorder.create(x!.shape),
      recorder.create(x!.shape),
      recorder.create([rows, 1]),
    ] as const;
    const operands = { x: x!, weight: weight!, bias: bias!, value, unit, scale, ...(y && { y }) };
    const shader = y === undefined ? FORWARD : FORWARD_OF_SUM;
    recorder.run(shader, operands, { rows, columns, epsilon: epsilon! }, rows);
    return [value, unit, scale];
  },

  layerNormGradient(recorder, { dy, unit, scale, weight }) {
    const [rows, columns] = dy!.shape as [number, number];
    const dx: TensorInfo = recorder.create(dy!.shape);
    const operands = { dy: dy!, unit: unit!, scale: scale!, weight: weight!, dx };
    recorder.run(BACKWARD, operands, { rows, columns }, rows);
    const [dBias, dWeight] = columnSums(recorder, dy!, unit!);
    return [dx, dWeight!, dBias!];
  },
};
