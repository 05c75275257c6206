/**
 * Which floats of a flat vector have arrived: ranges in any order, each float exactly once. Pure.
 * Keeps every range apart, with the checksum of its bytes, so that what lies on disk can be compared
 * with what was received.
 */
import { assert } from '../base/index.ts';

export interface CoveredRange {
  /** In floats. */
  readonly first: number;
  readonly count: number;
  /** CRC-32C of the range's bytes. */
  readonly checksum: number;
}

export class Coverage {
  readonly #size: number;
  /** Sorted by `first`, disjoint. */
  readonly #ranges: CoveredRange[] = [];

  /** `size` in floats. */
  constructor(size: number) {
    this.#size = size;
  }

  /** Takes a range in; a range beyond the vector, or over one that was taken, is an InvariantError. */
  add(range: CoveredRange): void {
    const { first, count } = range;
    const end = first + count;
    const whole = Number.isSafeInteger(first) && Number.isSafeInteger(count) && first >= 0 && count >= 1;
    assert(whole && end <= this.#size, `floats ${first} to ${end} lie outside a vector of ${this.#size}`);
    const at = this.#firstAtOrAfter(first);
    const before = this.#ranges[at - 1];
    const after = this.#ranges[at];
    const free =
      (before === undefined || before.first + before.count <= first) &&
      (after === undefined || end <= after.first);
    assert(free, `floats ${first} to ${end} overlap a range that has arrived`);
    this.#ranges.splice(at, 0, range);
  }

  /** The first stretch that has not arrived, as `first` to `end`, exclusive; null when all has. */
  firstMissing(): { readonly first: number; readonly end: number } | null {
    let covered = 0;
    for (const { first, count } of this.#ranges) {
      if (first > covered) return { first: covered, end: first };
      covered = first + count;
    }
    return covered < this.#size ? { first: covered, end: this.#size } : null;
  }

  /** What has arrived, in vector order. */
  ranges(): readonly CoveredRange[] {
    return this.#ranges;
  }

  #firstAtOrAfter(first: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.first < first) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
