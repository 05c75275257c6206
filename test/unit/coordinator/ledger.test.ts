/** The ledger of a step: every slot in one range at every moment, every range with one holder. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  complete,
  isComplete,
  type Ledger,
  lease,
  openLedger,
  outcomes,
  reclaim,
  waiting,
} from '../../../src/coordinator/ledger.ts';
import { resultsOf } from '../../support/coordinator-script.ts';

const open = () => openLedger('run', 7, 3, 8, [1, 1]);

/** Leases to a holder, which must be granted. */
function leased(ledger: Ledger, index: number, holder: string): Ledger {
  const verdict = lease(ledger, ledger.ranges[index]!.id, holder);
  if (!verdict.granted) throw new Error(verdict.reason);
  return verdict.ledger;
}

function computed(ledger: Ledger, index: number): Ledger {
  const range = ledger.ranges[index]!;
  return complete(ledger, range.id, range.holder!, resultsOf(range)) ?? expect.fail('refused');
}

function slotsOf(ledger: Ledger): number[] {
  return ledger.ranges.flatMap(({ first, count }) =>
    Array.from({ length: count }, (_, place) => first + place),
  );
}

const ALL = [0, 1, 2, 3, 4, 5, 6, 7];
const reasonOf = (verdict: ReturnType<typeof lease>) => (verdict.granted ? 'granted' : verdict.reason);

describe('a lease', () => {
  test('is granted once, and again to who holds it', () => {
    const ledger = leased(open(), 0, 'a');
    const { id } = ledger.ranges[0]!;
    expect(lease(ledger, id, 'a')).toEqual({ granted: true, ledger });
    expect(reasonOf(lease(ledger, id, 'b'))).toBe('another worker holds the job');
    expect(waiting(ledger).map((range) => range.first)).toEqual([4]);
  });

  test('is denied for jobs of no plan and for what is computed', () => {
    const ledger = computed(leased(open(), 0, 'a'), 0);
    expect(reasonOf(lease(ledger, 'run-7-3-9-0-4', 'a'))).toBe('the job belongs to no current plan');
    expect(reasonOf(lease(ledger, ledger.ranges[0]!.id, 'a'))).toBe('the job is computed already');
  });

  test('changes nothing in the ledger it was asked of', () => {
    const ledger = open();
    leased(ledger, 0, 'a');
    expect(ledger).toEqual(open());
  });
});

describe('a completion', () => {
  test('is taken from the holder only, once, and for exactly its slots', () => {
    const ledger = leased(open(), 0, 'a');
    const { id } = ledger.ranges[0]!;
    const results = resultsOf({ first: 0, count: 4 });
    expect(complete(ledger, id, 'b', results)).toBeNull();
    expect(complete(open(), id, 'a', results)).toBeNull();
    expect(complete(ledger, 'run-7-3-0-1-4', 'a', results)).toBeNull();
    expect(complete(ledger, id, 'a', results.slice(1))).toBeNull();
    expect(complete(ledger, id, 'a', resultsOf({ first: 1, count: 4 }))).toBeNull();
    expect(complete(ledger, id, 'a', [...results].reverse())).toBeNull();
    const done = complete(ledger, id, 'a', results)!;
    expect(complete(done, id, 'a', results)).toBeNull();
    expect(isComplete(done)).toBe(false);
  });

  test('of every range gives each slot’s result with its holder, in slot order', () => {
    const ledger = computed(computed(leased(leased(open(), 0, 'b'), 1, 'a'), 1), 0);
    expect(isComplete(ledger)).toBe(true);
    expect(outcomes(ledger)).toEqual(
      resultsOf({ first: 0, count: 8 }).map((result) => ({ holder: result.slot < 4 ? 'b' : 'a', result })),
    );
  });

  test('is asserted before outcomes are read', () => {
    expect(() => outcomes(leased(open(), 0, 'a'))).toThrow('is not computed');
  });
});

