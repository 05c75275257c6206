/**
 * The columns behind the charts, kept up to date point by point. The server sends at most 1,024 buckets of `stride` steps; new
 * steps go into the last bucket, or open the next one, exactly as the server would put them, so that the whole series need not
 * be fetched again. Pure: every function returns new columns.
 */
import type { SeriesPoint, SeriesView } from './contract.ts';

export const EMPTY_SERIES: SeriesView = {
  stride: 1,
  step: [],
  loss: [],
  lossMin: [],
  lossMax: [],
  learningRate: [],
  tokensPerSecond: [],
  stepMs: [],
  goodput: [],
  validation: { step: [], loss: [] },
};

/** How many buckets there may be before neighbours are joined: the server's budget. */
const BUCKETS_MAX = 1024;

/**
 * The series with points added. Null when they do not follow: a step is missing, or is computed a second time after a rewind;
 * then the server has to be asked for the whole.
 */
export function appendPoints(series: SeriesView, points: readonly SeriesPoint[]): SeriesView | null {
  const columns = copy(series);
  for (const point of points) {
    const newest = columns.step.at(-1) ?? 0;
    if (point.step === newest) continue;
    if (point.step !== newest + 1) return null;
    add(columns, point);
  }
  return columns.step.length > BUCKETS_MAX ? null : columns;
}

type Columns = ReturnType<typeof copy>;

function copy({ stride, validation, ...view }: SeriesView) {
  return {
    stride,
    step: [...view.step],
    loss: [...view.loss],
    lossMin: [...view.lossMin],
    lossMax: [...view.lossMax],
    learningRate: [...view.learningRate],
    tokensPerSecond: [...view.tokensPerSecond],
    stepMs: [...view.stepMs],
    goodput: [...view.goodput],
    validation,
  };
}

function add(columns: Columns, point: SeriesPoint): void {
  const { stride } = columns;
  const last = columns.step.length - 1;
  // Steps count from 1: bucket b holds the steps b * stride + 1 to (b + 1) * stride.
  const held = last < 0 ? stride : ((columns.step[last]! - 1) % stride) + 1;
  if (held === stride) {
    columns.step.push(point.step);
    columns.loss.push(point.loss);
    columns.lossMin.push(point.loss);
    columns.lossMax.push(point.loss);
    columns.learningRate.push(point.learningRate);
    columns.tokensPerSecond.push(point.tokensPerSecond);
    columns.stepMs.push(point.stepMs);
    columns.goodput.push(point.goodput);
    return;
  }
  const mean = (old: number | null, fresh: number | null) =>
    old === null || fresh === null ? (fresh ?? old) : old + (fresh - old) / (held + 1);
  columns.step[last] = point.step;
  columns.loss[last] = mean(columns.loss[last]!, point.loss)!;
  columns.lossMin[last] = Math.min(columns.lossMin[last]!, point.loss);
  columns.lossMax[last] = Math.max(columns.lossMax[last]!, point.loss);
  columns.learningRate[last] = point.learningRate;
  columns.tokensPerSecond[last] = mean(columns.tokensPerSecond[last]!, point.tokensPerSecond);
  columns.stepMs[last] = mean(columns.stepMs[last]!, point.stepMs);
  columns.goodput[last] = mean(columns.goodput[last]!, point.goodput);
}

/**
 * The x axis of the loss chart: steps of training and of validation in one ascending list, with nulls where one of the two has
 * no value.
 */
export function alignLosses(series: SeriesView): {
  step: number[];
  loss: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
  validation: (number | null)[];
} {
  const { validation } = series;
  const at = new Map(validation.step.map((step, index) => [step, validation.loss[index]!]));
  const training = new Map(series.step.map((step, index) => [step, index]));
  const step = [...new Set([...series.step, ...validation.step])].sort((a, b) => a - b);
  const pick = (column: readonly number[]) =>
    step.map((number) => {
      const index = training.get(number);
      return index === undefined ? null : column[index]!;
    });
  return {
    step,
    loss: pick(series.loss),
    low: pick(series.lossMin),
    high: pick(series.lossMax),
    validation: step.map((number) => at.get(number) ?? null),
  };
}
