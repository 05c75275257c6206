/**
 * The fragments present of one sum, and the coverage check in the data path: a fragment is a node of
 * the tree, and no slot comes in twice. Merging siblings as soon as both are there gives the one
 * result that the tree defines, whatever the order of arrival.
 *
 * Used by a worker that adds up its own slots (as a binary counter does) and by the owner of a shard
 * that finishes the tree over everybody's fragments. Holds no numbers: it says what to add.
 */
import type { SlotRange } from '../base/index.ts';
import { isNode, rootOf, siblingOf } from './reduction-tree.ts';

/** parent = left + right */
export interface Merge {
  readonly left: SlotRange;
  readonly right: SlotRange;
  readonly parent: SlotRange;
}

export interface CoverageError {
  readonly kind: 'not-a-node' | 'overlap';
  /** The first slot at fault. */
  readonly slot: number;
  /** One line that names the slots. */
  readonly message: string;
}

export type AddResult =
  | { readonly accepted: true; readonly merges: readonly Merge[] }
  | { readonly accepted: false; readonly error: CoverageError };

export class FragmentSet {
  readonly #numSlots: number;
  /** Disjoint nodes by first slot, rising; no two are siblings. */
  readonly #held: SlotRange[] = [];

  constructor(numSlots: number) {
    this.#numSlots = rootOf(numSlots).count;
  }

  /** What is held after all merges so far, in slot order. */
  get fragments(): readonly SlotRange[] {
    return this.#held;
  }

  /** Whether the root is there: every slot in it exactly once. */
  get complete(): boolean {
    return this.#held[0]?.count === this.#numSlots;
  }

  /** Takes a fragment in and lists the additions now due, in order; a refused one changes nothing. */
  add(node: SlotRange): AddResult {
    if (!isNode(this.#numSlots, node)) {
      return refusal(
        'not-a-node',
        node.first,
        `${slotsOf(node)}: no node of the tree over ${this.#numSlots} slots`,
      );
    }
    const place = this.#placeOf(node.first);
    const before = this.#held[place - 1];
    const after = this.#held[place];
    if (before !== undefined && before.first + before.count > node.first) {
      return refusal('overlap', node.first, `slot ${node.first} is already in ${slotsOf(before)}`);
    }
    if (after !== undefined && node.first + node.count > after.first) {
      return refusal('overlap', after.first, `slot ${after.first} is already in ${slotsOf(after)}`);
    }
    this.#held.splice(place, 0, node);
    return { accepted: true, merges: this.#mergeAt(place) };
  }

  #mergeAt(place: number): Merge[] {
    const merges: Merge[] = [];
    let at = place;
    for (;;) {
      const node = this.#held[at]!;
      const sibling = siblingOf(this.#numSlots, node);
      if (sibling === null) return merges;
      const siblingAt = sibling.first < node.first ? at - 1 : at + 1;
      const other = this.#held[siblingAt];
      if (other?.first !== sibling.first || other.count !== sibling.count) return merges;
      const [left, right] = siblingAt < at ? [other, node] : [node, other];
      const parent = { first: left.first, count: left.count + right.count };
      merges.push({ left, right, parent });
      at = Math.min(at, siblingAt);
      this.#held.splice(at, 2, parent);
    }
  }

  /** Index of the first held node that starts after `slot`, by bisection. */
  #placeOf(slot: number): number {
    let low = 0;
    let high = this.#held.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#held[middle]!.first <= slot) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function refusal(kind: CoverageError['kind'], slot: number, message: string): AddResult {
  return { accepted: false, error: { kind, slot, message } };
}

function slotsOf({ first, count }: SlotRange): string {
  return count === 1 ? `slot ${first}` : `slots ${first}..${first + count - 1}`;
}
