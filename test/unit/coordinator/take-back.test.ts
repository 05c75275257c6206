/**
 * Which slots are taken back from whom: the policy by itself, whole steps played through with it on
 * workers of any speeds, and what the machine makes of it.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  complete,
  handBack,
  isComplete,
  isOpen,
  type Ledger,
  lease,
  noteTakingBack,
  openLedger,
  waiting,
} from '../../../src/coordinator/ledger.ts';
import { type Hand, planTakeBack } from '../../../src/coordinator/take-back.ts';
import { jobId } from '../../../src/protocol/index.ts';
import { CoordinatorScript, resultsOf } from '../../support/coordinator-script.ts';

const SLOT_MS = 100;
/** `speedup` 1 computes a slot in SLOT_MS. */
const hand = (incarnation: string, speedup = 1, takesSlots = true): Hand => ({
  ...{ incarnation, speed: (1000 / SLOT_MS) * speedup, takesSlots },
});

/** A step of one range for each holder, of so many slots each, of which some are computed. */
function ledgerOf(
  parts: readonly { holder: string | null; count: number; done: number; sinceMs?: number }[],
): Ledger {
  let first = 0;
  const ranges = parts.map(({ holder, count, done, sinceMs = 0 }, plan) => {
    const job = { run: 'run', generation: 1, step: 1, plan, first, count };
    first += count;
    const results = resultsOf({ first: job.first, count: done });
    return { first: job.first, count, job, id: jobId(job), holder, results, sinceMs, takingBack: false };
  });
  return { run: 'run', step: 1, microBatches: first, plan: parts.length, lostMs: {}, ranges };
}

