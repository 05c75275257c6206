/** The ledger of a step: every slot in one range at every moment, every range with one holder. */
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
  outcomes,
  type Reopened,
  reclaim,
  waiting,
} from '../../../src/coordinator/ledger.ts';
import { placeNearHost } from '../../../src/coordinator/placement.ts';
import { resultsOf } from '../../support/coordinator-script.ts';

const open = () => openLedger('run', 7, 3, 8, [1, 1]);

/** Leases to a holder, which must be granted. */
function leased(ledger: Ledger, index: number, holder: string): Ledger {
  const verdict = lease(ledger, ledger.ranges[index]!.id, holder, 0);
  if (!verdict.granted) throw new Error(verdict.reason);
  return verdict.ledger;
}

function computed(ledger: Ledger, index: number): Ledger {
  const range = ledger.ranges[index]!;
  return complete(ledger, range.id, range.holder!, resultsOf(range), 0) ?? expect.fail('refused');
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
    expect(lease(ledger, id, 'a', 0)).toEqual({ granted: true, ledger, first: 0 });
    expect(reasonOf(lease(ledger, id, 'b', 0))).toBe('another worker holds the job');
    expect(waiting(ledger).map((range) => range.first)).toEqual([4]);
  });

  test('is denied for jobs of no plan and for what is computed', () => {
    const ledger = computed(leased(open(), 0, 'a'), 0);
    expect(reasonOf(lease(ledger, 'run-7-3-9-0-4', 'a', 0))).toBe('the job belongs to no current plan');
    const begun = leased(open(), 0, 'a');
    const { id } = begun.ranges[0]!;
    for (const after of [ledger, complete(begun, id, 'a', resultsOf({ first: 0, count: 1 }), 0)!]) {
      expect(reasonOf(lease(after, id, 'a', 0))).toBe('the job is being computed already');
    }
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
    expect(complete(ledger, id, 'b', results, 0)).toBeNull();
    expect(complete(open(), id, 'a', results, 0)).toBeNull();
    expect(complete(ledger, 'run-7-3-0-1-4', 'a', results, 0)).toBeNull();
    expect(complete(ledger, id, 'a', results.slice(1), 0)).toBeNull();
    expect(complete(ledger, id, 'a', resultsOf({ first: 1, count: 4 }), 0)).toBeNull();
    expect(complete(ledger, id, 'a', resultsOf({ first: 0, count: 5 }), 0)).toBeNull();
    expect(complete(ledger, id, 'a', [...results].reverse(), 0)).toBeNull();
    const done = complete(ledger, id, 'a', results, 0)!;
    expect(complete(done, id, 'a', results, 0)).toBeNull();
    expect(isComplete(done)).toBe(false);
  });

  test('may come in parts, in slot order, and the clock of the range starts anew with each', () => {
    let ledger = leased(open(), 0, 'a');
    const { id } = ledger.ranges[0]!;
    const results = resultsOf({ first: 0, count: 4 });
    for (const [place, result] of results.entries()) {
      expect(isOpen(ledger.ranges[0]!)).toBe(true);
      // Neither the one before nor the one after next.
      expect(complete(ledger, id, 'a', [results[place - 1] ?? results[1]!], 0)).toBeNull();
      ledger = complete(ledger, id, 'a', [result], 10 * place)!;
      expect(ledger.ranges[0]).toMatchObject({ sinceMs: 10 * place });
    }
    expect(ledger.ranges[0]!.results).toEqual(results);
    expect(isOpen(ledger.ranges[0]!)).toBe(false);
    expect(isComplete(ledger)).toBe(false);
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
      { first: 0, count: 4, holder: null, results: [] },
    ]);
    expect(reopened[0]!.id).not.toBe(before.ranges[0]!.id);
    expect(reopened[0]!.job.generation).toBe(8);
    expect(ledger.ranges.find(({ first }) => first === 4)).toEqual(before.ranges[1]);
    // The dead worker's job, handed out again by the queue, is void.
    expect(reasonOf(lease(ledger, before.ranges[0]!.id, 'b', 0))).toBe('the job belongs to no current plan');
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
    expect(reasonOf(lease(ledger, before.ranges[1]!.id, 'a', 0))).toBe('the job belongs to no current plan');
  });

  test('with every range held by survivors changes nothing', () => {
    const ledger = leased(leased(open(), 0, 'a'), 1, 'c');
    expect(reclaim(ledger, 8, (holder) => holder === 'b', [1])).toEqual({ ledger, reopened: [] });
  });
});

