/**
 * What training asks of the WebGPU backend beyond what it brings. Forward and backward of this model need
 * no kernel that it lacks, but one of its four matrix products adds up in whatever order the card's threads
 * finish (float atomics, `MatMulSplitKProgram`; taken for small outputs with long sums). Where it would be
 * taken the tiled product is, whose order is fixed by the shapes.
 */
import type * as tfjs from '@tensorflow/tfjs';
import { assert } from '../../base/index.ts';

type Kernel = (parameters: MatMulArguments) => tfjs.TensorInfo;

interface MatMulArguments {
  readonly inputs: { readonly a: tfjs.TensorInfo; readonly b: tfjs.TensorInfo };
  readonly backend: unknown;
  readonly attrs: { readonly transposeA: boolean; readonly transposeB: boolean };
}

const PROGRAM_FLAG = 'WEBGPU_MATMUL_PROGRAM_TYPE';
/** Leaves the choice of a product to the backend. */
const BACKENDS_CHOICE = -1;
/** Length of a sum from which the backend considers the unordered product. */
const SPLIT_FROM = 2000;

/**
 * Replaces BatchMatMul; call once, after the backend's package has been loaded.
 * @param tiledProduct the tiled product in the backend's enumeration of products
 */
export function registerOrderedProduct(tf: typeof tfjs, tiledProduct: number): void {
  const config = tf.getKernel('BatchMatMul', 'webgpu');
  assert(config !== undefined, 'the webgpu backend has no kernel BatchMatMul');
  const multiply = config.kernelFunc as unknown as Kernel;

  const batchMatMul: Kernel = (parameters) => {
    const { inputs, attrs } = parameters;
    const inner = inputs.a.shape.at(attrs.transposeA ? -2 : -1)!;
    tf.env().set(PROGRAM_FLAG, inner >= SPLIT_FROM ? tiledProduct : BACKENDS_CHOICE);
    return multiply(parameters);
  };

  tf.unregisterKernel('BatchMatMul', 'webgpu');
  // The kernel registry types arguments of all kernels alike.
  tf.registerKernel({ ...config, kernelFunc: batchMatMul as unknown as tfjs.KernelFunc });
}
