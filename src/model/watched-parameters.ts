/**
 * Parameters that tell when their gradient is known, for engines that can read one back while the backward pass
 * goes on. tfjs hands all gradients over at the end of a pass only. But it goes backwards through the
 * operations of the forward pass in their order, so an operation that stands right before a parameter's first use
 * is reached right after its last gradient was added. A parameter becomes such an operation when the forward
 * pass first takes it out of the tree.
 */
import { differentiable, type Tensor, type Tf } from './differentiable.ts';
import type { ParameterTree } from './parameters.ts';

export interface WatchedParameters {
  /** To be taken from within one differentiated function. */
  readonly tree: ParameterTree<Tensor>;
  /** After the pass. */
  dispose(): void;
}

/**
 * `onGradient` hears of a leaf once, in the backward pass, and not at all if the function does not reach it; the
 * tensor is the pass's own.
 * @param places where in `leaves` each leaf of the tree lies
 */
export function watchParameters(
  tf: Tf,
  places: ParameterTree<number>,
  leaves: readonly Tensor[],
  onGradient: (place: number, gradient: Tensor) => void,
): WatchedParameters {
  const taken = new Map<number, Tensor>();
  const take = (place: number): Tensor => {
    const known = taken.get(place);
    if (known !== undefined) return known;
    const leaf = leaves[place]!;
    const watched = differentiable(
      tf,
      [leaf],
      () => ({ value: tf.clone(leaf), saved: [] }),
      (dy) => {
        onGradient(place, dy);
        return [tf.clone(dy)];
      },
    );
    // Backward functions read parameters, which therefore outlive the forward pass.
    taken.set(place, tf.keep(watched));
    return watched;
  };
  return {
    // The same tree but for its leaves.
    tree: lazily(places, take) as ParameterTree<Tensor>,
    dispose: () => tf.dispose([...taken.values()]),
  };
}

/** A tree of objects and arrays whose numbers became what `take` makes of them, each when it is first read. */
function lazily(node: unknown, take: (place: number) => Tensor): unknown {
  if (Array.isArray(node)) return node.map((child) => lazily(child, take));
  if (typeof node !== 'object' || node === null) return node;
  const result = {};
  for (const [key, child] of Object.entries(node)) {
    const read = typeof child === 'number' ? { get: () => take(child) } : { value: lazily(child, take) };
    Object.defineProperty(result, key, { ...read, enumerable: true });
  }
  return result;
}