describe('handing back', () => {
  const handed = (ledger: Ledger, index: number, holder: string, first: number) =>
    handBack(ledger, ledger.ranges[index]!.id, holder, first, 7, [1, 1], 0);

  test('leaves the holder what it keeps, and plans the rest anew', () => {
    const before = noteTakingBack(leased(open(), 0, 'a'), open().ranges[0]!.id);
    const { ledger, reopened } = handed(before, 0, 'a', 1)!;
    expect(ledger.ranges[0]).toMatchObject({ first: 0, count: 1, holder: 'a', takingBack: false });
    expect(ledger.ranges[0]!.id).toBe(before.ranges[0]!.id);
    expect(slotsOf({ ...ledger, ranges: reopened })).toEqual([1, 2, 3]);
    for (const { holder, job } of reopened) {
      expect(holder).toBeNull();
      expect(job.plan).toBe(1);
    }
    // The slots that it keeps come in as before; not one more.
    const { id } = before.ranges[0]!;
    expect(complete(ledger, id, 'a', resultsOf({ first: 0, count: 2 }), 0)).toBeNull();
    expect(complete(ledger, id, 'a', resultsOf({ first: 0, count: 1 }), 0)).not.toBeNull();
  });

  test('of all of a range leaves nothing of it', () => {
    const before = leased(open(), 0, 'a');
    const { ledger } = handed(before, 0, 'a', 0)!;
    expect(ledger.ranges.some(({ id }) => id === before.ranges[0]!.id)).toBe(false);
    expect(slotsOf(ledger).sort()).toEqual(ALL);
  });

  test('of nothing ends the request and changes nothing else', () => {
    const before = leased(open(), 0, 'a');
    const asked = noteTakingBack(before, before.ranges[0]!.id);
    expect(asked.ranges[0]!.takingBack).toBe(true);
    expect(handed(asked, 0, 'a', 4)).toEqual({ ledger: before, reopened: [] });
  });

  test('is not taken for slots that are in, of others, or beyond the range', () => {
    const begun = leased(open(), 0, 'a');
    const { id } = begun.ranges[0]!;
    const ledger = complete(begun, id, 'a', resultsOf({ first: 0, count: 2 }), 0)!;
    for (const first of [0, 1, 5]) expect(handed(ledger, 0, 'a', first)).toBeNull();
    expect(handed(ledger, 0, 'b', 2)).toBeNull();
    expect(handBack(ledger, 'run-7-3-9-0-4', 'a', 0, 7, [1], 0)).toBeNull();
    expect(handed(ledger, 0, 'a', 2)).not.toBeNull();
  });

  test('of a range that waits, by whoever took it from the queue, is of the whole', () => {
    const ledger = open();
    // Before a grant the worker knows only what the job is named after.
    for (const first of [0, 1, 4]) {
      const { reopened } = handed(ledger, 0, 'a', first)!;
      expect(slotsOf({ ...ledger, ranges: reopened })).toEqual([0, 1, 2, 3]);
    }
  });
});

test('a step planned anew in another generation shares no job name with its first plan', () => {
  const ids = new Set(open().ranges.map(({ id }) => id));
  for (const { id } of openLedger('run', 8, 3, 8, [1, 1]).ranges) expect(ids.has(id)).toBe(false);
});

test('whatever happens, the ranges hold every slot exactly once and names are never used twice', () => {
  const actions = fc.array(
    fc.record({
      kind: fc.constantFrom('lease', 'complete', 'completeAll', 'takeBack', 'handBack', 'lose'),
      worker: fc.constantFrom('a', 'b', 'c'),
      pick: fc.nat(100),
      from: fc.nat(6),
    }),
    { maxLength: 80 },
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 24 }), actions, (microBatches, steps) => {
      let ledger = openLedger('run', 1, 1, microBatches, [1, 2, 3]);
      let generation = 1;
      const named = new Set(ledger.ranges.map(({ id }) => id));
      /** What each worker has computed and would send: no slot may ever be in two workers' sums. */
      const sums = new Map<number, string>();
      const plan = ({ ledger: next, reopened }: Reopened) => {
        ledger = next;
        for (const { id } of reopened) {
          expect(named.has(id)).toBe(false);
          named.add(id);
        }
      };
      for (const { kind, worker, pick, from } of steps) {
        const range = ledger.ranges[pick % ledger.ranges.length]!;
        const { id, first, count, results, holder } = range;
        if (kind === 'lease') {
          ledger = placeNearHost(ledger, id, (other) => other === worker);
          const verdict = lease(ledger, id, worker, 0);
          expect(verdict.granted).toBe(results.length === 0 && (holder === null || holder === worker));
          if (verdict.granted) ledger = verdict.ledger;
        } else if (kind === 'complete' || kind === 'completeAll') {
          const numNew = kind === 'complete' ? 1 : count - results.length;
          const next = first + results.length;
          const computed = resultsOf({ first: next, count: numNew });
          const after = complete(ledger, id, worker, computed, 0);
          expect(after !== null).toBe(holder === worker && results.length + numNew <= count);
          ledger = after ?? ledger;
          if (after !== null) for (const { slot } of computed) sums.set(slot, worker);
        } else if (kind === 'takeBack') {
          ledger = noteTakingBack(ledger, id);
        } else if (kind === 'handBack') {
          const result = handBack(ledger, id, worker, first + from, generation, [1, 1], 0);
          const isHolders = holder === worker && from >= results.length && from <= count;
          expect(result !== null).toBe(isHolders || holder === null);
          if (result !== null) plan(result);
        } else {
          generation += 1;
          plan(reclaim(ledger, generation, (lost) => lost === worker, [1, 1]));
          expect(ledger.ranges.some((left) => left.holder === worker)).toBe(false);
          for (const [slot, by] of sums) if (by === worker) sums.delete(slot);
        }
        expect(slotsOf(ledger).sort((a, b) => a - b)).toEqual(
          Array.from({ length: microBatches }, (_, slot) => slot),
        );
        // What is computed stays where it is: a range that was planned anew has nothing of it.
        const owners = new Map(
          ledger.ranges.flatMap((left) => left.results.map(({ slot }) => [slot, left.holder] as const)),
        );
        expect(owners).toEqual(sums);
      }
    }),
    { numRuns: 200 },
  );
});
