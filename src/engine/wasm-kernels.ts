/**
 * What training asks of the wasm backend beyond what it brings. Forward and backward of this model need
 * no kernel that it lacks (gathers go both ways, see model/rows.ts), but its BatchMatMul takes a
 * scalar loop, 30 times slower, whenever an operand is transposed or there is more than one matrix.
 * So BatchMatMul is replaced: operands are transposed first and matrices multiplied one by one, each by
 * the backend's fast single-matrix product. The order of every sum is that product's, fixed. Its gather finds
 * the place of each element anew; rows of a matrix are copied whole instead.
 */
import type * as tfjs from '@tensorflow/tfjs';
import { assert } from '../base/index.ts';

type Tf = typeof tfjs;
type Kernel = (parameters: { inputs: object; backend: unknown; attrs?: object }) => tfjs.TensorInfo;

/** The part of the wasm backend used here; its package exports the class without these members' types. */
interface WasmBackend {
  makeOutput(shape: readonly number[], dtype: 'float32'): tfjs.TensorInfo;
  /** Of the tensor's type; an Int32Array for int32. */
  typedArrayFromHeap(info: tfjs.TensorInfo): Float32Array;
  disposeData(dataId: object): boolean;
}

interface MatMulArguments {
  readonly inputs: { readonly a: tfjs.TensorInfo; readonly b: tfjs.TensorInfo };
  readonly backend: WasmBackend;
  readonly attrs: { readonly transposeA: boolean; readonly transposeB: boolean };
}

interface GatherArguments {
  readonly inputs: { readonly x: tfjs.TensorInfo; readonly indices: tfjs.TensorInfo };
  readonly backend: WasmBackend;
  readonly attrs: { readonly axis: number; readonly batchDims: number };
}

/** Replaces what is slow; call once, after the backend has started. */
export function registerWasmKernels(tf: Tf): void {
  replaceBatchMatMul(tf);
  replaceGather(tf);
}

function replaceGather(tf: Tf): void {
  const gatherAny = kernelOf(tf, 'GatherV2');
  const gather = ({ inputs, backend, attrs }: GatherArguments): tfjs.TensorInfo => {
    const { x, indices } = inputs;
    const isOfRows = x.shape.length === 2 && indices.shape.length === 1 && attrs.axis === 0;
    if (!isOfRows || attrs.batchDims !== 0 || x.dtype !== 'float32') {
      return gatherAny({ inputs, backend, attrs });
    }
    const [count, width] = x.shape as [number, number];
    const out = backend.makeOutput([indices.shape[0]!, width], 'float32');
    // The heap may have grown, and moved: its views are taken only now.
    const [from, to, rows] = [x, out, indices].map((tensor) => backend.typedArrayFromHeap(tensor));
    rows!.forEach((row, place) => {
      assert(row >= 0 && row < count, `row ${row} is one of ${count}`);
      to!.set(from!.subarray(row * width, (row + 1) * width), place * width);
    });
    return out;
  };
  replaceKernel(tf, 'GatherV2', gather);
}

function replaceBatchMatMul(tf: Tf): void {
  const multiplyOne = kernelOf(tf, 'BatchMatMul');
  const transpose = kernelOf(tf, 'Transpose');
  const slice = kernelOf(tf, 'Slice');

  /** `x` with its last two axes swapped; a new tensor. */
  const swapped = (backend: WasmBackend, x: tfjs.TensorInfo): tfjs.TensorInfo => {
    const axes = x.shape.map((_, axis) => axis);
    const perm = [...axes.slice(0, -2), axes.length - 1, axes.length - 2];
    return transpose({ inputs: { x }, backend, attrs: { perm } });
  };

  const multiply = (backend: WasmBackend, a: tfjs.TensorInfo, b: tfjs.TensorInfo): tfjs.TensorInfo => {
    const attrs = { transposeA: false, transposeB: false };
    const batchShape = a.shape.slice(0, -2);
    const count = sizeOf(batchShape);
    // Broadcast batches do not occur in the model; the backend's own kernel knows them.
    if (count === 1 || sizeOf(b.shape.slice(0, -2)) !== count) {
      return multiplyOne({ inputs: { a, b }, backend, attrs });
    }
    const [rows, inner, columns] = [a.shape.at(-2)!, a.shape.at(-1)!, b.shape.at(-1)!];
    const out = backend.makeOutput([...batchShape, rows, columns], 'float32');
    const matrix = (x: tfjs.TensorInfo, index: number, shape: number[]) =>
      slice({
        inputs: { x: { dataId: x.dataId, dtype: x.dtype, shape: [count, ...shape] } },
        backend,
        attrs: { begin: [index, 0, 0], size: [1, ...shape] },
      });
    for (let index = 0; index < count; index += 1) {
      const left = matrix(a, index, [rows, inner]);
      const right = matrix(b, index, [inner, columns]);
      const product = multiplyOne({ inputs: { a: left, b: right }, backend, attrs });
      // The heap may have grown, and moved, in between: its views are taken only now.
      backend.typedArrayFromHeap(out).set(backend.typedArrayFromHeap(product), index * rows * columns);
      for (const part of [left, right, product]) backend.disposeData(part.dataId);
    }
    return out;
  };

  const batchMatMul = ({ inputs: { a, b }, backend, attrs }: MatMulArguments): tfjs.TensorInfo => {
    const left = attrs.transposeA ? swapped(backend, a) : a;
    const right = attrs.transposeB ? swapped(backend, b) : b;
    const out = multiply(backend, left, right);
    if (left !== a) backend.disposeData(left.dataId);
    if (right !== b) backend.disposeData(right.dataId);
    return out;
  };

  replaceKernel(tf, 'BatchMatMul', batchMatMul);
}

function kernelOf(tf: Tf, name: string): Kernel {
  const config = tf.getKernel(name, 'wasm');
  assert(config !== undefined, `the wasm backend has no kernel ${name}`);
  return config.kernelFunc as unknown as Kernel;
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

function replaceKernel(tf: Tf, kernelName: string, kernel: unknown): void {
  tf.unregisterKernel(kernelName, 'wasm');
  // The kernel registry types arguments of all kernels alike.
  tf.registerKernel({ kernelName, backendName: 'wasm', kernelFunc: kernel as tfjs.KernelFunc });
}
