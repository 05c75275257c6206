/**
 * The fused kernels of base/fused-kernels.ts for the tensorflow engine, on TensorFlow's operations by
 * name. Gradients are the hand-derived ones of the model's plain forms.
 *
 * Where an expression differs from the plain form it saves passes over memory: the sum of dWeights *
 * weights over keys is that of dContext * context over a head's features, which is the smaller array
 * (Dao et al., FlashAttention, appendix B.4); logits less one-hot labels are subtracted in place.
 */
import type * as tfjs from '@tensorflow/tfjs';
import { FUSED_KERNELS } from '../../base/index.ts';
import { attendedNorm, feedForwardNorm, head, keysAndValues } from './inference-kernels.ts';
import { type OpsBackend, SWAP_MIDDLE, TensorflowOps, type Value } from './ops.ts';

export type Inputs = Readonly<Record<string, tfjs.TensorInfo>>;
type Attributes = Readonly<Record<string, number>>;
export type Kernel = (ops: TensorflowOps, inputs: Inputs, attributes: Attributes) => tfjs.Tensor[];

const linear: Kernel = (ops, { x, weight, bias }) => {
  const product = ops.matMul(ops.read(x!), ops.read(weight!), false, true);
  return [ops.tensor(ops.biasAdd(product, ops.read(bias!)), [x!.shape[0]!, weight!.shape[0]!])];
};

/** A page of memory, in floats. */
const PAGE = 1024;
const COLUMNS = 256;

/**
 * dW [O, I] = dy^T x, of [N, O] and [N, I]. oneDNN multiplies a narrow operand with a transposed one where they lie,
 * without packing them; with rows whole pages apart, at half its pace. So the wide operand is taken in columns then.
 */
function weightGradient(
  ops: TensorflowOps,
  dy: Value,
  x: Value,
  numRows: number,
  shape: readonly number[],
): Value {
  const [outputs, inputs] = shape as [number, number];
  const wide = Math.max(outputs, inputs);
  if (Math.min(outputs, inputs) > COLUMNS || wide % PAGE !== 0) return ops.matMul(dy, x, true);
  const columns = (of: Value, part: number) => ops.slice(of, [0, part * COLUMNS], [numRows, COLUMNS]);
  const parts = Array.from({ length: wide / COLUMNS }, (_, part) =>
    outputs === wide ? ops.matMul(columns(dy, part), x, true) : ops.matMul(dy, columns(x, part), true),
  );
  return ops.reshape(ops.pack(parts, outputs === wide ? 0 : 1), shape);
}

const linearGradient: Kernel = (ops, { dy, x, weight }) => {
  const gradient = ops.read(dy!);
  return [
    ops.tensor(ops.matMul(gradient, ops.read(weight!)), x!.shape),
    ops.tensor(weightGradient(ops, gradient, ops.read(x!), x!.shape[0]!, weight!.shape), weight!.shape),
    ops.tensor(ops.biasGradient(gradient), [weight!.shape[0]!]),
  ];
};

const layerNorm: Kernel = (ops, { x, y, weight, bias }, { epsilon }) => {
  const sum = y === undefined ? ops.read(x!) : ops.add(ops.read(x!), ops.read(y));
  const isOwn = sum.isTemporary;
  const mean = ops.rowMean(ops.keep(sum));
  const centred = ops.keep(ops.sub(sum, mean));
  if (isOwn) ops.release(sum);
  const variance = ops.rowMean(ops.square(centred));
  const scale = ops.keep(ops.rsqrt(ops.add(variance, ops.scalar(epsilon!))));
  const unit = ops.keep(ops.mul(centred, scale));
  ops.release(centred);
  const value = ops.add(ops.mul(unit, ops.read(weight!)), ops.read(bias!));
  const { shape } = x!;
  return [ops.tensor(value, shape), ops.tensor(unit, shape), ops.tensor(scale, [shape[0]!, 1])];
};

