/**
 * The scalars of one AdamW step: everything the kernel needs beside the four vectors, rounded to
 * float32. They are computed by multiplication, division and rounding only: `Math.pow` may differ from
 * one JavaScript engine to the next, and the weights' bits with it. The formula is in adamw.wat.
 */
import { assert } from '../base/index.ts';
import type { OptimizerConfig } from '../config/index.ts';

/** Each a float32. */
export interface AdamwScalars {
  readonly gradientScale: number;
  readonly beta1: number;
  readonly oneMinusBeta1: number;
  readonly beta2: number;
  readonly oneMinusBeta2: number;
  /** 1 - beta1^step */
  readonly correction1: number;
  /** 1 - beta2^step */
  readonly correction2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  readonly learningRate: number;
}

export interface AdamwMoment {
  /** The update's number in the run, from 1. */
  readonly step: number;
  /** The schedule's value at this step. */
  readonly learningRate: number;
  /** What the summed gradient is multiplied by: 1 / tokens, times the clip's factor. */
  readonly gradientScale: number;
}

export function adamwScalars(
  optimizer: Pick<OptimizerConfig, 'beta1' | 'beta2' | 'epsilon' | 'weightDecay'>,
  { step, learningRate, gradientScale }: AdamwMoment,
): AdamwScalars {
  assert(Number.isInteger(step) && step >= 1, `AdamW step ${step} is not a positive integer`);
  const { beta1, beta2, epsilon, weightDecay } = optimizer;
  return {
    gradientScale: Math.fround(gradientScale),
    beta1: Math.fround(beta1),
    oneMinusBeta1: Math.fround(1 - beta1),
    beta2: Math.fround(beta2),
    oneMinusBeta2: Math.fround(1 - beta2),
    correction1: Math.fround(1 - powerOf(beta1, step)),
    correction2: Math.fround(1 - powerOf(beta2, step)),
    epsilon: Math.fround(epsilon),
    weightDecay: Math.fround(weightDecay),
    learningRate: Math.fround(learningRate),
  };
}

/** `base` to a non-negative integer power, by repeated squaring in float64. */
export function powerOf(base: number, exponent: number): number {
  let power = 1;
  let square = base;
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) power *= square;
    square *= square;
  }
  return power;
}
