/** The three presets are configurations that a run can use, of the sizes they promise. */
import { describe, expect, test } from 'vitest';
import { layoutSize } from '../../../src/base/index.ts';
import {
  deadlinesFrom,
  PRESET_NAMES,
  PRESETS,
  resolveConfig,
  runConfigSchema,
} from '../../../src/config/index.ts';
import { parameterLayout } from '../../../src/model/index.ts';

const sizeOf = (preset: 'tiny' | 'small' | 'base', vocabSize: number) =>
  layoutSize(parameterLayout({ ...PRESETS[preset].model, vocabSize }));

describe('presets', () => {
  test.each(PRESET_NAMES)('%s is valid, and the schema adds and drops nothing', (name) => {
    expect(runConfigSchema.parse(PRESETS[name])).toEqual(PRESETS[name]);
    expect(PRESETS[name].preset).toBe(name);
    expect(resolveConfig({ flags: { preset: name } })).toEqual(PRESETS[name]);
  });

  test('small has about 8 million parameters with a vocabulary of 8,000', () => {
    const millions = sizeOf('small', 8000) / 1e6;
    expect(millions).toBeGreaterThan(7);
    expect(millions).toBeLessThan(9);
  });

  test('base has the 139 million parameters of BART-base with its vocabulary of 50,265', () => {
    const millions = sizeOf('base', 50_265) / 1e6;
    expect(millions).toBeGreaterThan(138);
    expect(millions).toBeLessThan(141);
  });

  test('tiny stays tiny', () => {
    expect(sizeOf('tiny', 1000)).toBeLessThan(0.5e6);
  });
});

describe('deadlines', () => {
  // The whole range that the schema allows, its ends and primes in between.
  test.each([500, 501, 503, 1009, 2000, 30_011, 600_000])(
    'do not contradict one another at %d ms',
    (limit) => {
      const deadlines = deadlinesFrom(limit);
      const { heartbeatIntervalMs, heartbeatLimitMs, lockDurationMs, lockRenewalMs } = deadlines;
      expect(heartbeatLimitMs).toBe(limit);
      // One lost heartbeat must not lose a worker, nor one lost renewal a job.
      expect(heartbeatIntervalMs * 2).toBeLessThan(heartbeatLimitMs);
      expect(lockRenewalMs * 2).toBeLessThan(lockDurationMs);
      // The ledger must learn of a lost worker before the queue hands its job out again.
      expect(heartbeatLimitMs).toBeLessThan(lockDurationMs);
      expect(deadlines.stalledCheckMs).toBeGreaterThanOrEqual(heartbeatLimitMs);
      // A worker must not give its coordinator up before the coordinator would give up the worker.
      expect(deadlines.coordinatorLimitMs).toBeGreaterThan(heartbeatLimitMs + heartbeatIntervalMs);
      expect(deadlines.connectLimitMs).toBeGreaterThan(heartbeatLimitMs);
      expect(deadlines.shutdownLimitMs).toBeGreaterThan(heartbeatLimitMs);
      for (const value of Object.values(deadlines)) expect(Number.isInteger(value) && value > 0).toBe(true);
    },
  );
});
