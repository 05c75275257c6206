/** The verdict passes only when nothing was broken, and says each thing that was. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Evidence, type JoinSummary, judge, tallyLedger } from '../../../src/chaos/index.ts';

const NO_TIMES = { p50Ms: null, p99Ms: null, maxMs: null };
const NOBODY: JoinSummary = { begun: 0, contributed: 0, fromStart: NO_TIMES, fromHello: NO_TIMES };
const KEPT: Evidence = {
  trouble: null,
  expectedDigest: 'a'.repeat(64),
  digest: 'a'.repeat(64),
  verifyError: null,
  ledger: { steps: 4, stepsExpected: 4, lost: 0, doubled: 0 },
  recoveries: [{ kind: 'kill-worker', fired: 2, recovered: 1, p50Ms: 10, p99Ms: 10, maxMs: 10 }],
  unexpectedExits: [],
  refused: { frames: { 'of an attempt that is over': 3 }, results: 1, evictions: 2 },
  workersLost: 2,
  joined: NOBODY,
  cameBack: NOBODY,
  goodput: { share: 0.1, tokensPerWorkerSecond: 10, tokensPerWorkerSecondOfTwin: 100 },
};

describe('the verdict', () => {
  test('passes a run that kept every promise, whatever was refused or lost on the way', () => {
    expect(judge(KEPT)).toEqual({ ...KEPT, ok: true, failures: [] });
  });

  const broken: readonly (readonly [Partial<Evidence>, RegExp])[] = [
    [{ digest: 'b'.repeat(64) }, /the weights have digest b{64}, those of the undisturbed run a{64}/],
    [{ digest: null }, /the weights have digest none/],
    [{ trouble: 'no step was committed for 180 s' }, /no step was committed/],
    [{ verifyError: 'HISTORY_CORRUPT: line 3' }, /verify: HISTORY_CORRUPT: line 3/],
    [{ ledger: { steps: 3, stepsExpected: 4, lost: 8, doubled: 0 } }, /3 steps are committed instead of 4/],
    [{ ledger: { steps: 4, stepsExpected: 4, lost: 1, doubled: 0 } }, /1 micro-batches are lost/],
    [{ ledger: { steps: 4, stepsExpected: 4, lost: 0, doubled: 2 } }, /2 micro-batches are counted twice/],
    [
      {
        recoveries: [{ kind: 'kill-redis', fired: 0, recovered: 0, p50Ms: null, p99Ms: null, maxMs: null }],
      },
      /the run was over before kill-redis struck/,
    ],
    [{ unexpectedExits: ['worker-1 with code 1: out of memory'] }, /ended by itself: worker-1 with code 1/],
  ];

  test.each(broken)('fails a run with %j', (difference, said) => {
    const { ok, failures } = judge({ ...KEPT, ...difference });
    expect(ok).toBe(false);
    expect(failures.join('\n')).toMatch(said);
  });
});

describe('the ledger tally', () => {
  const exact = Array.from({ length: 5 }, (_, index) => ({ step: index + 1, slots: 8 }));

  test('of each step once is exact', () => {
    expect(tallyLedger(exact, 5, 8)).toEqual({ steps: 5, stepsExpected: 5, lost: 0, doubled: 0 });
  });

  test('counts what a left-out, a repeated and a foreign step lose and double', () => {
    fc.assert(
      fc.property(fc.nat(4), fc.nat(4), fc.integer({ min: 6, max: 9 }), (left, repeated, foreign) => {
        fc.pre(left !== repeated);
        const committed = [...exact, exact[repeated]!, { step: foreign, slots: 8 }];
        committed.splice(left, 1);
        expect(tallyLedger(committed, 5, 8)).toEqual({ steps: 6, stepsExpected: 5, lost: 8, doubled: 16 });
      }),
    );
  });

  test('sees a slot that is missing within a step', () => {
    const committed = exact.map((record) => (record.step === 2 ? { ...record, slots: 7 } : record));
    expect(tallyLedger(committed, 5, 8)).toMatchObject({ lost: 1, doubled: 0 });
  });
});
