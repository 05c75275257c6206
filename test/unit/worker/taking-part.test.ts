/** A worker's part in a step, event by event: jobs and their slots, reductions, commits, snapshots. */
import { describe, expect, test } from 'vitest';
import { InvariantError } from '../../../src/base/index.ts';
import { jobId } from '../../../src/protocol/index.ts';
import { type About, digestAt, jobOf, LifecycleScript, MEMBER } from '../../support/lifecycle-script.ts';

const entered = (step = 0) => new LifecycleScript().enter(step);

/** A worker that has voted for step 1. */
function voted(): LifecycleScript {
  const script = entered();
  script.compute(jobOf(1));
  script.reduce();
  script.reduced();
  return script;
}

const applyOf = (step: number, from: 'reduced' | 'setAside' = 'reduced') => ({
  type: 'apply',
  update: { kind: 'apply', step, tokens: 7, learningRate: 0.5, from },
});

describe('a job', () => {
  const job = jobOf(1, 2, 2);

  test('is asked for, computed when granted, told slot by slot, and followed by the next', () => {
    const script = entered();
    expect(script.lease(job)).toMatchObject([
      { type: 'send', message: { type: 'leased', job: jobId(job), first: 2, count: 2, step: 1 } },
    ]);
    expect(script.told({ type: 'granted', job: jobId(job), first: job.first })).toEqual([
      { type: 'compute', id: jobId(job), job },
    ]);
    for (const slot of [2, 3]) {
      script.slot(job, slot);
      const results = [{ slot, tokens: 3, lossSum: 1.5 }];
      expect(script.effects).toMatchObject([
        { type: 'send', message: { type: 'computed', job: jobId(job), results, milliseconds: 9, step: 1 } },
      ]);
    }
    expect(script.ended(job)).toEqual([{ type: 'pullJob' }]);
  });

  test('may be granted with other slots, as many', () => {
    const script = entered();
    script.lease(job);
    const other = { ...job, first: 6 };
    expect(script.told({ type: 'granted', job: jobId(job), first: 6 })).toEqual([
      { type: 'compute', id: jobId(job), job: other },
    ]);
    // What is handed back is of those.
    script.slot(job, 6);
    script.told({ type: 'drain' });
    expect(script.effects.at(-1)).toEqual({ type: 'limitJob', id: jobId(job), first: 8 });
  });

  test('is computed once, however often it is granted', () => {
    const script = entered();
    script.begin(job);
    expect(script.told({ type: 'granted', job: jobId(job), first: job.first })).toEqual([]);
    script.ended(job);
    expect(script.told({ type: 'granted', job: jobId(job), first: job.first })).toEqual([]);
    expect(script.ended(job)).toEqual([]);
  });

  test('that is denied is given back, and the next one pulled', () => {
    const script = entered();
    script.lease(job);
    expect(script.told({ type: 'denied', job: jobId(job), reason: 'void' })).toEqual([
      { type: 'releaseJob', id: jobId(job) },
      { type: 'pullJob' },
    ]);
    expect(script.told({ type: 'denied', job: jobId(job), reason: 'void' })).toEqual([]);
  });

  test('that was never asked for is not computed', () => {
    expect(entered().told({ type: 'granted', job: 'run-1-1-0-9-1', first: 9 })).toEqual([]);
  });

  test('of another step, though granted, is handed back', () => {
    const script = entered();
    script.lease(jobOf(5));
    script.told({ type: 'granted', job: jobId(jobOf(5)), first: 0 }, { step: 5 });
    expect(script.kinds).toEqual(['send:handedBack', 'pullJob']);
    expect(script.effects[0]).toMatchObject({ message: { first: 0, step: 5 } });
  });

  test('whose answer crosses a commit still has the next one pulled', () => {
    // A void job of a lost worker, handed out again by the queue just before the step commits.
    const script = voted();
    const stale = jobOf(1, 4, 2);
    script.lease(stale);
    script.commit();
    expect(script.effects).toEqual([
      { type: 'committed', step: 1 },
      { type: 'releaseJob', id: jobId(jobOf(1)) },
      applyOf(1),
    ]);
    script.told({ type: 'denied', job: jobId(stale), reason: 'void' });
    expect(script.kinds).toEqual(['releaseJob', 'pullJob']);
  });

  test('of the next step may come before the commit of this one, and keeps its place', () => {
    const script = voted();
    const next = jobOf(2);
    script.lease(next);
    script.commit();
    expect(script.told({ type: 'granted', job: jobId(next), first: next.first }, { step: 2 })).toEqual([
      { type: 'compute', id: jobId(next), job: next },
    ]);
  });
});

