export { type Measured, type MeasureOptions, measure, type TextSource } from './measure.ts';
export {
  type EvaluationRow,
  evaluationRow,
  type GenerationFigures,
  qualityTable,
  speedTable,
} from './report.ts';
export { linesOf, readTexts, referencesBeside, type TextFile } from './texts.ts';
export { type Validated, ValidationLoss } from './validation-loss.ts';
