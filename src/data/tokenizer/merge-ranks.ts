/**
 * Which merge a pair of ids has, as a flat hash table: encoding asks this for every pair of bytes of every new
 * word, and a Map of numbers beyond 31 bits is several times slower.
 */
const NONE = -1;

export class MergeRanks {
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  readonly #mask: number;

  /** Room for `merges` merges at a load of at most one half. */
  constructor(merges: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, merges * 2)));
    this.#left = new Int32Array(size);
    this.#right = new Int32Array(size);
    this.#rank = new Int32Array(size).fill(NONE);
    this.#mask = size - 1;
  }

  /** A pair that is set twice keeps the later rank. */
  set(left: number, right: number, rank: number): void {
    const slot = this.#slotOf(left, right);
    this.#left[slot] = left;
    this.#right[slot] = right;
    this.#rank[slot] = rank;
  }

  /** The rank of the pair's merge, or -1. */
  of(left: number, right: number): number {
    return this.#rank[this.#slotOf(left, right)]!;
  }

  #slotOf(left: number, right: number): number {
    const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    let slot = (hash ^ (hash >>> 15)) & this.#mask;
    while (this.#rank[slot] !== NONE && (this.#left[slot] !== left || this.#right[slot] !== right)) {
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }
}