describe('the policy', () => {
  test('moves slots that are not begun to who has nothing to do, so that both end together', () => {
    const ledger = ledgerOf([
      { holder: 'slow', count: 6, done: 1 },
      { holder: 'idle', count: 2, done: 2 },
    ]);
    const found = planTakeBack(ledger, [hand('slow'), hand('idle')], 0)!;
    // Five are left; two and a begun one stay.
    expect(found).toMatchObject({ range: { holder: 'slow' }, first: 4, withoutMs: 500, withMs: 300 });
  });

  test('takes a slot that is begun from a worker ten times slower', () => {
    const ledger = ledgerOf([
      { holder: 'slow', count: 1, done: 0 },
      { holder: 'fast', count: 7, done: 7 },
    ]);
    const found = planTakeBack(ledger, [hand('slow', 0.1), hand('fast')], SLOT_MS)!;
    expect(found).toMatchObject({ range: { holder: 'slow' }, first: 0, withoutMs: 900, withMs: 100 });
  });

  test('takes it from one that has stopped making progress, whatever its speed was', () => {
    const ledger = ledgerOf([
      { holder: 'stuck', count: 1, done: 0 },
      { holder: 'idle', count: 1, done: 1 },
    ]);
    const workers = [hand('stuck'), hand('idle')];
    expect(planTakeBack(ledger, workers, SLOT_MS * 1.5)).toBeNull();
    expect(planTakeBack(ledger, workers, SLOT_MS * 3)).toMatchObject({ first: 0 });
  });

  test('leaves a slot that is begun with a holder who is not twice as late', () => {
    const ledger = ledgerOf([
      { holder: 'slower', count: 1, done: 0 },
      { holder: 'idle', count: 1, done: 1 },
    ]);
    expect(planTakeBack(ledger, [hand('slower', 0.6), hand('idle')], 0)).toBeNull();
  });

  test('leaves a slot that is slow wherever it is computed with a holder in the end', () => {
    const workers = [hand('a'), hand('b')];
    /** Of the slot, on either of the two. */
    const neededMs = 30 * SLOT_MS;
    let ledger = openLedger('run', 1, 1, 1, [1]);
    const begunMs: number[] = [];
    let endMs: number | null = null;
    for (let nowMs = 0; endMs === null && nowMs < 1000 * SLOT_MS; nowMs += SLOT_MS / 4) {
      const [next] = waiting(ledger);
      if (next !== undefined) {
        const verdict = lease(ledger, next.id, begunMs.length % 2 === 0 ? 'a' : 'b', nowMs);
        if (verdict.granted) ledger = verdict.ledger;
        begunMs.push(nowMs);
      }
      if (nowMs - begunMs.at(-1)! >= neededMs) endMs = nowMs;
      const found = planTakeBack(ledger, workers, nowMs);
      if (endMs !== null || found === null) continue;
      ledger = noteTakingBack(ledger, found.range.id);
      ledger = handBack(ledger, found.range.id, found.range.holder!, found.first, 1, [1], nowMs)!.ledger;
    }
    // Each is given twice as long as the one before.
    expect(begunMs.length).toBeLessThanOrEqual(6);
    expect(endMs).toBeLessThan(3 * neededMs);
  });

  test('of several takes the one that the step waits for longest', () => {
    const ledger = ledgerOf([
      { holder: 'a', count: 4, done: 0 },
      { holder: 'b', count: 8, done: 0 },
      { holder: 'idle', count: 1, done: 1 },
    ]);
    const found = planTakeBack(ledger, [hand('a'), hand('b'), hand('idle')], 0);
    expect(found).toMatchObject({ range: { holder: 'b' } });
  });

  test('does nothing while there are ranges in the queue, or an answer is due', () => {
    const workers = [hand('slow'), hand('idle')];
    const waits = ledgerOf([
      { holder: 'slow', count: 8, done: 0 },
      { holder: null, count: 1, done: 0 },
    ]);
    expect(planTakeBack(waits, workers, 0)).toBeNull();
    const ledger = ledgerOf([{ holder: 'slow', count: 8, done: 0 }]);
    expect(planTakeBack(ledger, workers, 0)).not.toBeNull();
    expect(planTakeBack(noteTakingBack(ledger, ledger.ranges[0]!.id), workers, 0)).toBeNull();
  });

  test('does nothing for a gain that messages would eat up', () => {
    const quick = (incarnation: string): Hand => ({ incarnation, speed: 1000, takesSlots: true });
    const ledger = ledgerOf([{ holder: 'slow', count: 3, done: 0 }]);
    expect(planTakeBack(ledger, [quick('slow'), quick('idle')], 0)).toBeNull();
  });

  const situations = fc
    .record({
      parts: fc.array(
        fc.record({
          holder: fc.constantFrom('a', 'b', 'c', 'd'),
          count: fc.integer({ min: 1, max: 8 }),
          done: fc.nat(8),
          sinceMs: fc.nat(1000),
        }),
        { minLength: 1, maxLength: 6 },
      ),
      speeds: fc.array(fc.double({ min: 0.01, max: 1000, noNaN: true }), { minLength: 4, maxLength: 4 }),
      takesSlots: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      nowMs: fc.integer({ min: 1000, max: 5000 }),
    })
    .map(({ parts, speeds, takesSlots, nowMs }) => ({
      ledger: ledgerOf(parts.map((part) => ({ ...part, done: Math.min(part.done, part.count) }))),
      workers: ['a', 'b', 'c', 'd'].map((incarnation, place) => ({
        ...{ incarnation, speed: speeds[place]!, takesSlots: takesSlots[place]! },
      })),
      nowMs,
    }));

  test('proposes open slots only, to a worker that is free to take them, and with a gain', () => {
    let numFound = 0;
    fc.assert(
      fc.property(situations, ({ ledger, workers, nowMs }) => {
        const found = planTakeBack(ledger, workers, nowMs);
        const busy = new Set(ledger.ranges.filter(isOpen).map(({ holder }) => holder));
        const free = workers.filter(({ incarnation, takesSlots }) => takesSlots && !busy.has(incarnation));
        if (found === null) return;
        numFound += 1;
        const { range, first, withoutMs, withMs } = found;
        expect(free).not.toEqual([]);
        expect(first).toBeGreaterThanOrEqual(range.first + range.results.length);
        expect(first).toBeLessThan(range.first + range.count);
        expect(withMs).toBeLessThan(withoutMs);
        // No less than it takes the best of those who are free.
        const numTaken = range.first + range.count - first;
        const best = Math.max(...free.map(({ speed }) => speed));
        expect(withMs * (1 + 1e-9)).toBeGreaterThanOrEqual((numTaken * 1000) / best);
        const { ledger: after } = handBack(ledger, range.id, range.holder!, first, 2, [1], nowMs)!;
        expect(waiting(after).reduce((sum, { count }) => sum + count, 0)).toBe(numTaken);
      }),
      { numRuns: 2000 },
    );
    expect(numFound).toBeGreaterThan(200);
  });
});

