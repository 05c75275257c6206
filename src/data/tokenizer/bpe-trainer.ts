/**
 * Trains a byte-level BPE vocabulary (Sennrich et al. 2016, algorithm 1) with counts kept up to date
 * from merge to merge: a heap of pair counts, and for each pair the words that may hold it.
 * The result depends on the words' counts only: ties go to the smaller left id, then the smaller right.
 */
import { assert } from '../../base/index.ts';
import { BinaryHeap } from './binary-heap.ts';
import { BpeTokenizer, type Merge } from './bpe-tokenizer.ts';
import { ALPHABET, CHARACTER_OF_BYTE } from './byte-alphabet.ts';
import { leftOf, pairKey, rightOf } from './pair-key.ts';
import { LEADING_SPECIALS, MASK_TOKEN, VOCAB_SIZE_MAX, VOCAB_SIZE_MIN } from './special-tokens.ts';

/** A pair that occurs once teaches nothing. */
const PAIR_COUNT_MIN = 2;

interface HeapEntry {
  readonly count: number;
  readonly key: number;
}

const encoder = new TextEncoder();

/**
 * The tokenizer of `vocabSize` ids that the words (pre-tokens and how often each occurs) give: specials and
 * bytes first, then merges, `<mask>` last. Smaller when the words run out of pairs that occur twice.
 */
export function trainBpe(
  wordCounts: ReadonlyMap<string, number>,
  vocabSize: number,
  onMerge: (merges: number, wanted: number) => void = () => {},
): BpeTokenizer {
  assert(
    vocabSize >= VOCAB_SIZE_MIN && vocabSize <= VOCAB_SIZE_MAX,
    `vocabSize ${vocabSize} is out of range`,
  );
  const tokens: string[] = [...LEADING_SPECIALS, ...ALPHABET];
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  const pairs = new PairTable(wordCounts, idOf);
  const merges: Merge[] = [];
  const merged = new Set<number>();
  const wanted = vocabSize - VOCAB_SIZE_MIN;
  // One place is kept for <mask>.
  while (tokens.length < vocabSize - 1) {
    const key = pairs.takeMostFrequent();
    if (key === null) break;
    const left = tokens[leftOf(key)]!;
    const right = tokens[rightOf(key)]!;
    // Two merges can spell one token ("a"+"bc", "ab"+"c"): it is one id, and both merges count. That
    // can bring back a pair that was merged before, which needs no second rule.
    let id = idOf.get(left + right);
    if (id === undefined) {
      id = tokens.length;
      tokens.push(left + right);
      idOf.set(left + right, id);
    }
    if (!merged.has(key)) merges.push([left, right]);
    merged.add(key);
    pairs.merge(key, id);
    onMerge(tokens.length + 1 - VOCAB_SIZE_MIN, wanted);
  }
  return new BpeTokenizer([...tokens, MASK_TOKEN], merges);
}

/** All adjacent pairs of all words, how often each occurs, and where. */
class PairTable {
  readonly #words: number[][] = [];
  readonly #wordCounts: number[] = [];
  readonly #counts = new Map<number, number>();
  /** Words that held the pair when it was counted; they may have lost it since. */
  readonly #wordsOf = new Map<number, number[]>();
  readonly #heap = new BinaryHeap<HeapEntry>((a, b) =>
    a.count !== b.count ? a.count > b.count : a.key < b.key,
  );

  constructor(wordCounts: ReadonlyMap<string, number>, idOf: ReadonlyMap<string, number>) {
    const idOfByte = CHARACTER_OF_BYTE.map((character) => idOf.get(character)!);
    for (const [word, count] of wordCounts) {
      const symbols = Array.from(encoder.encode(word), (byte) => idOfByte[byte]!);
      if (symbols.length < 2) continue;
      const index = this.#words.push(symbols) - 1;
      this.#wordCounts.push(count);
      for (let place = 0; place + 1 < symbols.length; place += 1) {
        this.#add(pairKey(symbols[place]!, symbols[place + 1]!), count, index);
      }
    }
    for (const [key, count] of this.#counts) this.#heap.push({ count, key });
  }

  /** The most frequent pair, or null when none occurs often enough. */
  takeMostFrequent(): number | null {
    for (let entry = this.#heap.pop(); entry !== undefined; entry = this.#heap.pop()) {
      const count = this.#counts.get(entry.key) ?? 0;
      if (count === entry.count) return count >= PAIR_COUNT_MIN ? entry.key : null;
      // The count fell since the entry was made: it goes back where it belongs now.
      if (count >= PAIR_COUNT_MIN) this.#heap.push({ count, key: entry.key });
    }
    return null;
  }

  /** Replaces the pair by `id` in every word that holds it. */
  merge(key: number, id: number): void {
    const raised = new Set<number>();
    for (const index of this.#wordsOf.get(key) ?? []) this.#mergeInWord(index, key, id, raised);
    this.#counts.delete(key);
    this.#wordsOf.delete(key);
    for (const pair of raised) {
      const count = this.#counts.get(pair) ?? 0;
      if (count > 0) this.#heap.push({ count, key: pair });
    }
  }

  /** Counts the word's pairs out, rewrites it, and counts its pairs in: simple, and words are short. */
  #mergeInWord(index: number, key: number, id: number, raised: Set<number>): void {
    const before = this.#words[index]!;
    const after = replacePair(before, leftOf(key), rightOf(key), id);
    if (after.length === before.length) return;
    const count = this.#wordCounts[index]!;
    for (let place = 0; place + 1 < before.length; place += 1) {
      const pair = pairKey(before[place]!, before[place + 1]!);
      this.#counts.set(pair, this.#counts.get(pair)! - count);
    }
    for (let place = 0; place + 1 < after.length; place += 1) {
      const left = after[place]!;
      const right = after[place + 1]!;
      const pair = pairKey(left, right);
      if (left === id || right === id) {
        this.#add(pair, count, index);
        raised.add(pair);
      } else {
        this.#counts.set(pair, (this.#counts.get(pair) ?? 0) + count);
      }
    }
    this.#words[index] = after;
  }

  #add(pair: number, count: number, index: number): void {
    this.#counts.set(pair, (this.#counts.get(pair) ?? 0) + count);
    const words = this.#wordsOf.get(pair);
    if (words === undefined) this.#wordsOf.set(pair, [index]);
    else if (words.at(-1) !== index) words.push(index);
  }
}

/** `symbols` with each occurrence of (left, right), taken from the left, as `id`. */
function replacePair(symbols: readonly number[], left: number, right: number, id: number): number[] {
  const out: number[] = [];
  for (let place = 0; place < symbols.length; place += 1) {
    if (symbols[place] === left && symbols[place + 1] === right) {
      out.push(id);
      place += 1;
    } else {
      out.push(symbols[place]!);
    }
  }
  return out;
}
