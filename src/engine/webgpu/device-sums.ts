/// <reference types="@webgpu/types" />
/**
 * Gradients added up on the device as the host's kernels add them (kernels/sum.wat): a leaf of the reduction tree is
 * flushed, what is below 2^-126 to +0; a node is left + right, flushed, any NaN the one quiet NaN 0x7fc00000. All but
 * the addition is done on bits, for WebGPU leaves open what becomes of subnormals and of NaN.
 *
 * It also leaves open which way an addition rounds. So a device proves itself on many pairs before it is trusted.
 */
import type * as tfjs from '@tensorflow/tfjs';
import { PhiloxRng } from '../../base/index.ts';
import type { DeviceSums } from '../engine.ts';
import type { WatchedBackend } from './backend.ts';
import { rowsOf, type Shader } from './recorder.ts';

const LANES = 64;
const SMALLEST_NORMAL = 0x0080_0000;
const INFINITE = 0x7f80_0000;
const QUIET_NAN = 0x7fc0_0000;

const LEAF: Shader = {
  name: 'leaf of a sum',
  inputs: ['values: u32'],
  outputs: ['leaf: u32', 'notFinite: atomic<u32>'],
  sizes: ['size', 'skip_values', 'skip_leaf'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index >= sizes.size) { return; }
  let bits = values[sizes.skip_values + index];
  let magnitude = bits & 0x7fffffffu;
  leaf[sizes.skip_leaf + index] = select(bits, 0u, magnitude < ${SMALLEST_NORMAL}u);
  if (magnitude >= ${INFINITE}u) { atomicOr(&notFinite[0], 1u); }
}`,
};

/** left += right */
const ADD: Shader = {
  name: 'node of a sum',
  inputs: ['right: u32'],
  outputs: ['left: u32'],
  sizes: ['size', 'skip_left', 'skip_right'],
  lanes: LANES,
  code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index >= sizes.size) { return; }
  let at = sizes.skip_left + index;
  let sum = bitcast<u32>(bitcast<f32>(left[at]) + bitcast<f32>(right[sizes.skip_right + index]));
  let magnitude = sum & 0x7fffffffu;
  let flushed = select(sum, 0u, magnitude < ${SMALLEST_NORMAL}u);
  left[at] = select(flushed, ${QUIET_NAN}u, magnitude > ${INFINITE}u);
}`,
};

export class WebgpuSums implements DeviceSums {
  readonly #tf: typeof tfjs;
  /** Of the device in use, which may change. */
  readonly #backend: () => WatchedBackend;

  constructor(tf: typeof tfjs, backend: () => WatchedBackend) {
    this.#tf = tf;
    this.#backend = backend;
  }

  async leaf(values: readonly (tfjs.Tensor | null)[]) {
    const { recorder } = this.#backend();
    const notFinite = this.#tf.tensor1d([0], 'int32');
    const leaves = values.map((tensor) => {
      if (tensor === null) return null;
      const leaf = recorder.create(tensor.shape);
      for (const range of recorder.rowRanges(matrixOf(tensor))) {
        const size = sizeOf(range);
        const operands = { values: range, leaf: rowsOf(matrixOf(leaf), range), notFinite };
        recorder.run(LEAF, operands, { size }, Math.ceil(size / LANES));
      }
      tensor.dispose();
      return this.#tf.engine().makeTensorFromTensorInfo(leaf);
    });
    try {
      return { leaf: leaves, allFinite: (await notFinite.data())[0] === 0 };
    } catch (error) {
      for (const leaf of leaves) leaf?.dispose();
      throw error;
    } finally {
      notFinite.dispose();
    }
  }

  add(left: readonly (tfjs.Tensor | null)[], right: readonly (tfjs.Tensor | null)[]) {
    const { recorder } = this.#backend();
    return left.map((sum, place) => {
      const other = right[place] ?? null;
      // Zeros, to which or from which nothing is to be added: a leaf holds no -0.
      if (sum === null || other === null) return sum ?? other;
      for (const range of recorder.rowRanges(matrixOf(sum))) {
        const size = sizeOf(range);
        const operands = { left: range, right: rowsOf(matrixOf(other), range) };
        recorder.run(ADD, operands, { size }, Math.ceil(size / LANES));
      }
      other.dispose();
      return sum;
    });
  }
}

/** The same numbers as a matrix, for ranges of rows. */
function matrixOf(tensor: tfjs.TensorInfo): tfjs.TensorInfo {
  if (tensor.shape.length === 2) return tensor;
  return {
    ...tensor,
    dataId: tensor.dataId,
    shape: [1, tensor.shape.reduce((size, side) => size * side, 1)],
  };
}

function sizeOf({ tensor, count }: { tensor: tfjs.TensorInfo; count: number }): number {
  return count * tensor.shape[1]!;
}

/** Pairs of bits: any at all, and such as lie close to each other, whose sums round and cancel. */
const PAIRS = 4096;

/** Whether the device adds what the host does, to the bit. */
export async function addsAsTheHost(tf: typeof tfjs, sums: DeviceSums): Promise<boolean> {
  const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream: 0, step: 0, slot: 0 });
  const [left, right] = [new Float32Array(PAIRS), new Float32Array(PAIRS)];
  const [leftBits, rightBits] = [new Uint32Array(left.buffer), new Uint32Array(right.buffer)];
  for (let i = 0; i < PAIRS; i += 1) {
    leftBits[i] = rng.nextInt(2 ** 16) * 2 ** 16 + rng.nextInt(2 ** 16);
    // Half of them within 32 binary orders, with either sign.
    const near =
      leftBits[i]! ^ (rng.nextInt(2) * 2 ** 31) ^ (rng.nextInt(32) * 2 ** 23) ^ rng.nextInt(2 ** 23);
    rightBits[i] = i % 2 === 0 ? near : rng.nextInt(2 ** 16) * 2 ** 16 + rng.nextInt(2 ** 16);
  }
  const parts = await Promise.all([left, right].map((values) => sums.leaf([tf.tensor1d(values)])));
  const [node] = sums.add(parts[0]!.leaf, parts[1]!.leaf);
  const found = (await node!.data()) as Float32Array;
  node!.dispose();
  const foundBits = new Uint32Array(found.buffer, found.byteOffset, PAIRS);
  return left.every((value, i) => foundBits[i] === bitsOf(flushed(value) + flushed(right[i]!)));
}

/** As float32. */
function flushed(value: number): number {
  return Math.abs(value) < 2 ** -126 ? 0 : value;
}

function bitsOf(sum: number): number {
  if (Number.isNaN(sum)) return QUIET_NAN;
  return new Uint32Array(Float32Array.of(flushed(Math.fround(sum))).buffer)[0]!;
}
