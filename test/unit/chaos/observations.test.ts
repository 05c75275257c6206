/** Recovery times, newcomers, worker time and goodput of a disturbed run. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type CapacityChange,
  type Commit,
  type Contribution,
  capacityMs,
  goodputOf,
  holdUpMs,
  type Join,
  summarizeJoins,
  summarizeRecoveries,
} from '../../../src/chaos/index.ts';
import { naiveCapacityMs } from '../../support/naive-capacity.ts';
import { naiveQuantile } from '../../support/naive-quantile.ts';

const commits: readonly Commit[] = [
  { step: 1, atMs: 100 },
  { step: 2, atMs: 200 },
  { step: 3, atMs: 900 },
];
const NOTHING = { p50Ms: null, p99Ms: null, maxMs: null };

describe('recovery', () => {
  test('lasts from a kill to the next commit, each kind by itself', () => {
    const faults = [
      { kind: 'kill-worker', atMs: 150, endMs: 150 },
      { kind: 'kill-redis', atMs: 250, endMs: 250 },
      { kind: 'kill-worker', atMs: 300, endMs: 300 },
      { kind: 'kill-worker', atMs: 901, endMs: 901 },
    ] as const;
    expect(summarizeRecoveries(['kill-worker', 'kill-redis', 'slow-worker'], faults, commits)).toEqual([
      { kind: 'kill-worker', fired: 3, recovered: 2, p50Ms: 50, p99Ms: 600, maxMs: 600 },
      { kind: 'kill-redis', fired: 1, recovered: 1, p50Ms: 650, p99Ms: 650, maxMs: 650 },
      { kind: 'slow-worker', fired: 0, recovered: 0, ...NOTHING },
    ]);
  });

  test('of what lasts is the longest wait for a commit until one came after its end', () => {
    const during = { kind: 'slow-worker', atMs: 150, endMs: 300 } as const;
    expect(holdUpMs(during, commits)).toBe(700);
    expect(holdUpMs({ ...during, atMs: 90, endMs: 195 }, commits)).toBe(100);
    expect(holdUpMs({ ...during, endMs: 901 }, commits)).toBeNull();
    expect(holdUpMs({ ...during, endMs: Number.POSITIVE_INFINITY }, commits)).toBeNull();
  });

  test('agrees with the definition for any faults before the last commit', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 900 }), { minLength: 1 }), (times) => {
        const faults = times.map((atMs) => ({ kind: 'kill-worker' as const, atMs, endMs: atMs }));
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

describe('newcomers', () => {
  const worked = (atMs: number, ...workers: string[]): Contribution => ({ atMs, workers: new Set(workers) });
  const join = (worker: string, startedMs: number, helloMs: number | null): Join => ({
    worker,
    isProcess: true,
    startedMs,
    helloMs,
  });

  test('take from start and hello to the first commit with a slot of theirs', () => {
    const contributions = [worked(100, 'a', 'b'), worked(200, 'a'), worked(300, 'a', 'b'), worked(400, 'c')];
    const joins = [join('b', 150, 180), join('c', 350, null), join('d', 350, 360)];
    expect(summarizeJoins(joins, contributions)).toEqual({
      begun: 3,
      contributed: 2,
      fromStart: { p50Ms: 50, p99Ms: 150, maxMs: 150 },
      fromHello: { p50Ms: 120, p99Ms: 120, maxMs: 120 },
    });
  });

  test('that never came to work have no times', () => {
    const none = { begun: 1, contributed: 0, fromStart: NOTHING, fromHello: NOTHING };
    expect(summarizeJoins([join('late', 500, 510)], [worked(400, 'late')])).toEqual(none);
  });
});

describe('worker time', () => {
  test('is that of the capacity that was there, within the span', () => {
    const change = fc.record({
      atMs: fc.integer({ min: 0, max: 60 }),
      delta: fc.constantFrom(1, -1, 0.5, -0.25),
    });
    const span = fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 60 }));
    fc.assert(
      fc.property(fc.array(change), span, (unsorted, [one, other]) => {
        const changes: CapacityChange[] = [...unsorted].sort((a, b) => a.atMs - b.atMs);
        const [fromMs, toMs] = [Math.min(one, other), Math.max(one, other)];
        expect(capacityMs(changes, fromMs, toMs)).toBe(naiveCapacityMs(changes, fromMs, toMs));
      }),
    );
  });
});

describe('goodput', () => {
  test("is the tokens of a worker-second alive over the twin's", () => {
    expect(goodputOf({ tokens: 600, workerMs: 2000 }, { tokens: 600, workerMs: 1000 })).toEqual({
      share: 0.5,
      tokensPerWorkerSecond: 300,
      tokensPerWorkerSecondOfTwin: 600,
    });
  });

  test('is unknown for a run of one commit', () => {
    expect(goodputOf({ tokens: 0, workerMs: 0 }, { tokens: 600, workerMs: 1000 })).toBeNull();
    expect(goodputOf({ tokens: 600, workerMs: 2000 }, { tokens: 0, workerMs: 0 })).toBeNull();
  });
});
