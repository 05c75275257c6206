export { repetitionRate } from './diversity.ts';
export type { Overlap, RougeScores } from './rouge.ts';
export { type ScoringOptions, scoreTexts, type TextScores } from './text-scores.ts';
export { porterStem, type Stem, stemmerWithExceptions } from './words.ts';
