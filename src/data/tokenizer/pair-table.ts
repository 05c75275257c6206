/**
 * The adjacent pairs of a set of words: how often each occurs and in which words, kept up to date from
 * merge to merge. Everything lies in flat arrays, because a gigabyte of text has millions of words and
 * tens of millions of places: symbols end to end, pairs numbered as they appear and found by open
 * addressing, and for each pair a chain of the words that may hold it.
 *
 *   slots ──► pair ──► left, right, count, head of chain ──► (word, next) ──► (word, next) ──► none
 */
import { assert } from '../../base/index.ts';
import { doubled } from './growing.ts';

const NONE = -1;
const SLOTS_AT_FIRST = 2 ** 16;

export class PairTable {
  /** Symbols of all words end to end; word w has those from `#starts[w]`, `#lengths[w]` of them. */
  readonly #symbols: Int32Array;
  readonly #starts: Uint32Array;
  readonly #lengths: Uint32Array;
  readonly #wordCounts: Float64Array;
  #slots = new Int32Array(SLOTS_AT_FIRST).fill(NONE);
  #left = new Int32Array(1024);
  #right = new Int32Array(1024);
  #counts = new Float64Array(1024);
  #heads = new Int32Array(1024);
  #numPairs = 0;
  #chainWord: Int32Array;
  #chainNext: Int32Array;
  #chainLength = 0;
  /** Links of merged pairs, for use again. */
  #freeLink = NONE;

  /**
   * `symbols` and `lengths` describe the words end to end, each of `wordCounts[w]` occurrences; the table
   * takes the arrays over. Each word's symbols are replaced in place as pairs are merged.
   */
  constructor(symbols: Int32Array, lengths: Uint32Array, wordCounts: Float64Array) {
    this.#symbols = symbols;
    this.#lengths = lengths;
    this.#wordCounts = wordCounts;
    this.#starts = new Uint32Array(lengths.length);
    // One link for each pair of the beginning; what merges add takes mostly the place of merged ones.
    this.#chainWord = new Int32Array(symbols.length);
    this.#chainNext = new Int32Array(symbols.length);
    let start = 0;
    for (let word = 0; word < lengths.length; word += 1) {
      this.#starts[word] = start;
      const end = start + lengths[word]!;
      for (let place = start; place + 1 < end; place += 1) {
        this.#add(symbols[place]!, symbols[place + 1]!, wordCounts[word]!, word);
      }
      start = end;
    }
    assert(start === symbols.length, `the words have ${start} symbols of ${symbols.length}`);
  }

  /** Pairs are numbered 0 .. numPairs-1 in the order in which they appeared. */
  get numPairs(): number {
    return this.#numPairs;
  }

  leftOf(pair: number): number {
    return this.#left[pair]!;
  }

  rightOf(pair: number): number {
    return this.#right[pair]!;
  }

  /** How often the pair occurs now. */
  countOf(pair: number): number {
    return this.#counts[pair]!;
  }

  /** Replaces the pair by `id`, leftmost first, in every word that holds it; `raised` gets each pair that became more frequent. */
  merge(pair: number, id: number, raised: Set<number>): void {
    const left = this.#left[pair]!;
    const right = this.#right[pair]!;
    let link = this.#heads[pair]!;
    this.#heads[pair] = NONE;
    while (link !== NONE) {
      const word = this.#chainWord[link]!;
      const next = this.#chainNext[link]!;
      this.#chainNext[link] = this.#freeLink;
      this.#freeLink = link;
      this.#mergeInWord(word, left, right, id, raised);
      link = next;
    }
    // What overlapping occurrences ("aaa") left of it.
    this.#counts[pair] = 0;
  }

  #mergeInWord(word: number, left: number, right: number, id: number, raised: Set<number>): void {
    const symbols = this.#symbols;
    const start = this.#starts[word]!;
    const end = start + this.#lengths[word]!;
    const count = this.#wordCounts[word]!;
    let out = start;
    for (let place = start; place < end; place += 1) {
      const symbol = symbols[place]!;
      if (symbol !== left || place + 1 >= end || symbols[place + 1] !== right) {
        symbols[out] = symbol;
        out += 1;
        continue;
      }
      if (out > start) {
        const before = symbols[out - 1]!;
        this.#take(before, left, count);
        raised.add(this.#add(before, id, count, word));
      }
      if (place + 2 < end) {
        const after = symbols[place + 2]!;
        this.#take(right, after, count);
        raised.add(this.#add(id, after, count, word));
      }
      symbols[out] = id;
      out += 1;
      place += 1;
    }
    this.#lengths[word] = out - start;
  }

  #take(left: number, right: number, count: number): void {
    const pair = this.#slots[this.#slotOf(left, right)]!;
    assert(pair !== NONE, `the pair ${left}, ${right} was never counted`);
    this.#counts[pair]! -= count;
  }

  #add(left: number, right: number, count: number, word: number): number {
    const slot = this.#slotOf(left, right);
    const known = this.#slots[slot]!;
    const pair = known === NONE ? this.#enter(left, right, slot) : known;
    this.#counts[pair]! += count;
    const head = this.#heads[pair]!;
    if (head === NONE || this.#chainWord[head] !== word) this.#heads[pair] = this.#link(word, head);
    return pair;
  }

  #link(word: number, next: number): number {
    let link = this.#freeLink;
    if (link === NONE) {
      link = this.#chainLength;
      this.#chainLength += 1;
      if (link === this.#chainWord.length) {
        this.#chainWord = doubled(this.#chainWord);
        this.#chainNext = doubled(this.#chainNext);
      }
    } else {
      this.#freeLink = this.#chainNext[link]!;
    }
    this.#chainWord[link] = word;
    this.#chainNext[link] = next;
    return link;
  }

  #enter(left: number, right: number, slot: number): number {
    const pair = this.#numPairs;
    this.#numPairs += 1;
    if (pair === this.#left.length) {
      this.#left = doubled(this.#left);
      this.#right = doubled(this.#right);
      this.#counts = doubled(this.#counts);
      this.#heads = doubled(this.#heads);
    }
    this.#left[pair] = left;
    this.#right[pair] = right;
    this.#heads[pair] = NONE;
    this.#slots[slot] = pair;
    if (this.#numPairs * 2 > this.#slots.length) this.#rehash();
    return pair;
  }

  /** Where the pair stands, or the free place where it would. */
  #slotOf(left: number, right: number): number {
    const mask = this.#slots.length - 1;
    let slot = mixed(left, right) & mask;
    for (;;) {
      const pair = this.#slots[slot]!;
      if (pair === NONE || (this.#left[pair] === left && this.#right[pair] === right)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #rehash(): void {
    this.#slots = new Int32Array(this.#slots.length * 2).fill(NONE);
    for (let pair = 0; pair < this.#numPairs; pair += 1) {
      this.#slots[this.#slotOf(this.#left[pair]!, this.#right[pair]!)] = pair;
    }
  }
}

/** Spreads two ids over 32 bits: Fibonacci hashing (Knuth, TAOCP 3, 6.4) with a last mix of the high bits. */
function mixed(left: number, right: number): number {
  const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
  return hash ^ (hash >>> 15);
}