const layerNormGradient: Kernel = (ops, { dy, unit: unitTensor, scale, weight }) => {
  const [gradient, unit] = [ops.read(dy!), ops.read(unitTensor!)];
  const dWeight = ops.biasGradient(ops.mul(gradient, unit));
  const dUnit = ops.keep(ops.mul(gradient, ops.read(weight!)));
  const along = ops.rowMean(ops.mul(dUnit, unit));
  const centred = ops.sub(dUnit, ops.rowMean(dUnit));
  ops.release(dUnit);
  const dx = ops.mul(ops.sub(centred, ops.mul(unit, along)), ops.read(scale!));
  return [
    ops.tensor(dx, dy!.shape),
    ops.tensor(dWeight, weight!.shape),
    ops.tensor(ops.biasGradient(gradient), weight!.shape),
  ];
};

const gelu: Kernel = (ops, { x: tensor }) => {
  const x = ops.read(tensor!);
  const phi = ops.keep(ops.scale(ops.add(ops.erf(ops.scale(x, Math.SQRT1_2)), ops.scalar(1)), 0.5));
  const value = ops.mul(x, phi);
  const density = ops.scale(ops.exp(ops.scale(ops.square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  const slope = ops.add(ops.mul(density, x), phi);
  ops.release(phi);
  return [ops.tensor(value, tensor!.shape), ops.tensor(slope, tensor!.shape)];
};

/** The shapes of attention's operands, from rows [B*rows, D] and the number of heads. */
function headsOf(rows: tfjs.TensorInfo, batchSize: number, heads: number) {
  const [numRows, dModel] = rows.shape as [number, number];
  const perSequence = numRows / batchSize;
  const headSize = dModel / heads;
  return {
    apart: [batchSize, perSequence, heads, headSize],
    split: [batchSize, heads, perSequence, headSize],
  };
}

/** [B*rows, D] to [B, H, rows, E]. */
function split(ops: TensorflowOps, x: Value, apart: readonly number[]): Value {
  return ops.transpose(ops.reshape(x, apart), SWAP_MIDDLE);
}

/** [B, H, rows, E] to [B*rows, D], as a tensor. */
function merged(ops: TensorflowOps, x: Value, shape: readonly number[]): tfjs.Tensor {
  return ops.tensor(ops.reshape(ops.transpose(x, SWAP_MIDDLE), shape), shape);
}

const attention: Kernel = (ops, inputs, { batchSize, heads, scale }) => {
  const { query, key, value, keyBias, weightMask } = inputs;
  const ofQuery = headsOf(query!, batchSize!, heads!);
  const ofKey = headsOf(key!, batchSize!, heads!);
  const query_BHQE = ops.keep(split(ops, ops.scale(ops.read(query!), scale!), ofQuery.apart));
  const key_BHKE = ops.keep(split(ops, ops.read(key!), ofKey.apart));
  const value_BHKE = ops.keep(split(ops, ops.read(value!), ofKey.apart));
  const scores = ops.batchMatMul(query_BHQE, key_BHKE, false, true);
  const weights = ops.keep(ops.softmax(keyBias === undefined ? scores : ops.add(scores, ops.read(keyBias))));
  const kept = weightMask === undefined ? weights : ops.keep(ops.mul(weights, ops.read(weightMask)));
  const context = merged(ops, ops.batchMatMul(kept, value_BHKE), query!.shape);
  const weightShape = [...ofQuery.split.slice(0, 3), ofKey.split[2]!];
  return [
    context,
    ops.tensor(query_BHQE, ofQuery.split),
    ops.tensor(key_BHKE, ofKey.split),
    ops.tensor(value_BHKE, ofKey.split),
    ops.tensor(weights, weightShape),
    ...(kept === weights ? [] : [ops.tensor(kept, weightShape)]),
  ];
};

const attentionGradient: Kernel = (ops, inputs, { scale }) => {
  const { dContext, context, query, key, value, weights, kept, weightMask } = inputs;
  const [batchSize, heads, numQueries, headSize] = query!.shape as [number, number, number, number];
  const numKeys = key!.shape[2]!;
  const queryRows = [batchSize * numQueries, heads * headSize];
  const keyRows = [batchSize * numKeys, heads * headSize];
  const apart = [batchSize, numQueries, heads, headSize];
  const dContext_BHQE = ops.keep(split(ops, ops.read(dContext!), apart));
  const dValue = ops.batchMatMul(ops.read(kept ?? weights!), dContext_BHQE, true);
  const products = ops.reshape(ops.mul(ops.read(dContext!), ops.read(context!)), apart);
  const along_BHQ1 = ops.transpose(ops.rowSum(products), SWAP_MIDDLE);
  const dKept = ops.batchMatMul(dContext_BHQE, ops.read(value!), false, true);
  ops.release(dContext_BHQE);
  const dWeights = weightMask === undefined ? dKept : ops.mul(dKept, ops.read(weightMask));
  const dScores = ops.keep(ops.mul(ops.sub(dWeights, along_BHQ1), ops.read(weights!)));
  const dQuery = ops.scale(ops.batchMatMul(dScores, ops.read(key!)), scale!);
  const dKey = ops.batchMatMul(dScores, ops.read(query!), true);
  ops.release(dScores);
  return [merged(ops, dQuery, queryRows), merged(ops, dKey, keyRows), merged(ops, dValue, keyRows)];
};

const crossEntropy: Kernel = (ops, { rows: rowsTensor, table: tableTensor, labels }) => {
  const [numRows, vocabSize] = [rowsTensor!.shape[0]!, tableTensor!.shape[0]!];
  const [rows, table] = [ops.read(rowsTensor!), ops.read(tableTensor!)];
  const places = ops.keep(ops.indices(ops.integers(labels!).map((label, row) => row * vocabSize + label)));
  const ones = ops.floats(new Float32Array(numRows).fill(1), [numRows, 1]);
  const logits = ops.matMul(rows, table, false, true);
  const logProbabilities = ops.keep(ops.logSoftmax(logits));
  const flat = ops.reshape(logProbabilities, [numRows * vocabSize]);
  const lossSum = ops.neg(ops.sum(ops.gather(flat, places)));
  const probabilities = ops.reshape(ops.exp(logProbabilities), [numRows * vocabSize, 1]);
  ops.release(logProbabilities);
  const changed = ops.subtractInPlace(probabilities, places, ones);
  ops.release(places);
  const dLogits = ops.keep(ops.reshape(changed, [numRows, vocabSize]));
  const dRows = ops.matMul(dLogits, table);
  const dTable = ops.matMul(dLogits, rows, true);
  ops.release(dLogits);
  return [
    ops.tensor(lossSum, []),
    ops.tensor(dRows, rowsTensor!.shape),
    ops.tensor(dTable, tableTensor!.shape),
  ];
};

const KERNELS: Readonly<Record<keyof typeof FUSED_KERNELS, Kernel>> = {
  linear,
  linearGradient,
  layerNorm,
  layerNormGradient,
  gelu,
  attention,
  attentionGradient,
  crossEntropy,
  keysAndValues,
  attendedNorm,
  feedForwardNorm,
  head,
};

/** Registers the fused kernels, once in a process however often an engine is loaded; after the backend has started. */
export function registerTensorflowKernels(tf: typeof tfjs): void {
  if (tf.getKernel(FUSED_KERNELS.gelu, 'tensorflow') !== undefined) return;
  const ops = new TensorflowOps(tf.backend() as unknown as OpsBackend);
  for (const [name, kernel] of Object.entries(KERNELS)) {
    tf.registerKernel({
      kernelName: FUSED_KERNELS[name as keyof typeof FUSED_KERNELS],
      backendName: 'tensorflow',
      // The kernel registry types arguments of all kernels alike.
      kernelFunc: ({ inputs, attrs }) => kernel(ops, inputs as Inputs, (attrs ?? {}) as Attributes),
    });
  }
  replaceGather(tf, ops);
}

/** tfjs-node's own kernel reads the indices back to check them, which TensorFlow does too: a look at the device in the middle of a pass. */
function replaceGather(tf: typeof tfjs, ops: TensorflowOps): void {
  const { kernelFunc: readingBack } = tf.getKernel(tf.GatherV2, 'tensorflow');
  tf.unregisterKernel(tf.GatherV2, 'tensorflow');
  tf.registerKernel({
    kernelName: tf.GatherV2,
    backendName: 'tensorflow',
    kernelFunc: (call) => {
      const { x, indices } = call.inputs as Inputs;
      const { axis, batchDims } = call.attrs as Attributes;
      if (x!.dtype !== 'float32' || batchDims !== 0) return readingBack(call);
      const shape = [...x!.shape.slice(0, axis), ...indices!.shape, ...x!.shape.slice(axis! + 1)];
      return ops.tensor(ops.gather(ops.read(x!), ops.read(indices!), axis), shape);
    },
  });
}
