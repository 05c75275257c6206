/**
 * Counts the words of a corpus for the BPE trainer, in bounded memory and whatever the order of texts.
 * Each text has a level from a hash of itself: half of all texts have level 0, a quarter level 1, and so on.
 * When there is more than fits, the lowest level goes, so that what stays is a fair sample of 1/2, 1/4, ...
 * of the texts; which one depends on the set of texts alone, since what was too much stays too much.
 * Long words are left out: they are rubbish (tables, encoded files) and would slow training down.
 */
import { detached } from './detached.ts';
import { preTokenize } from './pre-tokenize.ts';

/** Entries of all levels together, about 100 bytes each. */
const WORDS_MAX = 3_000_000;
/** UTF-16 units: about a gigabyte of English. */
const CHARACTERS_MAX = 2 ** 30;
const WORD_CHARACTERS_MAX = 64;

export interface WordCounterLimits {
  /** Different words, counted once for each level that has them. */
  readonly words?: number;
  /** UTF-16 units of text. */
  readonly characters?: number;
}

interface Level {
  readonly counts: Map<string, number>;
  characters: number;
}

/** What one counter tells another of the texts of a level. */
export interface WordLevel {
  readonly level: number;
  /** UTF-16 units of text. */
  readonly characters: number;
  readonly counts: Iterable<readonly [word: string, count: number]>;
}

export class WordCounter {
  readonly #wordsMax: number;
  readonly #charactersMax: number;
  readonly #levels = new Map<number, Level>();
  #lowest = 0;

  constructor({ words = WORDS_MAX, characters = CHARACTERS_MAX }: WordCounterLimits = {}) {
    this.#wordsMax = words;
    this.#charactersMax = characters;
  }

  add(text: string): void {
    const number = levelOf(text);
    if (number < this.#lowest) return;
    const level = this.#levelAt(number);
    level.characters += text.length;
    const { counts } = level;
    for (const word of preTokenize(text)) {
      if (word.length > WORD_CHARACTERS_MAX) continue;
      const count = counts.get(word);
      if (count === undefined) counts.set(detached(word), 1);
      else counts.set(word, count + 1);
    }
    this.#limit();
  }

  /** Takes in a level of another counter: together they count as one that had all the texts. */
  addLevel({ level: number, characters, counts }: WordLevel): void {
    if (number < this.#lowest) return;
    const level = this.#levelAt(number);
    level.characters += characters;
    for (const [word, count] of counts) level.counts.set(word, (level.counts.get(word) ?? 0) + count);
    this.#limit();
  }

  /** The levels kept, for another counter's `addLevel`. */
  get levels(): WordLevel[] {
    return [...this.#levels].map(([level, { characters, counts }]) => ({ level, characters, counts }));
  }

  #levelAt(number: number): Level {
    const level = this.#levels.get(number) ?? { counts: new Map<string, number>(), characters: 0 };
    this.#levels.set(number, level);
    return level;
  }

  #limit(): void {
    // A single level is kept whatever its size: there is nothing smaller to fall back on.
    while (this.#levels.size > 1 && this.#isOverLimit()) {
      this.#levels.delete(this.#lowest);
      this.#lowest += 1;
    }
  }

  /** How many times as much text there was as the sample holds, by expectation: 1, 2, 4, ... */
  get samplingFactor(): number {
    return 2 ** this.#lowest;
  }

  /** How often each word occurs in the sample. */
  get counts(): ReadonlyMap<string, number> {
    const total = new Map<string, number>();
    for (const { counts } of this.#levels.values()) {
      for (const [word, count] of counts) total.set(word, (total.get(word) ?? 0) + count);
    }
    return total;
  }

  #isOverLimit(): boolean {
    let words = 0;
    let characters = 0;
    for (const level of this.#levels.values()) {
      words += level.counts.size;
      characters += level.characters;
    }
    return words > this.#wordsMax || characters > this.#charactersMax;
  }
}

/** Zero bits at the front of a hash of the text: FNV-1a over its UTF-16 units, mixed as MurmurHash3 ends (fmix32). */
function levelOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return Math.clz32(hash ^ (hash >>> 16));
}
