/**
 * A run's curves in bounded memory, however long it is: buckets of `stride` steps, each with its sums; when
 * their number reaches the budget, neighbours are merged and the stride doubles. So every point stays
 * represented, minima and maxima included, and adding one costs constant time on average. Pure.
 */
import type { SeriesPoint, SeriesView } from '../contract.ts';

export const BUCKETS_MAX = 1024;

interface Mean {
  sum: number;
  count: number;
}

interface Bucket {
  step: number;
  steps: number;
  lossSum: number;
  lossMin: number;
  lossMax: number;
  /** Of the newest step: a schedule has no use for a mean. */
  learningRate: number;
  tokensPerSecond: Mean;
  stepMs: Mean;
  goodput: Mean;
}

interface ValidationBucket {
  step: number;
  lossSum: number;
  count: number;
}

export class Series {
  #stride = 1;
  #buckets: Bucket[] = [];
  #validationStride = 1;
  #validation: ValidationBucket[] = [];

  /** `point.step` is greater than that of every point before. */
  add(point: SeriesPoint): void {
    const last = this.#buckets.at(-1);
    if (last !== undefined && last.steps < this.#stride) {
      absorb(last, bucketOf(point));
      return;
    }
    if (this.#buckets.length === BUCKETS_MAX) {
      this.#buckets = pairwise(this.#buckets, absorb);
      this.#stride *= 2;
    }
    this.#buckets.push(bucketOf(point));
  }

  addValidation(step: number, loss: number): void {
    const last = this.#validation.at(-1);
    if (last !== undefined && last.count < this.#validationStride) {
      absorbValidation(last, { step, lossSum: loss, count: 1 });
      return;
    }
    if (this.#validation.length === BUCKETS_MAX) {
      this.#validation = pairwise(this.#validation, absorbValidation);
      this.#validationStride *= 2;
    }
    this.#validation.push({ step, lossSum: loss, count: 1 });
  }

  view(): SeriesView {
    const buckets = this.#buckets;
    return {
      stride: this.#stride,
      step: buckets.map(({ step }) => step),
      loss: buckets.map(({ lossSum, steps }) => rounded(lossSum / steps)),
      lossMin: buckets.map(({ lossMin }) => rounded(lossMin)),
      lossMax: buckets.map(({ lossMax }) => rounded(lossMax)),
      learningRate: buckets.map(({ learningRate }) => rounded(learningRate)),
      tokensPerSecond: buckets.map(({ tokensPerSecond }) => meanOf(tokensPerSecond)),
      stepMs: buckets.map(({ stepMs }) => meanOf(stepMs)),
      goodput: buckets.map(({ goodput }) => meanOf(goodput)),
      validation: {
        step: this.#validation.map(({ step }) => step),
        loss: this.#validation.map(({ lossSum, count }) => rounded(lossSum / count)),
      },
    };
  }
}

function bucketOf(point: SeriesPoint): Bucket {
  const { step, loss, learningRate } = point;
  const one = (value: number | null): Mean =>
    value === null ? { sum: 0, count: 0 } : { sum: value, count: 1 };
  return {
    step,
    steps: 1,
    lossSum: loss,
    lossMin: loss,
    lossMax: loss,
    learningRate,
    tokensPerSecond: one(point.tokensPerSecond),
    stepMs: one(point.stepMs),
    goodput: one(point.goodput),
  };
}

function absorb(into: Bucket, next: Bucket): void {
  into.step = next.step;
  into.steps += next.steps;
  into.lossSum += next.lossSum;
  into.lossMin = Math.min(into.lossMin, next.lossMin);
  into.lossMax = Math.max(into.lossMax, next.lossMax);
  into.learningRate = next.learningRate;
  for (const name of ['tokensPerSecond', 'stepMs', 'goodput'] as const) {
    into[name].sum += next[name].sum;
    into[name].count += next[name].count;
  }
}

function absorbValidation(into: ValidationBucket, next: ValidationBucket): void {
  into.step = next.step;
  into.lossSum += next.lossSum;
  into.count += next.count;
}

function pairwise<T>(buckets: readonly T[], merge: (into: T, next: T) => void): T[] {
  const merged: T[] = [];
  for (let index = 0; index < buckets.length; index += 2) {
    const into = buckets[index]!;
    const next = buckets[index + 1];
    if (next !== undefined) merge(into, next);
    merged.push(into);
  }
  return merged;
}

function meanOf({ sum, count }: Mean): number | null {
  return count === 0 ? null : rounded(sum / count);
}

/** Six digits: more than a chart shows, half the bytes. */
function rounded(value: number): number {
  return Number(value.toPrecision(6));
}
