/** Learning rates against their closed forms, at the corners where schedules are usually wrong. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type OptimizerConfig, PRESETS, SCHEDULES } from '../../../src/config/index.ts';
import { learningRateAt } from '../../../src/coordinator/index.ts';

const f = Math.fround;
const config = (change: Partial<OptimizerConfig>): OptimizerConfig => ({
  ...PRESETS.tiny.optimizer,
  learningRate: 1e-3,
  warmupSteps: 10,
  finalLearningRateRatio: 0.1,
  decaySteps: 110,
  ...change,
});
const rate = (step: number, change: Partial<OptimizerConfig>) => learningRateAt(step, config(change), 1000);

describe('learningRateAt', () => {
  test.each(SCHEDULES)('%s warms up in a line from the first step on', (schedule) => {
    for (const step of [1, 3, 9]) expect(rate(step, { schedule })).toBe(f((1e-3 * step) / 10));
    expect(rate(10, { schedule })).toBe(f(1e-3));
  });

  test.each(SCHEDULES)('%s starts at the full rate without warm-up', (schedule) => {
    const first = rate(1, { schedule, warmupSteps: 0, decaySteps: 1_000_000 });
    expect(first / 1e-3).toBeCloseTo(1, 5);
  });

  test('constant stays', () => {
    for (const step of [11, 110, 5000]) expect(rate(step, { schedule: 'constant' })).toBe(f(1e-3));
  });

  test('linear: half way between, then the final rate for good', () => {
    expect(rate(60, { schedule: 'linear' })).toBe(f(1e-3 * 0.55));
    for (const step of [110, 111, 9999]) expect(rate(step, { schedule: 'linear' })).toBe(f(1e-4));
  });

  test('cosine: half way between, a quarter by its formula, then the final rate', () => {
    expect(rate(60, { schedule: 'cosine' })).toBeCloseTo(1e-3 * 0.55, 9);
    expect(rate(35, { schedule: 'cosine' })).toBeCloseTo(1e-3 * (0.1 + 0.45 * (1 + Math.SQRT1_2)), 9);
    for (const step of [110, 9999]) expect(rate(step, { schedule: 'cosine' })).toBe(f(1e-4));
  });

  test('inverse-sqrt: halves at four times the warm-up, and leaves the warm-up without a jump', () => {
    expect(rate(40, { schedule: 'inverse-sqrt' })).toBe(f(5e-4));
    expect(rate(1000, { schedule: 'inverse-sqrt' })).toBe(f(1e-4));
    expect(rate(11, { schedule: 'inverse-sqrt' })).toBe(f(1e-3 * Math.sqrt(10 / 11)));
  });

  test('null decaySteps takes the length of the run', () => {
    expect(rate(1000, { schedule: 'linear', decaySteps: null })).toBe(f(1e-4));
    expect(rate(505, { schedule: 'linear', decaySteps: null })).toBe(f(1e-3 * 0.55));
  });

  test('a run that ends within its warm-up is no division by zero', () => {
    const short = config({ schedule: 'linear', warmupSteps: 10, decaySteps: null });
    expect(learningRateAt(5, short, 5)).toBe(f(5e-4));
    expect(learningRateAt(11, short, 5)).toBe(f(1e-4));
  });

  test('is a float32 between nothing and the peak at every step, and never rises after the warm-up', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...SCHEDULES),
        fc.nat(50),
        fc.integer({ min: 1, max: 300 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (schedule, warmupSteps, length, finalLearningRateRatio) => {
          const change = { schedule, warmupSteps, finalLearningRateRatio, decaySteps: warmupSteps + length };
          let before = Infinity;
          for (let step = 1; step <= warmupSteps + length + 5; step += 1) {
            const now = rate(step, change);
            expect(now).toBe(f(now));
            expect(now).toBeGreaterThanOrEqual(0);
            expect(now).toBeLessThanOrEqual(f(1e-3));
            if (step > warmupSteps + 1) expect(now).toBeLessThanOrEqual(before);
            before = now;
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  test('asserts that steps count from 1', () => {
    expect(() => rate(0, {})).toThrow('step 0');
  });
});
