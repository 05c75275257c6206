/**
 * A byte-level BPE tokenizer (Sennrich et al. 2016; bytes as in GPT-2): text to ids and back. Text is
 * only ever text: a literal "<s>" in it is split like any other signs and never becomes a special token.
 * Every text can be encoded, as the vocabulary holds all 256 bytes.
 */
import { assert } from '../../base/index.ts';
import { BinaryHeap } from './binary-heap.ts';
import { bytesOfToken, CHARACTER_OF_BYTE } from './byte-alphabet.ts';
import { detached } from './detached.ts';
import { MergeRanks } from './merge-ranks.ts';
import { preTokenize } from './pre-tokenize.ts';
import { SPECIAL_COUNT } from './special-tokens.ts';

/** Words remembered with their ids; Zipf's law makes a small cache answer nearly always. */
const CACHE_WORDS_MAX = 200_000;
const CACHED_WORD_CHARACTERS_MAX = 64;
/** Up to here a word's lowest pair is searched for; beyond, a heap is faster. */
const SEARCHED_BYTES_MAX = 64;
/** Rank and position of a merge share one number: rank * 2^26 + position. */
const POSITION_RANGE = 2 ** 26;

/** The texts of two tokens that become one. */
export type Merge = readonly [left: string, right: string];

const encoder = new TextEncoder();

export class BpeTokenizer {
  /** Token texts by id, in the byte alphabet but for the specials. */
  readonly tokens: readonly string[];
  /** By rank: earlier merges go first. */
  readonly merges: readonly Merge[];
  readonly #idOfByte: Int32Array;
  readonly #ranks: MergeRanks;
  readonly #mergedId: Int32Array;
  readonly #cache = new Map<string, readonly number[]>();

  /** The caller has checked specials, alphabet and merges (see vocabulary.ts). */
  constructor(tokens: readonly string[], merges: readonly Merge[]) {
    this.tokens = tokens;
    this.merges = merges;
    const idOfToken = new Map(tokens.map((token, id) => [token, id]));
    const idOf = (token: string): number => {
      const id = idOfToken.get(token);
      assert(id !== undefined, `token ${JSON.stringify(token)} is not in the vocabulary`);
      return id;
    };
    this.#idOfByte = Int32Array.from(CHARACTER_OF_BYTE, idOf);
    this.#mergedId = new Int32Array(merges.length);
    this.#ranks = new MergeRanks(merges.length);
    merges.forEach(([left, right], rank) => {
      this.#mergedId[rank] = idOf(left + right);
      this.#ranks.set(idOf(left), idOf(right), rank);
    });
  }

  get vocabSize(): number {
    return this.tokens.length;
  }

  get maskId(): number {
    return this.tokens.length - 1;
  }

  /** The ids of `text`, without special tokens. Unpaired surrogates become U+FFFD. */
  encode(text: string): number[] {
    const ids: number[] = [];
    for (const word of preTokenize(text)) {
      for (const id of this.#encodeWord(word)) ids.push(id);
    }
    return ids;
  }

  /** The text of `ids`; special tokens are left out, and bytes that are no UTF-8 become U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    const pieces: Uint8Array[] = [];
    for (let index = 0; index < ids.length; index += 1) {
      const id = ids[index]!;
      const token = this.tokens[id];
      assert(token !== undefined, `id ${id} is not in the vocabulary of ${this.vocabSize}`);
      if (id < SPECIAL_COUNT - 1 || id === this.maskId) continue;
      pieces.push(bytesOfToken(token) ?? encoder.encode(token));
    }
    return Buffer.concat(pieces).toString('utf8');
  }

  #encodeWord(word: string): readonly number[] {
    const cached = this.#cache.get(word);
    if (cached !== undefined) return cached;
    const bytes = encoder.encode(word);
    const ids = bytes.length <= SEARCHED_BYTES_MAX ? this.#mergeShort(bytes) : this.#mergeLong(bytes);
    if (word.length <= CACHED_WORD_CHARACTERS_MAX) {
      if (this.#cache.size >= CACHE_WORDS_MAX) this.#cache.clear();
      this.#cache.set(detached(word), ids);
    }
    return ids;
  }

  /** Applies merges in order of rank, leftmost first, looking for the lowest pair each time. */
  #mergeShort(bytes: Uint8Array): readonly number[] {
    const ids: number[] = [];
    for (const byte of bytes) ids.push(this.#idOfByte[byte]!);
    const ranks: number[] = [];
    for (let place = 0; place + 1 < ids.length; place += 1) {
      ranks.push(this.#ranks.of(ids[place]!, ids[place + 1]!));
    }
    for (;;) {
      let place = -1;
      for (let index = 0; index < ranks.length; index += 1) {
        const rank = ranks[index]!;
        if (rank !== -1 && (place === -1 || rank < ranks[place]!)) place = index;
      }
      if (place === -1) return ids;
      ids[place] = this.#mergedId[ranks[place]!]!;
      ids.splice(place + 1, 1);
      ranks.splice(place, 1);
      if (place > 0) ranks[place - 1] = this.#ranks.of(ids[place - 1]!, ids[place]!);
      if (place < ranks.length) ranks[place] = this.#ranks.of(ids[place]!, ids[place + 1]!);
    }
  }

  /**
   * The same over a linked list of symbols and a heap of merges: n log n in the word's length, so that a
   * megabyte without a space does no harm.
   */
  #mergeLong(bytes: Uint8Array): readonly number[] {
    const length = bytes.length;
    assert(length < POSITION_RANGE, `a word of ${length} bytes is too long`);
    const ids = Int32Array.from(bytes, (byte) => this.#idOfByte[byte]!);
    const next = Int32Array.from({ length }, (_, index) => index + 1);
    const previous = Int32Array.from({ length }, (_, index) => index - 1);
    const heap = new BinaryHeap<number>((a, b) => a < b);
    const rankAt = (position: number): number => {
      const right = next[position]!;
      return right < length ? this.#ranks.of(ids[position]!, ids[right]!) : -1;
    };
    const offer = (position: number) => {
      const rank = rankAt(position);
      if (rank !== -1) heap.push(rank * POSITION_RANGE + position);
    };

    for (let position = 0; position < length; position += 1) offer(position);
    for (let entry = heap.pop(); entry !== undefined; entry = heap.pop()) {
      const position = entry % POSITION_RANGE;
      const rank = Math.floor(entry / POSITION_RANGE);
      // The pair may have been merged away, or be another by now.
      if (ids[position] === -1 || rankAt(position) !== rank) continue;
      const right = next[position]!;
      ids[position] = this.#mergedId[rank]!;
      ids[right] = -1;
      const after = next[right]!;
      next[position] = after;
      if (after < length) previous[after] = position;
      if (position > 0) offer(previous[position]!);
      offer(position);
    }
    return Array.from(ids.filter((id) => id !== -1));
  }
}
