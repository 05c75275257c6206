/**
 * BLEU-1 to BLEU-4 of a corpus (Papineni et al. 2002), unsmoothed: counts are summed over all texts, clipped by the
 * reference in which a sequence is most frequent; the reference closest in length counts for the brevity penalty, the
 * shorter one of two as close. The same as in coco-caption and nlg-eval.
 */
import { countNgrams, ngramsIn, sharedCount } from './ngrams.ts';

export const BLEU_SIZE_MAX = 4;

/** BLEU-1 .. BLEU-4, each within 0 .. 1; 0 where no sequence of that length is shared. */
export function bleu(
  hypotheses: readonly (readonly string[])[],
  references: readonly (readonly (readonly string[])[])[],
): number[] {
  const shared = new Array<number>(BLEU_SIZE_MAX).fill(0);
  const total = new Array<number>(BLEU_SIZE_MAX).fill(0);
  let length = 0;
  let closestLength = 0;
  hypotheses.forEach((hypothesis, index) => {
    const texts = references[index]!;
    length += hypothesis.length;
    closestLength += closest(
      hypothesis.length,
      texts.map((words) => words.length),
    );
    for (let size = 1; size <= BLEU_SIZE_MAX; size += 1) {
      const limits = largestCounts(texts.map((words) => countNgrams(words, size)));
      shared[size - 1]! += sharedCount(countNgrams(hypothesis, size), limits);
      total[size - 1]! += ngramsIn(hypothesis, size);
    }
  });
  const brevity = length === 0 ? 0 : Math.min(1, Math.exp(1 - closestLength / length));
  let logSum = 0;
  return shared.map((count, index) => {
    logSum += Math.log(count / total[index]!);
    return count === 0 || !Number.isFinite(logSum) ? 0 : brevity * Math.exp(logSum / (index + 1));
  });
}

function closest(length: number, lengths: readonly number[]): number {
  return lengths.reduce((first, second) => {
    const difference = Math.abs(second - length) - Math.abs(first - length);
    return difference < 0 || (difference === 0 && second < first) ? second : first;
  });
}

function largestCounts(all: readonly ReadonlyMap<string, number>[]): Map<string, number> {
  const largest = new Map<string, number>();
  for (const counts of all) {
    for (const [ngram, count] of counts) largest.set(ngram, Math.max(count, largest.get(ngram) ?? 0));
  }
  return largest;
}