describe('slots that are taken back', () => {
  const job = jobOf(1, 2, 4);

  test('are kept out by the gate, whose word is the answer', () => {
    const script = entered();
    script.begin(job);
    expect(script.told({ type: 'takeBack', job: jobId(job), first: 3 })).toEqual([
      { type: 'limitJob', id: jobId(job), first: 3 },
    ]);
    // The device was quicker than the message: slot 3 is in.
    script.event({ type: 'jobLimited', id: jobId(job), first: 4 });
    expect(script.effects).toMatchObject([
      { message: { type: 'handedBack', job: jobId(job), first: 4, step: 1 } },
    ]);
  });

  test('of a job that is not held are no matter', () => {
    const script = entered();
    expect(script.told({ type: 'takeBack', job: jobId(job), first: 3 })).toEqual([]);
    expect(script.event({ type: 'jobLimited', id: jobId(job), first: 3 })).toEqual([]);
  });

  test('let the job end early; then the next is pulled', () => {
    const script = entered();
    script.begin(job);
    script.slot(job, 2);
    script.told({ type: 'takeBack', job: jobId(job), first: 3 });
    script.event({ type: 'jobLimited', id: jobId(job), first: 3 });
    expect(script.ended(job)).toEqual([{ type: 'pullJob' }]);
    // Its place in the queue is kept until the step is over.
    script.reduce();
    script.reduced();
    script.commit();
    expect(script.effects).toContainEqual({ type: 'releaseJob', id: jobId(job) });
  });
});

