/**
 * The gradients a worker has computed of the step under way, summed along the reduction tree as far
 * as its own slots allow: like a binary counter, so that a whole range needs few buffers.
 */
import { assert, type SlotRange } from '../base/index.ts';
import { FragmentSet } from '../collective/index.ts';
import type { Kernels } from '../kernels/index.ts';
import type { SharedFragment } from './thread-messages.ts';

export class FragmentStore {
  readonly #kernels: Kernels;
  readonly #floats: number;
  readonly #microBatches: number;
  readonly #allocate: (floats: number) => Float32Array;
  /** Each of the model's length. */
  readonly #free: Float32Array[] = [];
  readonly #values = new Map<number, Float32Array>();
  #set: FragmentSet;

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
    this.#microBatches = microBatches;
    this.#allocate = allocate;
    this.#set = new FragmentSet(microBatches);
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
    const added = this.#set.add(node);
    assert(added.accepted, added.accepted ? '' : added.error.message);
    let { first } = node;
    const sums = added.merges.map(({ left, right }) => {
      const other = left.first === first ? right : left;
      const sum = this.#values.get(other.first);
      assert(sum !== undefined, 'both sides of a merge are held');
      this.#values.delete(other.first);
      first = left.first;
      return sum;
    });
    const allFinite = this.#kernels.addLeaf(value, sums);
    this.#values.set(first, value);
    this.#free.push(...sums);
    return allFinite;
  }

  fragments(): SharedFragment[] {
    return this.#set.fragments.map(({ first, count }) => {
      const value = this.#values.get(first);
      assert(value !== undefined, `fragment ${first}+${count} has a value`);
      return { first, count, value };
    });
  }

  /** Forgets everything; the step is over. */
  clear(): void {
    this.#free.push(...this.#values.values());
    this.#values.clear();
    this.#set = new FragmentSet(this.#microBatches);
  }
}
