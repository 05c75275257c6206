/**
 * Operations with hand-derived gradients, over `tf.customGrad`. A fused operation runs a fraction of
 * the kernels that automatic differentiation would, and keeps only what its gradient reads.
 *
 * Ownership: tfjs frees every tensor of a forward pass when it ends, except what is saved here. A
 * backward function therefore reads saved tensors and model parameters (which outlive the pass), never
 * another tensor of the forward pass. Each operation is tested against its plain form.
 */
import type * as tfjs from '@tensorflow/tfjs';
import type { FusedKernelName } from '../base/index.ts';

/** TensorFlow.js as an engine hands it over: core ops on a chosen backend. */
export type Tf = typeof tfjs;
export type Tensor = tfjs.Tensor;

export interface Forward {
  readonly value: Tensor;
  /** What the backward function gets, in this order. */
  readonly saved: readonly Tensor[];
}

/**
 * Runs `forward` as one operation of `inputs`. `backward` gets the gradient of the value and returns
 * the gradients of the inputs, in order, each a tensor of its own (clone what two inputs share).
 */
export function differentiable(
  tf: Tf,
  inputs: readonly Tensor[],
  forward: () => Forward,
  backward: (dy: Tensor, saved: Tensor[]) => Tensor[],
): Tensor {
  const operation = tf.customGrad((...args) => {
    // tfjs passes its save function last and types all arguments alike.
    const save = args.at(-1) as tfjs.GradSaveFunc;
    const { value, saved } = forward();
    save([...saved]);
    return { value, gradFunc: backward };
  });
  return operation(...inputs);
}

/** Runs a fused kernel on tensors by name; those that are null or undefined are left out. */
export type FusedKernel = (
  inputs: Readonly<Record<string, Tensor | null | undefined>>,
  attributes?: Readonly<Record<string, number>>,
) => Tensor[];

/** The engine's own kernel of this name, or null where core ops are to be composed. */
export function fusedKernel(tf: Tf, name: FusedKernelName): FusedKernel | null {
  if (tf.getKernel(name, tf.getBackend()) === undefined) return null;
  return (inputs, attributes) => {
    const present = Object.fromEntries(Object.entries(inputs).filter(([, tensor]) => tensor != null));
    return tf.engine().runKernel(name, present as tfjs.NamedTensorMap, { ...attributes }) as Tensor[];
  };
}
