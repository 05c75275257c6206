/**
 * METEOR 1.5 for English (Denkowski & Lavie 2014; the metric is Banerjee & Lavie 2005) with two of its four stages:
 * exact and stem. Left out: the stages of synonyms (WordNet) and paraphrases, whose tables are not shipped, and with
 * them the list of function words, so that every word weighs the same (the parameter delta drops out). Stems are
 * Porter's; METEOR 1.5 takes Snowball's English ones. Scores are therefore lower than METEOR 1.5's: compare them only
 * with one another.
 */
import { align } from './meteor-alignment.ts';
import type { Stem } from './words.ts';

/** METEOR 1.5's own for English, tuned on people's rankings of translations (its task `rank`, the default). */
const ALPHA = 0.85;
const BETA = 0.2;
const GAMMA = 0.6;
/** Weight of a match by stem; one of equal words weighs 1. */
const STEM_WEIGHT = 0.6;

/** What the score is made of; adds up over texts. */
interface Counts {
  hypothesisWords: number;
  referenceWords: number;
  exact: number;
  stem: number;
  chunks: number;
}

/**
 * Of a corpus, within 0 .. 1: the counts of all texts summed, then scored once, as METEOR 1.5 does. With several
 * references, the one with the highest score of the text itself counts.
 */
export function meteor(
  hypotheses: readonly (readonly string[])[],
  references: readonly (readonly (readonly string[])[])[],
  stem: Stem,
): number {
  const sum: Counts = { hypothesisWords: 0, referenceWords: 0, exact: 0, stem: 0, chunks: 0 };
  hypotheses.forEach((hypothesis, index) => {
    const all = references[index]!.map((reference) => countsOf(hypothesis, reference, stem));
    const best = all.reduce((first, second) => (scoreOf(second) > scoreOf(first) ? second : first));
    sum.hypothesisWords += best.hypothesisWords;
    sum.referenceWords += best.referenceWords;
    sum.exact += best.exact;
    sum.stem += best.stem;
    sum.chunks += best.chunks;
  });
  return scoreOf(sum);
}

function countsOf(hypothesis: readonly string[], reference: readonly string[], stem: Stem): Counts {
  const { exact, stem: stems, chunks } = align(hypothesis, reference, stem);
  const matches = exact + stems;
  // A text that is matched whole and in order is not fragmented at all.
  const isWhole = matches === hypothesis.length && matches === reference.length && chunks === 1;
  return {
    hypothesisWords: hypothesis.length,
    referenceWords: reference.length,
    exact,
    stem: stems,
    chunks: isWhole ? 0 : chunks,
  };
}

function scoreOf({ hypothesisWords, referenceWords, exact, stem, chunks }: Counts): number {
  if (exact + stem === 0) return 0;
  const weighted = exact + STEM_WEIGHT * stem;
  const precision = weighted / hypothesisWords;
  const recall = weighted / referenceWords;
  const mean = (precision * recall) / (ALPHA * precision + (1 - ALPHA) * recall);
  const fragmentation = chunks / (exact + stem);
  return mean * (1 - GAMMA * fragmentation ** BETA);
}
