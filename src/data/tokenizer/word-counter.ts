/**
 * Counts the words of a corpus for the BPE trainer, in bounded memory: when there are too many, the
 * rarest go, which is harmless as they would not have decided a merge. Long words are left out, since
 * they are rubbish (tables, encoded files) and would slow training down.
 */
import { preTokenize } from './pre-tokenize.ts';

const WORDS_MAX = 4_000_000;
const WORD_CHARACTERS_MAX = 64;

export class WordCounter {
  readonly #wordsMax: number;
  #counts = new Map<string, number>();

  constructor(wordsMax = WORDS_MAX) {
    this.#wordsMax = wordsMax;
  }

  add(text: string): void {
    for (const word of preTokenize(text)) {
      if (word.length <= WORD_CHARACTERS_MAX) this.#add(word, 1);
    }
    this.#limit();
  }

  /** Words as another counter has counted them. */
  addCounts(counts: Iterable<readonly [word: string, count: number]>): void {
    for (const [word, count] of counts) this.#add(word, count);
    this.#limit();
  }

  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  #add(word: string, count: number): void {
    this.#counts.set(word, (this.#counts.get(word) ?? 0) + count);
  }

  #limit(): void {
    for (let rarest = 1; this.#counts.size > this.#wordsMax; rarest += 1) {
      this.#counts = new Map([...this.#counts].filter(([, count]) => count > rarest));
    }
  }
}
