/**
 * Learning-rate schedules. The coordinator evaluates them and puts the rate into the commit, so
 * that every replica applies the very same number.
 */
import { assert } from '../base/index.ts';
import type { OptimizerConfig } from '../config/index.ts';

/**
 * Rate of a step (1-based): linear warm-up to `learningRate`, then constant, linear or cosine decay
 * to `finalLearningRateRatio` of it, or decay with the inverse square root of the step (Vaswani et
 * al. 2017, section 5.3, scaled to peak at `learningRate`). The result is rounded to float32.
 */
export function learningRateAt(step: number, config: OptimizerConfig, totalSteps: number): number {
  assert(step >= 1, `step ${step} is not counted from 1`);
  const { learningRate, warmupSteps, finalLearningRateRatio } = config;
  if (step <= warmupSteps) return Math.fround((learningRate * step) / warmupSteps);
  const end = config.decaySteps ?? totalSteps;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, end - warmupSteps));
  const between = (share: number) =>
    learningRate * (finalLearningRateRatio + (1 - finalLearningRateRatio) * share);
  switch (config.schedule) {
    case 'constant':
      return Math.fround(learningRate);
    case 'linear':
      return Math.fround(between(1 - progress));
    case 'cosine':
      return Math.fround(between((1 + Math.cos(Math.PI * progress)) / 2));
    case 'inverse-sqrt':
      return Math.fround(learningRate * Math.sqrt(Math.max(1, warmupSteps) / step));
  }
}