/**
 * A step from plan to end on workers of given speeds, with messages that take no time: who is free takes
 * from the queue, each slot is settled by whom the gate lets. Returns when it ended and what was moved.
 */
function playStep(
  microBatches: number,
  speeds: readonly number[],
  planned: readonly number[],
  moves: boolean,
) {
  const workers = speeds.map((speed, rank) => ({ incarnation: `w${rank}`, speed, takesSlots: true }));
  let ledger = openLedger('run', 1, 1, microBatches, planned);
  let nowMs = 0;
  const moved: number[] = [];
  /** Until when devices are at a slot that was taken back after it was begun. */
  const idleFromMs = new Map<string, number>();
  const free = () => {
    const busy = new Set(ledger.ranges.filter(isOpen).map(({ holder }) => holder));
    return workers.filter(
      ({ incarnation }) => !busy.has(incarnation) && (idleFromMs.get(incarnation) ?? 0) <= nowMs,
    );
  };
  const slotMsOf = (holder: string) =>
    1000 / workers.find(({ incarnation }) => incarnation === holder)!.speed;
  const deal = () => {
    for (const { incarnation } of free()) {
      const [next] = waiting(ledger);
      if (next === undefined) return;
      const verdict = lease(ledger, next.id, incarnation, nowMs);
      if (verdict.granted) ledger = verdict.ledger;
    }
  };
  for (let turns = 0; !isComplete(ledger); turns += 1) {
    expect(turns).toBeLessThan(10_000);
    deal();
    // What the coordinator would know: the true speeds, and when each slot was begun.
    const found = moves ? planTakeBack(ledger, workers, nowMs) : null;
    if (found !== null) {
      const { range, first } = found;
      moved.push(first);
      const isBegun = first === range.first + range.results.length;
      if (isBegun) idleFromMs.set(range.holder!, range.sinceMs + slotMsOf(range.holder!));
      ledger = noteTakingBack(ledger, range.id);
      ledger = handBack(ledger, range.id, range.holder!, first, 1, planned, nowMs)!.ledger;
      continue;
    }
    const ends = ledger.ranges
      .filter(isOpen)
      .map((range) => ({ range, atMs: range.sinceMs + slotMsOf(range.holder!) }));
    const idle = [...idleFromMs.values()].filter((atMs) => atMs > nowMs);
    nowMs = Math.min(...ends.map(({ atMs }) => atMs), ...idle);
    const next = ends.find(({ atMs }) => atMs === nowMs);
    if (next === undefined) continue;
    const { id, holder, first, results } = next.range;
    ledger = complete(ledger, id, holder!, resultsOf({ first: first + results.length, count: 1 }), nowMs)!;
  }
  return { endMs: nowMs, moved };
}

describe('a whole step', () => {
  test('on workers of equal speed moves no slot where the plan is even', () => {
    for (const numWorkers of [1, 2, 3, 4, 8]) {
      const speeds = new Array<number>(numWorkers).fill(10);
      const { moved } = playStep(numWorkers * 4, speeds, speeds, true);
      expect(moved, `${numWorkers} workers`).toEqual([]);
    }
  });

  test('ends no later for slots that were moved, whatever the speeds, and moves few', () => {
    const speed = fc.double({ min: 0.5, max: 50, noNaN: true });
    const cases = fc.record({
      microBatches: fc.integer({ min: 1, max: 24 }),
      speeds: fc.array(speed, { minLength: 1, maxLength: 6 }),
    });
    fc.assert(
      fc.property(cases, ({ microBatches, speeds }) => {
        const planned = speeds.map(() => 10);
        const with_ = playStep(microBatches, speeds, planned, true);
        const without = playStep(microBatches, speeds, planned, false);
        expect(with_.endMs).toBeLessThanOrEqual(without.endMs + 1e-6);
        expect(with_.moved.length).toBeLessThanOrEqual(microBatches * speeds.length);
      }),
      { numRuns: 300 },
    );
  });

  test('with one worker ten times slower than the plan takes it for hardly waits for it', () => {
    const speeds = [1, 10, 10, 10];
    const planned = [10, 10, 10, 10];
    const without = playStep(16, speeds, planned, false).endMs;
    const with_ = playStep(16, speeds, planned, true).endMs;
    // 16 slots at 31 a second take 516 ms at best.
    expect(without).toBeGreaterThan(1000);
    expect(with_).toBeLessThan(700);
  });
});

