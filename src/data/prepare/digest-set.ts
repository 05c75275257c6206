/**
 * A set of 128-bit digests in one typed array, open addressing: 7 million articles take 256 MB at most, where a Set
 * of strings would take a gigabyte.
 */
import { assert } from '../../base/index.ts';

const LANES = 4;
const FIRST_CAPACITY = 1024;

export class DigestSet {
  /** Four lanes a slot; all zero is an empty one. */
  #slots = new Uint32Array(FIRST_CAPACITY * LANES);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** False when the digest (32 hex digits) is in the set already. */
  add(digest: string): boolean {
    assert(digest.length === 8 * LANES, `"${digest}" is not a digest of 128 bits`);
    const lanes = Uint32Array.from({ length: LANES }, (_, lane) =>
      Number.parseInt(digest.slice(8 * lane, 8 * lane + 8), 16),
    );
    // Zero marks an empty slot; that one digest in 2^128 shares a place with another is of no account.
    if (lanes.every((lane) => lane === 0)) lanes[0] = 1;
    if (!insert(this.#slots, lanes)) return false;
    this.#size += 1;
    // At two thirds full searches are still short.
    if (this.#size * LANES * 3 > this.#slots.length * 2) this.#grow();
    return true;
  }

  #grow(): void {
    const larger = new Uint32Array(this.#slots.length * 2);
    for (let slot = 0; slot < this.#slots.length; slot += LANES) {
      const lanes = this.#slots.subarray(slot, slot + LANES);
      if (lanes.some((lane) => lane !== 0)) insert(larger, lanes);
    }
    this.#slots = larger;
  }
}

/** False when `lanes` are in `slots` already. */
function insert(slots: Uint32Array, lanes: Uint32Array): boolean {
  const capacity = slots.length / LANES;
  for (let slot = lanes[0]! % capacity; ; slot = (slot + 1) % capacity) {
    const at = slot * LANES;
    const isEmpty = (slots[at]! | slots[at + 1]! | slots[at + 2]! | slots[at + 3]!) === 0;
    if (isEmpty) {
      slots.set(lanes, at);
      return true;
    }
    if (lanes.every((lane, index) => slots[at + index] === lane)) return false;
  }
}
