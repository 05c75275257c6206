/**
 * Operations with hand-derived gradients, and the tape that they are recorded on. A fused operation runs a fraction of
 * the kernels that automatic differentiation would, and keeps only what its gradient reads. The tape is not that of
 * tfjs, which costs about as much as a kernel for each operation and hands all gradients over at the end.
 *
 * What is not one of these operations has no gradient: to the tape its result is a constant. Each operation is tested
 * against its plain form, and whole models against tfjs's own differentiation.
 */
import type * as tfjs from '@tensorflow/tfjs';
import { assert, type FusedKernelName } from '../base/index.ts';

/** TensorFlow.js as an engine hands it over: core ops on a chosen backend. */
export type Tf = typeof tfjs;
export type Tensor = tfjs.Tensor;

export interface Forward {
  readonly value: Tensor;
  /** What the backward function gets, in this order. */
  readonly saved: readonly Tensor[];
}

/** From the gradient of an operation's value those of its inputs, in order, each a tensor of its own. */
export type Backward = (dy: Tensor, saved: readonly Tensor[]) => Tensor[];

interface Recorded {
  readonly inputs: readonly Tensor[];
  readonly value: Tensor;
  readonly saved: readonly Tensor[];
  readonly backward: Backward;
}

class Tape {
  readonly recorded: Recorded[] = [];
  /** Ids of the tensors that are differentiated with respect to, and of all that depend on them. */
  readonly #variables: Set<number>;

  constructor(variables: readonly Tensor[]) {
    this.#variables = new Set(variables.map(({ id }) => id));
  }

  isVariable({ id }: Tensor): boolean {
    return this.#variables.has(id);
  }

  record(operation: Recorded): void {
    this.recorded.push(operation);
    this.#variables.add(operation.value.id);
  }
}

/** Of the function that is being differentiated: this runs on one thread, and to its end. */
let tape: Tape | null = null;

/**
 * Runs `forward` as one operation of `inputs`. What it makes beside its value and what it saves is freed. `saved` may
 * name inputs, and other tensors that outlive the pass.
 */
export function differentiable(
  tf: Tf,
  inputs: readonly Tensor[],
  forward: () => Forward,
  backward: Backward,
): Tensor {
  const isVariable = tape !== null && inputs.some((input) => tape!.isVariable(input));
  if (tape === null || !isVariable) return tf.tidy(() => forward().value);
  const [value, ...saved] = tf.tidy(() => {
    const made = forward();
    return [made.value, ...made.saved];
  });
  tape.record({ inputs, value: value!, saved, backward });
  return value!;
}

/**
 * The value of a function, a scalar, and its gradient with respect to each of `variables`, null where the function does
 * not reach it. The caller's `tf.tidy` frees what the pass has left over.
 * @param onGradient hears of a gradient as soon as it is complete, in the middle of the backward pass
 */
export function gradients(
  tf: Tf,
  compute: () => Tensor,
  variables: readonly Tensor[],
  onGradient: (place: number, gradient: Tensor) => void = () => {},
): { readonly value: Tensor; readonly gradients: readonly (Tensor | null)[] } {
  assert(tape === null, 'one function is differentiated at a time');
  tape = new Tape(variables);
  const { recorded, isVariable } = { recorded: tape.recorded, isVariable: tape.isVariable.bind(tape) };
  let value: Tensor;
  try {
    value = compute();
  } finally {
    tape = null;
  }
  const completedBy = placesByFirstUse(recorded, variables);
  const found = new Map<number, Tensor>([[value.id, tf.ones(value.shape)]]);
  const add = ({ id }: Tensor, gradient: Tensor) => {
    const other = found.get(id);
    found.set(id, other === undefined ? gradient : tf.add(other, gradient));
    if (other !== undefined) tf.dispose([other, gradient]);
  };
  for (let index = recorded.length - 1; index >= 0; index -= 1) {
    const operation = recorded[index]!;
    const dy = found.get(operation.value.id);
    if (dy !== undefined) {
      found.delete(operation.value.id);
      const parts = tf.tidy(() => operation.backward(dy, operation.saved));
      operation.inputs.forEach((input, place) => {
        if (isVariable(input)) add(input, parts[place]!);
        else parts[place]!.dispose();
      });
      dy.dispose();
    }
    // No operation before this one reads it.
    if (operation.value !== value) operation.value.dispose();
    for (const place of completedBy.get(index) ?? []) {
      const gradient = found.get(variables[place]!.id);
      if (gradient !== undefined) onGradient(place, gradient);
    }
  }
  return { value, gradients: variables.map(({ id }) => found.get(id) ?? null) };
}

/** Places of variables by the operation that is the first to read them, and so the last to add to their gradients. */
function placesByFirstUse(
  recorded: readonly Recorded[],
  variables: readonly Tensor[],
): Map<number, number[]> {
  const places = new Map(variables.map(({ id }, place) => [id, place]));
  const found = new Map<number, number[]>();
  recorded.forEach(({ inputs }, index) => {
    for (const { id } of inputs) {
      const place = places.get(id);
      if (place === undefined) continue;
      places.delete(id);
      found.set(index, [...(found.get(index) ?? []), place]);
    }
  });
  return found;
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