describe('the machine', () => {
  /** `a` has computed all of its slots at `nowMs`, and `b` none of its two. */
  function idling(nowMs: number): CoordinatorScript {
    const script = new CoordinatorScript({ minWorkers: 2, totalSteps: 9, heartbeatLimitMs: 1e6 });
    script.enter('a', 'b');
    const [mine, theirs] = script.queue.splice(0);
    script.lease('a', mine!);
    script.lease('b', theirs!);
    script.tick(nowMs);
    script.compute('a', mine!, resultsOf(mine!), 2 * SLOT_MS);
    return script;
  }

  test('asks the holder once, and does not plan the slots before the answer', () => {
    const script = idling(SLOT_MS);
    expect(script.kinds).toEqual(['takeBack>b']);
    expect(script.told('b', 'takeBack')).toMatchObject([{ job: 'run-2-1-0-2-2', first: 3, step: 1 }]);
    script.tick(SLOT_MS * 1.5);
    expect(script.kinds).toEqual([]);
    expect(script.queue).toEqual([]);
  });

  test('has who is free compute what comes back, and takes the rest from its holder', () => {
    const script = idling(SLOT_MS);
    const job = { run: 'run', generation: 2, step: 1, plan: 0, first: 2, count: 2 };
    script.handBack('b', job, 3);
    expect(script.kinds).toEqual(['enqueue']);
    script.compute('b', job, resultsOf({ first: 2, count: 1 }));
    script.computeAll('a');
    expect(script.told('a', 'reduce')).toMatchObject([{ slotOwners: [0, 0, 1, 0] }]);
  });

  test('starts the reduction when the answer is that all was in already', () => {
    const script = idling(SLOT_MS);
    const job = { run: 'run', generation: 2, step: 1, plan: 0, first: 2, count: 2 };
    script.compute('b', job);
    expect(script.kinds).toEqual(['members>a', 'members>b', 'reduce>a', 'reduce>b']);
    script.handBack('b', job, 4);
    expect(script.kinds).toEqual([]);
  });

  test('names a straggler once for as long as it is one', () => {
    const script = idling(SLOT_MS * 10);
    expect(script.effects.filter(({ type }) => type === 'note')).toMatchObject([
      { event: 'straggler', level: 'warn', fields: { worker: 'b', step: 1 } },
    ]);
    expect(script.state.workers.get('b')).toMatchObject({ isStraggler: true });
    const job = { run: 'run', generation: 2, step: 1, plan: 0, first: 2, count: 2 };
    script.handBack('b', job, 3);
    script.computeAll('a');
    // What is begun is asked for as well, and it has been named.
    expect(script.kinds).toContain('takeBack>b');
    expect(script.notes).not.toContain('straggler');
  });

  test('has nothing taken back for a worker that drains or lags behind', () => {
    const script = new CoordinatorScript({ minWorkers: 2, totalSteps: 9, heartbeatLimitMs: 1e6 });
    script.enter('a', 'b');
    const [mine, theirs] = script.queue.splice(0);
    script.lease('a', mine!);
    script.lease('b', theirs!);
    script.say('a', { type: 'draining' });
    script.tick(SLOT_MS * 10);
    script.compute('a', mine!, resultsOf(mine!), 2 * SLOT_MS);
    expect(script.kinds).toEqual([]);
  });
});
