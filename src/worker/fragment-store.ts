/**
 * The gradients a worker has computed of the step under way, summed along the reduction tree as far
 * as its own slots allow: like a binary counter, so that a whole range needs few buffers.
 */
import type { SlotRange } from '../base/index.ts';
import type { Kernels } from '../kernels/index.ts';
import { PartialSums } from './partial-sums.ts';
import type { SharedFragment } from './thread-messages.ts';

export class FragmentStore {
  readonly #kernels: Kernels;
  readonly #floats: number;
  readonly #allocate: (floats: number) => Float32Array;
  /** Each of the model's length. */
  readonly #free: Float32Array[] = [];
  readonly #sums: PartialSums<Float32Array>;

  /** `allocate` makes vectors where the comm thread, and peers if possible, can read them. */
  constructor(
    kernels: Kernels,
    floats: number,
    microBatches: number,
    allocate: (floats: number) => Float32Array = (length) =>
      new Float32Array(new SharedArrayBuffer(length * 4)),
  ) {
    this.#kernels = kernels;
    this.#floats = floats;
    this.#allocate = allocate;
    this.#sums = new PartialSums(microBatches);
  }

  /** A buffer for one slot's gradient; `add` or `release` takes it back. */
  leaf(): Float32Array {
    return this.#free.pop() ?? this.#allocate(this.#floats);
  }

  /** The gradient in this leaf is not wanted. */
  release(leaf: Float32Array): void {
    this.#free.push(leaf);
  }

  /**
   * Adds a slot's gradient in; false if that is not finite, and then what is held is of no use any more. A slot that is
   * held already is an InvariantError.
   */
  add(slot: number, leaf: Float32Array): boolean {
    return this.addNode({ first: slot, count: 1 }, leaf);
  }

  /** Likewise the sum of several slots, in a buffer from `leaf`. */
  addNode(node: SlotRange, value: Float32Array): boolean {
    let allFinite = false;
    this.#sums.add(node, (completed) => {
      allFinite = this.#kernels.addLeaf(value, completed);
      this.#free.push(...completed);
      return value;
    });
    return allFinite;
  }

  fragments(): SharedFragment[] {
    return this.#sums.all().map(({ node: { first, count }, value }) => ({ first, count, value }));
  }

  /** Forgets everything; the step is over. */
  clear(): void {
    this.#free.push(...this.#sums.clear());
  }
}
