/** The fault plan: had again from its seed, fair among kinds, and at the rate that was asked for. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CUT_MODES,
  FAULT_KINDS,
  type Fault,
  type FaultPlanOptions,
  planFaults,
} from '../../../src/chaos/index.ts';

const OPTIONS: FaultPlanOptions = {
  seed: 7,
  kinds: FAULT_KINDS,
  workers: 3,
  faultsPerHour: 60,
  heartbeatLimitMs: 1000,
};

function firstFaults(options: FaultPlanOptions, count: number): Fault[] {
  const plan = planFaults(options);
  return Array.from({ length: count }, () => plan.next().value);
}

const options = fc.record({
  seed: fc.nat(),
  kinds: fc.subarray([...FAULT_KINDS], { minLength: 1 }),
  workers: fc.integer({ min: 1, max: 8 }),
  faultsPerHour: fc.integer({ min: 1, max: 10_000 }),
  heartbeatLimitMs: fc.integer({ min: 100, max: 10_000 }),
});

describe('the fault plan', () => {
  test('is a function of its options', () => {
    fc.assert(
      fc.property(options, (given) => {
        expect(firstFaults(given, 20)).toEqual(firstFaults(given, 20));
      }),
    );
  });

  test('differs from seed to seed', () => {
    const plans = [1, 2, 3].map((seed) => JSON.stringify(firstFaults({ ...OPTIONS, seed }, 5)));
    expect(new Set(plans).size).toBe(3);
  });

  test('has every kind in each round, victims that exist, and lengths around the heartbeat limit', () => {
    fc.assert(
      fc.property(options, (given) => {
        const { kinds, workers, heartbeatLimitMs } = given;
        const faults = firstFaults(given, 3 * kinds.length);
        for (let round = 0; round < 3; round += 1) {
          const struck = faults.slice(round * kinds.length, (round + 1) * kinds.length);
          expect(struck.map(({ kind }) => kind).sort()).toEqual([...kinds].sort());
        }
        let earlierMs = 0;
        for (const { atMs, kind, worker, durationMs, cut, peer } of faults) {
          expect(atMs).toBeGreaterThanOrEqual(earlierMs);
          earlierMs = atMs;
          if (kind.split('-')[1] === 'worker')
            expect(worker !== null && worker >= 0 && worker < workers).toBe(true);
          else expect(worker).toBeNull();
          expect(cut !== null).toBe(kind.startsWith('cut-'));
          expect(peer !== null).toBe(kind === 'cut-worker-peer');
          if (peer !== null) expect(peer).toBeLessThan(Math.max(1, workers - 1));
          if (kind.startsWith('kill-')) expect(durationMs).toBe(0);
          else {
            expect(durationMs).toBeGreaterThanOrEqual(heartbeatLimitMs / 2);
            expect(durationMs).toBeLessThan(heartbeatLimitMs * 3);
          }
        }
      }),
    );
  });

  test('cuts in every way there is', () => {
    const faults = firstFaults({ ...OPTIONS, kinds: ['cut-worker-peer'] }, 60);
    expect(new Set(faults.map(({ cut }) => cut))).toEqual(new Set(CUT_MODES));
    expect(new Set(faults.map(({ peer }) => peer))).toEqual(new Set([0, 1]));
  });

  test('keeps its times and victims when other kinds are asked for in their place', () => {
    const timesOf = (kinds: FaultPlanOptions['kinds']) =>
      firstFaults({ ...OPTIONS, kinds }, 20).map(({ atMs }) => atMs);
    expect(timesOf(['kill-worker', 'kill-redis'])).toEqual(timesOf(['freeze-worker', 'slow-worker']));
  });

  test('comes at the asked rate, with gaps as of a Poisson process', () => {
    const faults = firstFaults(OPTIONS, 4000);
    const gaps = faults.map(({ atMs }, index) => atMs - (faults[index - 1]?.atMs ?? 0));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    // One a minute; the standard error of 4000 exponential gaps is 1.6 %.
    expect(mean).toBeGreaterThan(57_000);
    expect(mean).toBeLessThan(63_000);
    const longer = gaps.filter((gap) => gap > mean).length / gaps.length;
    expect(Math.abs(longer - Math.exp(-1))).toBeLessThan(0.03);
  });

  test('stays what it was: a seed in an old report can be run again', () => {
    expect(firstFaults({ ...OPTIONS, kinds: ['kill-worker'] }, 2)).toMatchInlineSnapshot(`
      [
        {
          "atMs": 130696.81793948768,
          "cut": null,
          "durationMs": 0,
          "kind": "kill-worker",
          "peer": null,
          "worker": 2,
        },
        {
          "atMs": 189178.01243834352,
          "cut": null,
          "durationMs": 0,
          "kind": "kill-worker",
          "peer": null,
          "worker": 0,
        },
      ]
    `);
  });
});
