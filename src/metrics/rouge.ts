/**
 * ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), as `ROUGE-1.5.5.pl -n 2 -m` computes them for texts of one sentence: for
 * each text, then the mean over texts. ROUGE-L is the sentence-level one: a text is one sequence, line breaks or not.
 * F1 weighs precision and recall alike (-p 0.5). No bootstrap, no limit of length, no stop words left out.
 */
import { commonSubsequenceLength, countNgrams, ngramsIn, sharedCount } from './ngrams.ts';

export interface Overlap {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

/** The measures by name, each within 0 .. 1. */
export interface RougeScores {
  readonly rouge1: Overlap;
  readonly rouge2: Overlap;
  readonly rougeL: Overlap;
}

type Measure = (hypothesis: readonly string[], reference: readonly string[]) => Overlap;

/**
 * Mean over texts; `references[i]` are the words of each reference of `hypotheses[i]`. With several references, the one
 * with the highest F1 counts, for each measure by itself (Lin 2004, section 2.1). A text without words scores 0.
 */
export function rouge(
  hypotheses: readonly (readonly string[])[],
  references: readonly (readonly (readonly string[])[])[],
): RougeScores {
  const meanOf = (measure: Measure) =>
    mean(hypotheses.map((words, index) => best(references[index]!.map((text) => measure(words, text)))));
  return { rouge1: meanOf(rougeN(1)), rouge2: meanOf(rougeN(2)), rougeL: meanOf(rougeL) };
}

function rougeN(size: number): Measure {
  return (hypothesis, reference) =>
    overlap(
      sharedCount(countNgrams(hypothesis, size), countNgrams(reference, size)),
      ngramsIn(hypothesis, size),
      ngramsIn(reference, size),
    );
}

const rougeL: Measure = (hypothesis, reference) =>
  overlap(commonSubsequenceLength(hypothesis, reference), hypothesis.length, reference.length);

function overlap(shared: number, ofHypothesis: number, ofReference: number): Overlap {
  if (shared === 0) return { precision: 0, recall: 0, f1: 0 };
  const precision = shared / ofHypothesis;
  const recall = shared / ofReference;
  return { precision, recall, f1: (2 * precision * recall) / (precision + recall) };
}

function best(overlaps: readonly Overlap[]): Overlap {
  return overlaps.reduce((first, second) => (second.f1 > first.f1 ? second : first));
}

function mean(overlaps: readonly Overlap[]): Overlap {
  const sum = { precision: 0, recall: 0, f1: 0 };
  for (const { precision, recall, f1 } of overlaps) {
    sum.precision += precision;
    sum.recall += recall;
    sum.f1 += f1;
  }
  const count = overlaps.length;
  return { precision: sum.precision / count, recall: sum.recall / count, f1: sum.f1 / count };
}