describe('reclaiming', () => {
  test('plans a lost worker’s slots anew under new names, computed or not, and leaves the survivors theirs', () => {
    const before = computed(leased(leased(open(), 0, 'a'), 1, 'b'), 0);
    const { ledger, reopened } = reclaim(before, 8, (holder) => holder === 'a', [1]);
    expect(slotsOf(ledger).sort()).toEqual(ALL);
    expect(reopened.map(({ first, count, holder, results }) => ({ first, count, holder, results }))).toEqual([
      { first: 0, count: 4, holder: null, results: null },
    ]);
    expect(reopened[0]!.id).not.toBe(before.ranges[0]!.id);
    expect(reopened[0]!.job.generation).toBe(8);
    expect(ledger.ranges.find(({ first }) => first === 4)).toEqual(before.ranges[1]);
    // The dead worker's job, handed out again by the queue, is void.
    expect(reasonOf(lease(ledger, before.ranges[0]!.id, 'b'))).toBe('the job belongs to no current plan');
  });

  test('cuts the slots for those who are left', () => {
    const both = leased(leased(open(), 0, 'a'), 1, 'b');
    const { reopened } = reclaim(both, 8, (holder) => holder === 'a', [1, 1]);
    expect(reopened.map(({ first, count }) => [first, count])).toEqual([
      [0, 2],
      [2, 1],
      [3, 1],
    ]);
  });

  test('plans what waits anew as well: the lost worker may have taken its job without a word', () => {
    const before = leased(open(), 0, 'a');
    const { ledger, reopened } = reclaim(before, 8, (holder) => holder === 'b', [1]);
    expect(reopened.map(({ first, count }) => [first, count])).toEqual([[4, 4]]);
    expect(slotsOf(ledger).sort()).toEqual(ALL);
    expect(reasonOf(lease(ledger, before.ranges[1]!.id, 'a'))).toBe('the job belongs to no current plan');
  });

  test('with every range held by survivors changes nothing', () => {
    const ledger = leased(leased(open(), 0, 'a'), 1, 'c');
    expect(reclaim(ledger, 8, (holder) => holder === 'b', [1])).toEqual({ ledger, reopened: [] });
  });
});

test('a step planned anew in another generation shares no job name with its first plan', () => {
  const ids = new Set(open().ranges.map(({ id }) => id));
  for (const { id } of openLedger('run', 8, 3, 8, [1, 1]).ranges) expect(ids.has(id)).toBe(false);
});

test('whatever happens, the ranges hold every slot exactly once and names are never used twice', () => {
  const actions = fc.array(
    fc.record({
      kind: fc.constantFrom('lease', 'complete', 'lose'),
      worker: fc.constantFrom('a', 'b', 'c'),
      pick: fc.nat(100),
    }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 24 }), actions, (microBatches, steps) => {
      let ledger = openLedger('run', 1, 1, microBatches, [1, 2, 3]);
      let generation = 1;
      const named = new Set(ledger.ranges.map(({ id }) => id));
      for (const { kind, worker, pick } of steps) {
        const range = ledger.ranges[pick % ledger.ranges.length]!;
        if (kind === 'lease') {
          const verdict = lease(ledger, range.id, worker);
          expect(verdict.granted).toBe(
            range.results === null && (range.holder === null || range.holder === worker),
          );
          if (verdict.granted) ledger = verdict.ledger;
        } else if (kind === 'complete') {
          const next = complete(ledger, range.id, worker, resultsOf(range));
          expect(next !== null).toBe(range.holder === worker && range.results === null);
          ledger = next ?? ledger;
        } else {
          generation += 1;
          const result = reclaim(ledger, generation, (holder) => holder === worker, [1, 1]);
          ledger = result.ledger;
          for (const { id } of result.reopened) {
            expect(named.has(id)).toBe(false);
            named.add(id);
          }
          expect(ledger.ranges.some(({ holder }) => holder === worker)).toBe(false);
        }
        expect(slotsOf(ledger).sort((a, b) => a - b)).toEqual(
          Array.from({ length: microBatches }, (_, slot) => slot),
        );
      }
    }),
    { numRuns: 200 },
  );
});
