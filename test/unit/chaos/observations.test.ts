/** Recovery times, worker time and goodput of a disturbed run. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Commit,
  goodputOf,
  summarizeRecoveries,
  type WorkforceChange,
  workforceMs,
} from '../../../src/chaos/index.ts';
import { naiveQuantile } from '../../support/naive-quantile.ts';
import { naiveWorkforceMs } from '../../support/naive-workforce.ts';

const commits: readonly Commit[] = [
  { step: 1, atMs: 100 },
  { step: 2, atMs: 200 },
  { step: 3, atMs: 900 },
];

describe('recovery', () => {
  test('lasts from a fault to the next commit, each kind by itself', () => {
    const faults = [
      { kind: 'kill-worker', atMs: 150 },
      { kind: 'kill-redis', atMs: 250 },
      { kind: 'kill-worker', atMs: 300 },
      { kind: 'kill-worker', atMs: 901 },
    ] as const;
    expect(summarizeRecoveries(['kill-worker', 'kill-redis', 'slow-worker'], faults, commits)).toEqual([
      { kind: 'kill-worker', fired: 3, recovered: 2, p50Ms: 50, p99Ms: 600, maxMs: 600 },
      { kind: 'kill-redis', fired: 1, recovered: 1, p50Ms: 650, p99Ms: 650, maxMs: 650 },
      { kind: 'slow-worker', fired: 0, recovered: 0, p50Ms: null, p99Ms: null, maxMs: null },
    ]);
  });

  test('agrees with the definition for any faults before the last commit', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 900 }), { minLength: 1 }), (times) => {
        const faults = times.map((atMs) => ({ kind: 'kill-worker' as const, atMs }));
        const waits = times.map((atMs) => Math.min(...[100, 200, 900].filter((at) => at >= atMs)) - atMs);
        const [summary] = summarizeRecoveries(['kill-worker'], faults, commits);
        expect(summary).toMatchObject({
          recovered: times.length,
          p50Ms: naiveQuantile(waits, 0.5),
          p99Ms: naiveQuantile(waits, 0.99),
          maxMs: Math.max(...waits),
        });
      }),
    );
  });
});

describe('worker time', () => {
  test('is that of the workers that were there, within the span', () => {
    const change = fc.record({
      atMs: fc.integer({ min: 0, max: 60 }),
      delta: fc.constantFrom<1 | -1>(1, -1),
    });
    const span = fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 60 }));
    fc.assert(
      fc.property(fc.array(change), span, (unsorted, [one, other]) => {
        const changes: WorkforceChange[] = [...unsorted].sort((a, b) => a.atMs - b.atMs);
        const [fromMs, toMs] = [Math.min(one, other), Math.max(one, other)];
        expect(workforceMs(changes, fromMs, toMs)).toBe(naiveWorkforceMs(changes, fromMs, toMs));
      }),
    );
  });
});

describe('goodput', () => {
  test("is the tokens of a worker-second over the twin's", () => {
    expect(goodputOf({ tokens: 600, workerMs: 2000 }, { tokens: 600, workerMs: 1000 })).toBe(0.5);
  });

  test('is unknown for a run of one commit', () => {
    expect(goodputOf({ tokens: 0, workerMs: 0 }, { tokens: 600, workerMs: 1000 })).toBeNull();
    expect(goodputOf({ tokens: 600, workerMs: 2000 }, { tokens: 0, workerMs: 0 })).toBeNull();
  });
});
