/**
 * Which target slots still compute, which have left and with what token: the bookkeeping of early exit in
 * generation. Pure index arithmetic, no tensors.
 *
 * A slot computes until it leaves; its token is then decided for good. The first slot of a sequence that
 * leaves with `</s>` ends it: slots behind it compute no more and are not part of the output, also those
 * that have left already. Queries are packed to the left of each sequence and padded to the largest count,
 * and sequences without a computing slot are left out, so that attention stays one batched product.
 * Legend: B batch, T target slots; a row is a slot of a sequence, number b*T + t.
 */
export interface DecodedToken {
  readonly id: number;
  /** 0-based layer whose state the token was read from. */
  readonly layer: number;
  /** Of the distribution that the token was chosen from, over the whole vocabulary, in nats; null where not known. */
  readonly entropy: number | null;
  readonly probability: number;
}

export interface DecodedSequence {
  /** Up to the first `</s>`, which is the last of them where `ended`. */
  readonly tokens: readonly DecodedToken[];
  readonly ended: boolean;
}

export interface PackedSlots {
  /** The sequences that still compute, ascending. */
  readonly sequences: readonly number[];
  /** Q, padded queries of each of them. */
  readonly numQueries: number;
  /** [sequences * Q] the row of each query; padding repeats the sequence's first. */
  readonly rows: Int32Array;
  /** [sequences * Q] 1 for a query, 0 for padding. */
  readonly isReal: Uint8Array;
}

export class SlotExits {
  readonly #targetLength: number;
  readonly #endId: number;
  /** The slots of each sequence that still compute, ascending. */
  readonly #computing: number[][];
  readonly #tokens: (DecodedToken | null)[][];
  /** The slot of each sequence's `</s>`, T while there is none. */
  readonly #end: number[];

  constructor(batchSize: number, targetLength: number, endId: number) {
    this.#targetLength = targetLength;
    this.#endId = endId;
    const perSequence = <Value>(make: (slot: number) => Value) =>
      Array.from({ length: batchSize }, () => Array.from({ length: targetLength }, (_, slot) => make(slot)));
    this.#computing = perSequence((slot) => slot);
    this.#tokens = perSequence(() => null);
    this.#end = Array.from({ length: batchSize }, () => targetLength);
  }

  /** The slots that the next layer computes; null when none is left. */
  pack(): PackedSlots | null {
    const sequences = this.#computing.flatMap((slots, sequence) => (slots.length > 0 ? [sequence] : []));
    if (sequences.length === 0) return null;
    const numQueries = Math.max(...sequences.map((sequence) => this.#computing[sequence]!.length));
    const rows = new Int32Array(sequences.length * numQueries);
    const isReal = new Uint8Array(rows.length);
    sequences.forEach((sequence, place) => {
      const slots = this.#computing[sequence]!;
      for (let query = 0; query < numQueries; query += 1) {
        const index = place * numQueries + query;
        rows[index] = sequence * this.#targetLength + (slots[query] ?? slots[0]!);
        isReal[index] = query < slots.length ? 1 : 0;
      }
    });
    return { sequences, numQueries, rows, isReal };
  }

  /** A row leaves with its token. */
  leave(row: number, token: DecodedToken): void {
    const sequence = this.sequenceOf(row);
    const slot = row % this.#targetLength;
    this.#tokens[sequence]![slot] = token;
    if (token.id === this.#endId) this.#end[sequence] = Math.min(this.#end[sequence]!, slot);
  }

  /** Whether the row lies behind its sequence's end. */
  isBehindEnd(row: number): boolean {
    return row % this.#targetLength > this.#end[this.sequenceOf(row)]!;
  }

  /** Takes those that have left, or lie behind an end, from the slots that compute. */
  settle(): void {
    this.#computing.forEach((slots, sequence) => {
      const end = this.#end[sequence]!;
      const tokens = this.#tokens[sequence]!;
      this.#computing[sequence] = slots.filter((slot) => slot < end && tokens[slot] === null);
    });
  }

  /** Rows that still compute, of sequences of which no more than `most` do. */
  stragglers(most: number): number[] {
    return this.#computing.flatMap((slots, sequence) =>
      slots.length > most ? [] : slots.map((slot) => sequence * this.#targetLength + slot),
    );
  }

  /** Once no slot computes any more. */
  sequences(): DecodedSequence[] {
    return this.#tokens.map((tokens, sequence) => {
      const end = this.#end[sequence]!;
      // Every slot up to the end has left by now.
      return { tokens: tokens.slice(0, end + 1) as DecodedToken[], ended: end < this.#targetLength };
    });
  }

  sequenceOf(row: number): number {
    return Math.floor(row / this.#targetLength);
  }
}
