/** What an evaluation says: a row for each model and threshold, as tables for a terminal and as values for JSON. Pure. */
import { type Column, renderTable } from '../base/index.ts';
import type { GenerationOptions, GeneratorFacts } from '../generation/index.ts';
import { removeRepeats } from '../generation/index.ts';
import { type ScoringOptions, scoreTexts, type TextScores } from '../metrics/index.ts';
import type { Measured } from './measure.ts';

export interface EvaluationRow {
  /** A run or model folder, or a file of texts. */
  readonly model: string;
  /** Null for texts from elsewhere. */
  readonly generation: GenerationFigures | null;
  readonly scores: TextScores;
  /** Of the texts without words that repeat the one before; null where there are none. */
  readonly scoresWithoutRepeats: TextScores | null;
}

export interface GenerationFigures extends Omit<Measured, 'hypotheses'> {
  readonly kind: GeneratorFacts['kind'];
  /** Of the checkpoint; null for weights of no run. */
  readonly step: number | null;
  readonly decoderLayers: number;
  readonly options: Omit<GenerationOptions, 'removeRepeats'>;
}

export function evaluationRow(
  model: string,
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  generation: GenerationFigures | null,
  scoring: ScoringOptions,
): EvaluationRow {
  const shorter = hypotheses.map(removeRepeats);
  const hasRepeats = shorter.some((text, index) => text !== hypotheses[index]!.trimEnd());
  return {
    model,
    generation,
    scores: scoreTexts(hypotheses, references, scoring),
    scoresWithoutRepeats: hasRepeats ? scoreTexts(shorter, references, scoring) : null,
  };
}

const left = (title: string): Column => ({ title, align: 'left' });
const right = (title: string): Column => ({ title, align: 'right' });

const QUALITY: readonly Column[] = [
  ...['model', 'exit', 'repeats'].map(left),
  ...['R-1', 'R-2', 'R-L', 'B-1', 'B-2', 'B-3', 'B-4', 'METEOR', 'D-1', 'D-2', 'rep', 'words'].map(right),
];
const SPEED: readonly Column[] = [
  ...['model', 'exit'].map(left),
  ...['layer', 'ms median', 'ms p90', 'encoder', 'decoder', 'texts/s', 'tokens/s', 'ended', 'rep'].map(right),
];

/** Shares as points of 100. ROUGE is F1. */
export function qualityTable(rows: readonly EvaluationRow[]): string[] {
  const cells = rows.flatMap((row) => [
    qualityCells(row, 'kept', row.scores),
    ...(row.scoresWithoutRepeats === null ? [] : [qualityCells(row, 'removed', row.scoresWithoutRepeats)]),
  ]);
  return renderTable(QUALITY, cells);
}

/** Times in milliseconds, of one text alone; `rep` is of tokens. Only rows that generated; empty when none did. */
export function speedTable(rows: readonly EvaluationRow[]): string[] {
  const cells = rows.flatMap(({ model, generation, scores }) => {
    if (generation === null) return [];
    const { meanLayer, decoderLayers, latency, throughput, ended, tokenRepetitionRate } = generation;
    return [
      [
        model,
        exitOf(generation),
        meanLayer === null ? '-' : `${meanLayer.toFixed(2)} of ${decoderLayers}`,
        latency.medianMs.toFixed(2),
        latency.p90Ms.toFixed(2),
        latency.encoderMedianMs.toFixed(2),
        latency.decoderMedianMs.toFixed(2),
        throughput.textsPerSecond.toFixed(1),
        throughput.tokensPerSecond.toFixed(0),
        `${((100 * ended) / scores.texts).toFixed(1)}%`,
        (100 * tokenRepetitionRate).toFixed(2),
      ],
    ];
  });
  return cells.length === 0 ? [] : renderTable(SPEED, cells);
}

function qualityCells({ model, generation }: EvaluationRow, repeats: string, scores: TextScores): string[] {
  const { rouge1, rouge2, rougeL, bleu, meteor, distinct1, distinct2, repetitionRate } = scores;
  const shares = [
    ...[rouge1.f1, rouge2.f1, rougeL.f1],
    ...bleu,
    ...[meteor, distinct1, distinct2, repetitionRate],
  ];
  return [
    model,
    generation === null ? '-' : exitOf(generation),
    repeats,
    ...shares.map((share) => (100 * share).toFixed(2)),
    scores.meanLength.toFixed(1),
  ];
}

function exitOf({ kind, options }: GenerationFigures): string {
  const { exit, threshold, quorum, beams } = options;
  if (kind === 'autoregressive') return beams === 1 ? 'greedy' : `beam ${beams}`;
  if (exit !== 'hard') return exit;
  return quorum === 1 ? `hard ${threshold}` : `hard ${threshold}, ${quorum}`;
}
