/**
 * The fused kernels of generation for the tensorflow engine: as the composed forms of model/inference-layers.ts and
 * model/vocabulary-head.ts, one call of tfjs's for each sublayer.
 */
import type { Inputs, Kernel } from './kernels.ts';
import { SWAP_MIDDLE, type TensorflowOps, type Value } from './ops.ts';

export const keysAndValues: Kernel = (ops, { all, weight }, { batchSize, heads }) => {
  const [numRows, dModel] = all!.shape as [number, number];
  const perSequence = numRows / batchSize!;
  const headSize = dModel / heads!;
  const both = ops.matMul(ops.read(all!), ops.read(weight!));
  const split = ops.keep(
    ops.transpose(ops.reshape(both, [batchSize!, perSequence, 2 * heads!, headSize]), SWAP_MIDDLE),
  );
  const shape = [batchSize!, heads!, perSequence, headSize];
  const half = (first: number) => ops.tensor(ops.slice(split, [0, first, 0, 0], shape), shape);
  const result = [half(0), half(heads!)];
  ops.release(split);
  return result;
};

export const attendedNorm: Kernel = (ops, inputs, { epsilon }) => {
  const { x, keys, values, keyBias } = inputs;
  const [batchSize, heads, , headSize] = keys!.shape as [number, number, number, number];
  const numQueries = x!.shape[0]! / batchSize;
  // With one query, [B, H, 1, E] and [B, 1, H, E] lie in memory alike.
  const swapped = (value: Value, [a, b]: readonly [number, number]) => {
    const shape = [batchSize, a, b, headSize];
    return numQueries === 1
      ? ops.reshape(value, [batchSize, b, a, headSize])
      : ops.transpose(ops.reshape(value, shape), SWAP_MIDDLE);
  };
  const query = swapped(projected(ops, inputs, ops.read(x!), 'query'), [numQueries, heads]);
  const scores = ops.batchMatMul(query, ops.read(keys!), false, true);
  const weights = ops.softmax(keyBias === undefined ? scores : ops.add(scores, ops.read(keyBias)));
  const context = swapped(ops.batchMatMul(weights, ops.read(values!)), [heads, numQueries]);
  const output = projected(ops, inputs, ops.reshape(context, x!.shape), 'out');
  return [ops.tensor(normed(ops, inputs, ops.add(ops.read(x!), output), epsilon!), x!.shape)];
};

export const feedForwardNorm: Kernel = (ops, inputs, { epsilon }) => {
  const { x, weight1, bias1, weight2, bias2 } = inputs;
  const scaled = ops.keep(ops.biasAdd(ops.matMul(ops.read(x!), ops.read(weight1!)), ops.read(bias1!)));
  const activated = ops.mul(scaled, ops.add(ops.erf(scaled), ops.scalar(1)));
  ops.release(scaled);
  const output = ops.biasAdd(ops.matMul(activated, ops.read(weight2!)), ops.read(bias2!));
  return [ops.tensor(normed(ops, inputs, ops.add(ops.read(x!), output), epsilon!), x!.shape)];
};

export const head: Kernel = (ops, { rows, columns }) => {
  const numRows = rows!.shape[0]!;
  const logits = ops.keep(ops.matMul(ops.read(rows!), ops.read(columns!)));
  const best = ops.rowArgMax(logits);
  const shifted = ops.keep(ops.sub(logits, ops.rowMax(logits)));
  ops.release(logits);
  const exponential = ops.keep(ops.exp(shifted));
  const vector = (value: Value) => ops.reshape(value, [numRows]);
  const total = vector(ops.rowSum(exponential));
  const weighted = vector(ops.rowSum(ops.mul(exponential, shifted)));
  ops.release(shifted, exponential);
  return [ops.tensor(ops.pack([best, total, weighted]), [3, numRows])];
};

function projected(ops: TensorflowOps, inputs: Inputs, x: Value, name: 'query' | 'out'): Value {
  return ops.biasAdd(ops.matMul(x, ops.read(inputs[`${name}Weight`]!)), ops.read(inputs[`${name}Bias`]!));
}

/** Layer norm whose gain holds the root of D, so that sums stand for means. */
function normed(ops: TensorflowOps, { x, gain, bias }: Inputs, sum: Value, epsilon: number): Value {
  const rows = ops.keep(sum);
  const centred = ops.keep(ops.sub(rows, ops.rowMean(rows)));
  ops.release(rows);
  const squares = ops.rowSum(ops.square(centred));
  const scale = ops.rsqrt(ops.add(squares, ops.scalar(epsilon * x!.shape[1]!)));
  const unit = ops.mul(centred, scale);
  ops.release(centred);
  return ops.biasAdd(ops.mul(unit, ops.read(gain!)), ops.read(bias!));
}
