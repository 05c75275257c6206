/**
 * Cuts the documents of a data set into samples of at most `capacity` tokens. Parts lie end to end and
 * cover every token once, so one array of starts describes them all: sample i is
 * `starts[i] .. starts[i+1]-1` of the data set's tokens. Cuts fall after a sentence where one ends in the
 * part's latter half, else before a word, else anywhere.
 */
import { assert } from '../base/index.ts';
import type { TokenKinds } from './token-kinds.ts';

export interface SampleIndex {
  readonly count: number;
  /** `count + 1` token offsets within the data set. */
  readonly starts: Float64Array;
}

/** `documents` yields each document's ids, in order. */
export function indexSamples(
  documents: Iterable<Int32Array>,
  capacity: number,
  kinds: TokenKinds,
): SampleIndex {
  assert(capacity >= 4, `a sample of ${capacity} tokens holds no sentence`);
  const starts = new GrowingArray();
  let base = 0;
  for (const ids of documents) {
    for (let start = 0; start < ids.length; ) {
      starts.push(base + start);
      start = cutAfter(ids, start, capacity, kinds);
    }
    base += ids.length;
  }
  const count = starts.length;
  starts.push(base);
  return { count, starts: starts.toArray() };
}

/** Where the part that begins at `start` ends (exclusive). */
function cutAfter(ids: Int32Array, start: number, capacity: number, kinds: TokenKinds): number {
  const left = ids.length - start;
  if (left <= capacity) return ids.length;
  // The rest of the document shall not be a scrap of a few tokens.
  const longest = start + Math.min(capacity, left - (capacity >> 3));
  const shortest = start + (capacity >> 1);
  for (let end = longest; end > shortest; end -= 1) {
    if (kinds.endsSentence[ids[end - 1]!] === 1 && kinds.endsSentence[ids[end]!] !== 1) return end;
  }
  for (let end = longest; end > shortest; end -= 1) {
    if (kinds.startsWord[ids[end]!] === 1) return end;
  }
  return longest;
}

/** Float64Array that doubles: token offsets exceed 32 bits in large data sets. */
class GrowingArray {
  #values = new Float64Array(1024);
  length = 0;

  push(value: number): void {
    if (this.length === this.#values.length) {
      const larger = new Float64Array(this.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length] = value;
    this.length += 1;
  }

  toArray(): Float64Array {
    return this.#values.slice(0, this.length);
  }
}