describe('a reduction', () => {
  test('is started, finished and voted on with the digest of the parameters it started from', () => {
    const script = entered();
    script.compute(jobOf(1));
    expect(script.reduce()).toMatchObject([{ type: 'startReduction', order: { step: 1, attempt: 1 } }]);
    expect(script.reduced()).toEqual([
      {
        type: 'vote',
        message: {
          type: 'vote',
          generation: 1,
          step: 1,
          attempt: 1,
          parametersDigest: digestAt(0),
          gradientDigest: 'e'.repeat(32),
        },
      },
    ]);
  });

  test('of another step or an older generation is not started', () => {
    const script = entered();
    expect(script.reduce({ step: 2 })).toEqual([]);
    script.told({ type: 'denied', job: 'x', reason: '' }, { generation: 4 });
    expect(script.reduce({ generation: 3 })).toEqual([]);
    expect(script.reduce({ generation: 4 })).toHaveLength(1);
  });

  test('is among the members that were told last, in all attempts and steps of their generation', () => {
    const script = entered();
    script.told({ type: 'members', members: [MEMBER] });
    const order = (about: About) => script.told({ type: 'reduce', slotOwners: [0] }, about);
    expect(order({})).toMatchObject([{ order: { members: [MEMBER], slotOwners: [0] } }]);
    expect(order({ attempt: 2 })[1]).toMatchObject({ order: { attempt: 2, members: [MEMBER] } });
    script.reduced({ attempt: 2 });
    script.commit({ attempt: 2 });
    script.applied(1);
    expect(order({ step: 2 })).toMatchObject([{ order: { step: 2, members: [MEMBER] } }]);
    const joiner = { ...MEMBER, incarnation: 'other', worker: 'worker-1' };
    script.told({ type: 'members', members: [MEMBER, joiner] }, { generation: 2, step: 2 });
    // Those of an older generation that come late are not believed.
    script.told({ type: 'members', members: [joiner] }, { step: 2 });
    expect(order({ generation: 2, step: 2, attempt: 2 })[1]).toMatchObject({
      order: { generation: 2, members: [MEMBER, joiner] },
    });
  });

  test('by an order of a generation whose members were not told breaks what the links promise', () => {
    const script = entered();
    script.told({ type: 'members', members: [MEMBER] });
    expect(() => script.told({ type: 'reduce', slotOwners: [0] }, { generation: 2 })).toThrow(InvariantError);
  });

  test('that waits keeps its members', () => {
    const script = voted();
    script.commit();
    script.reduce({ step: 2 });
    const joiner = { ...MEMBER, incarnation: 'other', worker: 'worker-1' };
    script.told({ type: 'members', members: [MEMBER, joiner] }, { generation: 2, step: 2 });
    expect(script.applied(1)).toContainEqual(
      expect.objectContaining({
        type: 'startReduction',
        order: expect.objectContaining({ members: [MEMBER] }),
      }),
    );
  });

  test('that is ordered again takes the place of the one before', () => {
    const script = entered();
    script.reduce();
    script.reduce({ attempt: 2 });
    expect(script.kinds).toEqual(['abortReduction', 'startReduction']);
    // What the first one came to is nothing any more.
    expect(script.reduced({ attempt: 1 })).toEqual([]);
    expect(script.event({ type: 'reductionFailed', generation: 1, attempt: 1, reason: 'x' })).toEqual([]);
    expect(script.reduced({ attempt: 2 })).toHaveLength(1);
  });

  test('that fails is reported with its attempt', () => {
    const script = entered();
    script.reduce({ attempt: 3 });
    script.event({ type: 'reductionFailed', generation: 1, attempt: 3, reason: 'damaged' });
    expect(script.effects).toMatchObject([
      { type: 'send', message: { type: 'reduceFailed', attempt: 3, generation: 1, reason: 'damaged' } },
    ]);
  });

  test('is aborted once, and its late end says nothing', () => {
    const script = entered();
    script.reduce();
    expect(script.told({ type: 'abort', reason: 'lost' })).toEqual([{ type: 'abortReduction' }]);
    expect(script.told({ type: 'abort', reason: 'lost' })).toEqual([]);
    expect(script.reduced()).toEqual([]);
  });

  test('waits for the update that still reads the gradient where the next would be reduced', () => {
    // A worker without slots of step 2 is asked to reduce it while it still applies step 1.
    const script = voted();
    script.commit();
    expect(script.reduce({ step: 2 })).toEqual([]);
    script.applied(1);
    expect(script.effects).toMatchObject([{ type: 'startReduction', order: { step: 2 } }]);
    expect(script.reduced()).toMatchObject([{ message: { step: 2, parametersDigest: digestAt(1) } }]);
  });

  test('that waits can be aborted, or ordered again', () => {
    const script = voted();
    script.commit();
    script.reduce({ step: 2 });
    expect(script.told({ type: 'abort', reason: 'lost' }, { step: 2 })).toEqual([]);
    script.reduce({ step: 2, attempt: 2, generation: 2 });
    script.applied(1);
    expect(script.effects[0]).toMatchObject({
      type: 'startReduction',
      order: { attempt: 2, generation: 2 },
    });
    const aborted = voted();
    aborted.commit();
    aborted.reduce({ step: 2 });
    aborted.told({ type: 'abort', reason: 'lost' }, { step: 2 });
    aborted.applied(1);
    expect(aborted.kinds).not.toContain('startReduction');
  });
});

describe('a commit', () => {
  test('gives the jobs of the step back and applies the update', () => {
    const script = entered();
    script.compute(jobOf(1, 0, 2));
    script.compute(jobOf(1, 2, 2));
    script.reduce();
    script.reduced();
    expect(script.commit()).toEqual([
      { type: 'committed', step: 1 },
      { type: 'releaseJob', id: jobId(jobOf(1, 0, 2)) },
      { type: 'releaseJob', id: jobId(jobOf(1, 2, 2)) },
      applyOf(1),
    ]);
    expect(script.commit()).toEqual([]);
  });

  test('is believed only of an attempt that this worker has voted for', () => {
    const script = entered();
    expect(script.commit()).toEqual([]);
    script.reduce();
    expect(script.commit()).toEqual([]);
    script.reduced();
    expect(script.commit({ step: 2 })).toEqual([]);
    script.told({ type: 'abort', reason: 'lost' });
    expect(script.commit()).toEqual([]);
  });
});

