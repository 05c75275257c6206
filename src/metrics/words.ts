/**
 * Texts to words, in the two ways of the field, and words to stems.
 * BLEU, METEOR and Distinct take what stands between white space, lower-cased, as ELMER's evaluation does
 * (fine-tune/train.py lower-cases and strips). ROUGE takes runs of a-z and 0-9, as ROUGE-1.5.5 does, and stems words of
 * more than three letters. ROUGE-1.5.5 looks a word up in WordNet's lists of irregular forms before it stems it; the
 * lists are not part of this package, and `stemmerWithExceptions` takes them where they are at hand.
 */
import { stemmer } from 'stemmer';

/** The stem of a lower-cased word. */
export type Stem = (word: string) => string;

/** Stems only words longer than this, as ROUGE-1.5.5 does. */
const UNSTEMMED_LETTERS = 3;

/** The algorithm of Porter 1980. */
export const porterStem: Stem = (word) => stemmer(word);

/** Words between white space, lower-cased. */
export function spacedWords(text: string): string[] {
  return text.toLowerCase().match(/\S+/gu) ?? [];
}

/** Words of ROUGE-1.5.5: runs of a-z and 0-9 after lower-casing, stemmed unless `stem` is null. */
export function rougeWords(text: string, stem: Stem | null): string[] {
  const words: string[] = text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  if (stem === null) return words;
  return words.map((word) => (word.length > UNSTEMMED_LETTERS ? stem(word) : word));
}

/**
 * Irregular forms first, all else by Porter: what ROUGE-1.5.5 does with option -m. `lists` are WordNet's `adj.exc`,
 * `adv.exc`, `noun.exc` and `verb.exc`, a form and its base on each line; of a form that is in several, the last counts.
 */
export function stemmerWithExceptions(lists: readonly string[]): Stem {
  const bases = new Map<string, string>();
  for (const line of lists.join('\n').split('\n')) {
    const [form, base] = line.trim().split(/\s+/);
    if (form !== undefined && base !== undefined) bases.set(form, base);
  }
  return (word) => bases.get(word) ?? porterStem(word);
}

/** The same function, which computes nothing twice; lives as long as one scoring. */
export function remembering(stem: Stem): Stem {
  const known = new Map<string, string>();
  return (word) => {
    let found = known.get(word);
    if (found === undefined) {
      found = stem(word);
      known.set(word, found);
    }
    return found;
  };
}
