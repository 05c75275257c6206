/**
 * The one word that the two threads of a worker decide by which slots of a job come into the fragments:
 * how many have, and how many may. The compute thread settles a slot when its gradient is there; the
 * comm thread may at any moment, while an engine works, lower the limit. Whichever comes first counts,
 * so that a slot taken back is never summed here as well.
 */
export class SlotGate {
  /** Low 32 bits: slots settled; high 32 bits: slots allowed. */
  readonly #word: BigInt64Array;

  /** `shared` is the other thread's `shared`, or nothing for a new gate. */
  constructor(shared: BigInt64Array | { readonly count: number }) {
    if (shared instanceof BigInt64Array) {
      this.#word = shared;
      return;
    }
    this.#word = new BigInt64Array(new SharedArrayBuffer(8));
    this.#word[0] = pack(0, shared.count);
  }

  /** What to give to the other thread. */
  get shared(): BigInt64Array {
    return this.#word;
  }

  /** Whether the next slot is still wanted. */
  get isOpen(): boolean {
    const { settled, limit } = unpack(Atomics.load(this.#word, 0));
    return settled < limit;
  }

  /** Counts the next slot in; false when it was taken back meanwhile, and must not be added. */
  settle(): boolean {
    for (;;) {
      const seen = Atomics.load(this.#word, 0);
      const { settled, limit } = unpack(seen);
      if (settled >= limit) return false;
      if (Atomics.compareExchange(this.#word, 0, seen, pack(settled + 1, limit)) === seen) return true;
    }
  }

  /** Allows no more than `count` slots, or as many as are settled already; returns how many that is. */
  limit(count: number): number {
    for (;;) {
      const seen = Atomics.load(this.#word, 0);
      const { settled, limit } = unpack(seen);
      const lowered = Math.min(limit, Math.max(settled, count));
      if (Atomics.compareExchange(this.#word, 0, seen, pack(settled, lowered)) === seen) return lowered;
    }
  }
}

function pack(settled: number, limit: number): bigint {
  return (BigInt(limit) << 32n) | BigInt(settled);
}

function unpack(word: bigint): { settled: number; limit: number } {
  return { settled: Number(word & 0xffff_ffffn), limit: Number(word >> 32n) };
}