describe('a skipped step', () => {
  const job = jobOf(1, 0, 4);
  const skipOf = (step: number) => ({ type: 'apply', update: { kind: 'skip', step } });

  test('ends what is done for it, forgets its fragments, and leaves the parameters', () => {
    const script = entered();
    script.begin(job);
    script.slot(job, 0);
    expect(script.skip()).toEqual([
      { type: 'limitJob', id: jobId(job), first: 0 },
      { type: 'committed', step: 1 },
      { type: 'releaseJob', id: jobId(job) },
    ]);
    // Once the device has let go.
    expect(script.ended(job)).toEqual([skipOf(1), { type: 'pullJob' }]);
    script.event({ type: 'applied', step: 1, parametersDigest: digestAt(0) });
    script.reduce({ step: 2 });
    expect(script.reduced()).toMatchObject([{ message: { step: 2, parametersDigest: digestAt(0) } }]);
  });

  test('ends its reduction, voted for or not', () => {
    const script = voted();
    script.skip();
    expect(script.kinds).toEqual(['abortReduction', 'committed', 'releaseJob', 'apply']);
    expect(script.effects[3]).toEqual(skipOf(1));
    expect(script.commit()).toEqual([]);
  });

  test('is only the one under way', () => {
    const script = entered(3);
    expect(script.skip({ step: 3 })).toEqual([]);
    expect(script.skip({ step: 5 })).toEqual([]);
    expect(script.skip({ step: 4 })).not.toEqual([]);
    expect(script.skip({ step: 4 })).toEqual([]);
  });

  test('is told by whoever finds the gradient not finite, with its step and slot', () => {
    const script = entered();
    script.event({ type: 'notFinite', step: 1, slot: 3, reason: 'NaN' });
    expect(script.effects).toMatchObject([
      { message: { type: 'notFinite', step: 1, slot: 3, reason: 'NaN' } },
    ]);
  });
});

describe('a snapshot', () => {
  const snapshot = { type: 'snapshot', offset: 10, length: 20 } as const;
  const order = (step: number, attempt: number) => ({ step, attempt, offset: 10, length: 20 });
  const uploadOf = (step: number, attempt: number) => ({
    ...{ type: 'upload', order: order(step, attempt), parametersDigest: digestAt(step) },
  });

  test('of a state at rest is uploaded at once, and answered for its try, with what it was cut from', () => {
    const script = entered(3);
    script.told(snapshot, { step: 3, attempt: 5 });
    expect(script.effects).toEqual([uploadOf(3, 5)]);
    script.event({ type: 'uploaded', order: order(3, 5), parametersDigest: digestAt(3) });
    expect(script.effects).toMatchObject([
      { message: { type: 'uploaded', step: 3, attempt: 5, parametersDigest: digestAt(3) } },
    ]);
    script.event({ type: 'uploadFailed', order: order(3, 5), reason: 'full' });
    expect(script.effects).toMatchObject([
      { message: { type: 'uploadFailed', step: 3, attempt: 5, reason: 'full' } },
    ]);
  });

  test('waits for the update of its step', () => {
    const script = voted();
    script.commit();
    expect(script.told(snapshot, { step: 1, attempt: 2 })).toEqual([]);
    script.applied(1);
    expect(script.effects[0]).toEqual(uploadOf(1, 2));
    expect(script.applied(1)).toEqual([]);
  });

  test('is taken before the next reduction begins', () => {
    const script = voted();
    script.commit();
    script.told(snapshot, { step: 1, attempt: 2 });
    script.reduce({ step: 2 });
    script.applied(1);
    expect(script.kinds).toEqual(['upload', 'startReduction']);
  });

  test('of another step is not uploaded', () => {
    expect(entered(3).told(snapshot, { step: 2 })).toEqual([]);
  });
});
