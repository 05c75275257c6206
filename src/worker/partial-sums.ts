/**
 * Sums of the slots that a worker has computed of a step, as far along the reduction tree as these slots allow: like a
 * binary counter, so that a whole range needs few. What a sum is and how two are added is the caller's.
 */
import { assert, type SlotRange } from '../base/index.ts';
import { FragmentSet } from '../collective/index.ts';

export class PartialSums<T> {
  readonly #microBatches: number;
  /** By first slot. */
  readonly #values = new Map<number, T>();
  #set: FragmentSet;

  constructor(microBatches: number) {
    this.#microBatches = microBatches;
    this.#set = new FragmentSet(microBatches);
  }

  /**
   * Takes a node in. `sumWith` gets the sums that it completes, nearest first, which are given up, and returns the node's
   * own value with all of them added. A slot that is held already is an InvariantError.
   */
  add(node: SlotRange, sumWith: (completed: readonly T[]) => T): void {
    const added = this.#set.add(node);
    assert(added.accepted, added.accepted ? '' : added.error.message);
    let { first } = node;
    const others = added.merges.map(({ left, right }) => {
      const other = left.first === first ? right : left;
      first = left.first;
      return other.first;
    });
    const sum = sumWith(others.map((other) => this.#valueAt(other)));
    for (const other of others) this.#values.delete(other);
    this.#values.set(first, sum);
  }

  /** In slot order. */
  all(): { readonly node: SlotRange; readonly value: T }[] {
    return this.#set.fragments.map((node) => ({ node, value: this.#valueAt(node.first) }));
  }

  /** Forgets everything, and returns what was held. */
  clear(): T[] {
    const held = [...this.#values.values()];
    this.#values.clear();
    this.#set = new FragmentSet(this.#microBatches);
    return held;
  }

  #valueAt(first: number): T {
    const value = this.#values.get(first);
    assert(value !== undefined, `the fragment at slot ${first} has a value`);
    return value;
  }
}
