/** All metrics of one set of generated texts. docs/EVALUATION.md defines each. */
import { assert } from '../base/index.ts';
import { bleu } from './bleu.ts';
import { distinct, duplicateBigramRate, meanLength, repetitionRate } from './diversity.ts';
import { meteor } from './meteor.ts';
import { type RougeScores, rouge } from './rouge.ts';
import { porterStem, remembering, rougeWords, type Stem, spacedWords } from './words.ts';

/** Shares are within 0 .. 1; lengths are in words. */
export interface TextScores extends RougeScores {
  readonly texts: number;
  /** BLEU-1 .. BLEU-4. */
  readonly bleu: readonly number[];
  readonly meteor: number;
  readonly distinct1: number;
  readonly distinct2: number;
  readonly repetitionRate: number;
  readonly duplicateBigramRate: number;
  readonly meanLength: number;
  /** Over all references. */
  readonly meanReferenceLength: number;
}

export interface ScoringOptions {
  /** Stems of ROUGE; null compares words as they are. Default: Porter. METEOR always takes Porter's. */
  readonly rougeStem?: Stem | null;
}

/** Scores `hypotheses`, each against the texts of `references` at the same place: one or more. At least one text. */
export function scoreTexts(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  { rougeStem = porterStem }: ScoringOptions = {},
): TextScores {
  assert(hypotheses.length > 0, 'nothing to score');
  assert(hypotheses.length === references.length, 'every text needs its references');
  assert(
    references.every((texts) => texts.length > 0),
    'every text needs a reference',
  );
  const stem = rougeStem === null ? null : remembering(rougeStem);
  const forRouge = (text: string) => rougeWords(text, stem);
  const words = hypotheses.map(spacedWords);
  const referenceWords = references.map((texts) => texts.map(spacedWords));
  return {
    texts: hypotheses.length,
    ...rouge(
      hypotheses.map(forRouge),
      references.map((texts) => texts.map(forRouge)),
    ),
    bleu: bleu(words, referenceWords),
    meteor: meteor(words, referenceWords, remembering(porterStem)),
    distinct1: distinct(words, 1),
    distinct2: distinct(words, 2),
    repetitionRate: repetitionRate(words),
    duplicateBigramRate: duplicateBigramRate(words),
    meanLength: meanLength(words),
    meanReferenceLength: meanLength(referenceWords.flat()),
  };
}
