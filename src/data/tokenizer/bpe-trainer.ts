/**
 * Trains a byte-level BPE vocabulary (Sennrich et al. 2016, algorithm 1) with counts kept up to date
 * from merge to merge (pair-table.ts) and a heap that knows the most frequent pair.
 * The result depends on the words' counts only: ties go to the smaller left id, then the smaller right.
 */
import { assert } from '../../base/index.ts';
import { BinaryHeap } from './binary-heap.ts';
import { BpeTokenizer, type Merge } from './bpe-tokenizer.ts';
import { ALPHABET, CHARACTER_OF_BYTE } from './byte-alphabet.ts';
import { doubled } from './growing.ts';
import { PairTable } from './pair-table.ts';
import { LEADING_SPECIALS, MASK_TOKEN, VOCAB_SIZE_MAX, VOCAB_SIZE_MIN } from './special-tokens.ts';

/** A pair that occurs once teaches nothing. */
const PAIR_COUNT_MIN = 2;

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
  const pairs = tableOf(wordCounts, idOf);
  const queue = new PairQueue(pairs);
  for (let pair = 0; pair < pairs.numPairs; pair += 1) queue.push(pair);
  const merges: Merge[] = [];
  const merged = new Set<number>();
  const wanted = vocabSize - VOCAB_SIZE_MIN;
  // One place is kept for <mask>.
  while (tokens.length < vocabSize - 1) {
    const pair = queue.takeMostFrequent();
    if (pair === null) break;
    const left = tokens[pairs.leftOf(pair)]!;
    const right = tokens[pairs.rightOf(pair)]!;
    // Two merges can spell one token ("a"+"bc", "ab"+"c"): it is one id, and both merges count. That
    // can bring back a pair that was merged before, which needs no second rule.
    let id = idOf.get(left + right);
    if (id === undefined) {
      id = tokens.length;
      tokens.push(left + right);
      idOf.set(left + right, id);
    }
    if (!merged.has(pair)) merges.push([left, right]);
    merged.add(pair);
    const raised = new Set<number>();
    pairs.merge(pair, id, raised);
    for (const other of raised) queue.push(other);
    onMerge(tokens.length + 1 - VOCAB_SIZE_MIN, wanted);
  }
  return new BpeTokenizer([...tokens, MASK_TOKEN], merges);
}

/** The words as symbols of single bytes; words of one byte hold no pair. */
function tableOf(wordCounts: ReadonlyMap<string, number>, idOf: ReadonlyMap<string, number>): PairTable {
  const idOfByte = Int32Array.from(CHARACTER_OF_BYTE, (character) => idOf.get(character)!);
  const lengths = new Uint32Array(wordCounts.size);
  const counts = new Float64Array(wordCounts.size);
  let symbols: Int32Array = new Int32Array(16 * 1024);
  let words = 0;
  let used = 0;
  for (const [word, count] of wordCounts) {
    const bytes = encoder.encode(word);
    if (bytes.length < 2) continue;
    while (used + bytes.length > symbols.length) symbols = doubled(symbols);
    for (const byte of bytes) {
      symbols[used] = idOfByte[byte]!;
      used += 1;
    }
    lengths[words] = bytes.length;
    counts[words] = count;
    words += 1;
  }
  return new PairTable(symbols.slice(0, used), lengths.slice(0, words), counts.slice(0, words));
}

/** The pairs by frequency. A pair may stand in it more than once, with counts of different times. */
class PairQueue {
  readonly #pairs: PairTable;
  /** By entry: which pair, and its count when the entry was made. */
  #pairOf = new Int32Array(1024);
  #countOf = new Float64Array(1024);
  #entries = 0;
  readonly #heap = new BinaryHeap<number>((a, b) => this.#comesBefore(a, b));

  constructor(pairs: PairTable) {
    this.#pairs = pairs;
  }

  push(pair: number): void {
    const count = this.#pairs.countOf(pair);
    if (count < PAIR_COUNT_MIN) return;
    if (this.#entries === this.#pairOf.length) {
      this.#pairOf = doubled(this.#pairOf);
      this.#countOf = doubled(this.#countOf);
    }
    this.#pairOf[this.#entries] = pair;
    this.#countOf[this.#entries] = count;
    this.#heap.push(this.#entries);
    this.#entries += 1;
  }

  /** The most frequent pair, or null when none occurs often enough. */
  takeMostFrequent(): number | null {
    for (let entry = this.#heap.pop(); entry !== undefined; entry = this.#heap.pop()) {
      const pair = this.#pairOf[entry]!;
      if (this.#pairs.countOf(pair) === this.#countOf[entry]) return pair;
      // The count changed since the entry was made: the pair goes back where it belongs now.
      this.push(pair);
    }
    return null;
  }

  #comesBefore(a: number, b: number): boolean {
    const byCount = this.#countOf[a]! - this.#countOf[b]!;
    if (byCount !== 0) return byCount > 0;
    const first = this.#pairOf[a]!;
    const second = this.#pairOf[b]!;
    const byLeft = this.#pairs.leftOf(first) - this.#pairs.leftOf(second);
    return byLeft !== 0 ? byLeft < 0 : this.#pairs.rightOf(first) < this.#pairs.rightOf(second);
  }
}
