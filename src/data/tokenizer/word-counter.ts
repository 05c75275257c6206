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
      if (word.length > WORD_CHARACTERS_MAX) continue;
      this.#counts.set(word, (this.#counts.get(word) ?? 0) + 1);
    }
    for (let rarest = 1; this.#counts.size > this.#wordsMax; rarest += 1) {
      this.#counts = new Map([...this.#counts].filter(([, count]) => count > rarest));
    }
  }

  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }
}
