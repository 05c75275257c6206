/**
 * A random order of 0 .. count-1 computed place by place, so that resuming needs no list: a Feistel
 * network over the next square domain, with Philox as its round function, and cycle walking back into
 * range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002).
 */
import { assert, type PhiloxBase, philox4x32, philoxBase } from '../base/index.ts';

const ROUNDS = 6;

export class KeyedPermutation {
  readonly #count: number;
  /** The domain is side * side >= count, and less than 4 * count + 4. */
  readonly #side: number;
  readonly #rounds: readonly PhiloxBase[];
  readonly #block = new Uint32Array(4);

  /** `count` up to 2^52; each (seed, epoch) has its own order. */
  constructor(seed: number, epoch: number, count: number) {
    assert(
      Number.isSafeInteger(count) && count >= 1 && count <= 2 ** 52,
      `count ${count} is not in 1 .. 2^52`,
    );
    assert(Number.isInteger(epoch) && epoch >= 0 && epoch < 2 ** 32, `epoch ${epoch} is not in 0 .. 2^32-1`);
    this.#count = count;
    let side = Math.ceil(Math.sqrt(count));
    while (side * side < count) side += 1;
    this.#side = side;
    this.#rounds = Array.from({ length: ROUNDS }, (_, round) =>
      philoxBase({ seed, stream: 'dataOrder', substream: round, step: epoch, slot: 0 }),
    );
  }

  /** Which item stands at `place`: one-to-one over 0 .. count-1. */
  at(place: number): number {
    assert(place >= 0 && place < this.#count, `place ${place} is not below ${this.#count}`);
    let value = place;
    // The walk follows the cycle through `place`, which comes back into range at the latest at `place`.
    do value = this.#encipher(value);
    while (value >= this.#count);
    return value;
  }

  #encipher(value: number): number {
    const side = this.#side;
    let left = Math.floor(value / side);
    let right = value % side;
    for (const { k0, k1, c1, c2, c3 } of this.#rounds) {
      philox4x32(this.#block, right, c1, c2, c3, k0, k1);
      const mixed = (left + (this.#block[0]! % side)) % side;
      left = right;
      right = mixed;
    }
    return left * side + right;
  }
}
