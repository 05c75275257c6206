/**
 * What can be said of generated texts without references: how varied they are, how much they repeat themselves, how
 * long they are. Words are those between white space.
 */
import { countNgrams, ngramsIn } from './ngrams.ts';

type Texts = readonly (readonly string[])[];

/**
 * Distinct-n (Li et al. 2016): different sequences of `size` words over all such sequences, in the whole corpus
 * together; 0 without any. It falls as a corpus grows, so that only corpora of one size compare.
 */
export function distinct(texts: Texts, size: number): number {
  const seen = new Set<string>();
  let total = 0;
  for (const words of texts) {
    for (const ngram of countNgrams(words, size).keys()) seen.add(ngram);
    total += ngramsIn(words, size);
  }
  return share(seen.size, total);
}

/** Words equal to the word before them, over all words, as Ghazvininejad et al. 2019 (Mask-Predict) count tokens. */
export function repetitionRate(texts: Texts): number {
  let repeated = 0;
  let total = 0;
  for (const words of texts) {
    repeated += words.filter((word, index) => index > 0 && word === words[index - 1]).length;
    total += words.length;
  }
  return share(repeated, total);
}

/** Pairs of words that have occurred before in the same text, over all pairs: seq-rep-2 of Welleck et al. 2020. */
export function duplicateBigramRate(texts: Texts): number {
  let duplicates = 0;
  let total = 0;
  for (const words of texts) {
    const pairs = ngramsIn(words, 2);
    duplicates += pairs - countNgrams(words, 2).size;
    total += pairs;
  }
  return share(duplicates, total);
}

/** In words. */
export function meanLength(texts: Texts): number {
  return share(
    texts.reduce((sum, words) => sum + words.length, 0),
    texts.length,
  );
}

function share(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}
