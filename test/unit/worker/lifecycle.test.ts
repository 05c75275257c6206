/** A worker's life, event by event: what it says, when it computes, and what leaves it unmoved. */
import { describe, expect, test } from 'vitest';
import { jobId } from '../../../src/protocol/index.ts';
import { isDeaf } from '../../../src/worker/lifecycle.ts';
import { digestAt, jobOf, LifecycleScript, WELCOME } from '../../support/lifecycle-script.ts';

const entered = (step = 0) => new LifecycleScript().enter(step);

/** A worker that has voted for step 1. */
function voted(): LifecycleScript {
  const script = entered();
  script.compute(jobOf(1));
  script.reduce();
  script.reduced();
  return script;
}

test('a worker is deaf once it has heard nothing for longer than the limit, and until it hears again', () => {
  const script = entered();
  script.event({ type: 'tick', nowMs: 1000 });
  script.told({ type: 'heartbeat' });
  script.event({ type: 'tick', nowMs: 3000 });
  expect(isDeaf(script.state, 2000)).toBe(false);
  script.event({ type: 'tick', nowMs: 3001 });
  expect(isDeaf(script.state, 2000)).toBe(true);
  script.told({ type: 'heartbeat' });
  expect(isDeaf(script.state, 2000)).toBe(false);
});

describe('coming in', () => {
  test('greets until it is welcomed, no more often than the interval', () => {
    const script = new LifecycleScript();
    expect(script.event({ type: 'tick', nowMs: 1 })).toEqual([{ type: 'sayHello' }]);
    expect(script.event({ type: 'tick', nowMs: 500 })).toEqual([]);
    expect(script.event({ type: 'tick', nowMs: 501 })).toEqual([{ type: 'sayHello' }]);
    script.told(WELCOME);
    expect(script.kinds).toEqual(['prepare']);
    expect(script.state.worker).toBe('worker-0');
    expect(script.event({ type: 'tick', nowMs: 5000 })).toEqual([]);
    expect(script.told(WELCOME)).toEqual([]);
  });

  test.each([
    [0, 'initial'],
    [7, 'checkpoint'],
  ] as const)('prepares, loads the state of step %d and pulls its first job', (step, source) => {
    const script = new LifecycleScript();
    script.told(WELCOME);
    expect(script.event({ type: 'computePrepared' })).toEqual([{ type: 'sayPrepared' }]);
    script.told({ type: 'enter', source: { kind: source } }, { step });
    expect(script.effects).toEqual([{ type: 'loadState', step, source }]);
    script.event({ type: 'stateLoaded', parametersDigest: digestAt(step) });
    expect(script.effects).toEqual([
      {
        type: 'send',
        message: { type: 'ready', generation: 0, step, attempt: 0, parametersDigest: digestAt(step) },
      },
      { type: 'pullJob' },
    ]);
  });

  test('leaves orders alone that come before it is in', () => {
    const script = new LifecycleScript();
    expect(script.reduce()).toEqual([]);
    expect(script.commit()).toEqual([]);
    expect(script.told({ type: 'enter', source: { kind: 'initial' } })).toEqual([]);
    expect(script.event({ type: 'computePrepared' })).toEqual([]);
    expect(script.event({ type: 'stateLoaded', parametersDigest: digestAt(0) })).toEqual([]);
    expect(script.lease(jobOf(1))).toEqual([]);
    expect(script.phase).toBe('greeting');
  });
});

describe('ending', () => {
  const failed = (code: string, reason: unknown) => [
    { type: 'end', ending: { kind: 'failed', code, reason } },
  ];

  test.each(['greeting', 'active'])('when it is refused while %s', (phase) => {
    const script = phase === 'active' ? entered() : new LifecycleScript();
    expect(script.told({ type: 'refused', reason: 'other run' })).toEqual(
      failed('CONNECTION_REFUSED', 'other run'),
    );
  });

  test('when it is evicted: it may come back as new', () => {
    expect(entered().told({ type: 'evicted', reason: 'no part any more' })).toEqual([
      { type: 'end', ending: { kind: 'evicted', reason: 'no part any more' } },
    ]);
  });

  test('not when it is evicted before it was welcomed: that was meant for another time', () => {
    expect(new LifecycleScript().told({ type: 'evicted', reason: 'x' })).toEqual([]);
  });

  test('when the coordinator is silent for longer than its limit, and not before', () => {
    const script = entered();
    script.event({ type: 'tick', nowMs: 9000 });
    script.told({ type: 'heartbeat' });
    expect(script.event({ type: 'tick', nowMs: 19_000 })).toEqual([]);
    expect(script.event({ type: 'tick', nowMs: 19_001 })).toEqual(
      failed('COORDINATOR_LOST', expect.stringContaining('10 s')),
    );
  });

  test('after the run’s own limit once it is configured', () => {
    const script = entered();
    script.event({ type: 'configured', coordinatorLimitMs: 100 });
    expect(script.event({ type: 'tick', nowMs: 102 })).toEqual(failed('COORDINATOR_LOST', expect.anything()));
  });

  test('when the state cannot be had', () => {
    const script = new LifecycleScript();
    expect(script.event({ type: 'stateFailed', reason: 'damaged' })).toEqual(
      failed('COORDINATOR_LOST', 'damaged'),
    );
  });

  test('politely, when asked to leave; and is deaf from then on', () => {
    const script = entered();
    script.event({ type: 'drainRequested' });
    expect(script.kinds).toEqual(['send:leaving', 'end']);
    expect(script.told({ type: 'stop', reason: 'x' })).toEqual([]);
    expect(script.event({ type: 'tick', nowMs: 1e9 })).toEqual([]);
    expect(entered().told({ type: 'stop', reason: 'complete' })).toEqual([
      { type: 'end', ending: { kind: 'stopped', reason: 'complete' } },
    ]);
  });
});

describe('a job', () => {
  const job = jobOf(1, 2, 2);

  test('is asked for, computed when granted, and followed by the next', () => {
    const script = entered();
    expect(script.lease(job)).toMatchObject([
      { type: 'send', message: { type: 'leased', job: jobId(job), first: 2, count: 2, step: 1 } },
    ]);
    expect(script.told({ type: 'granted', job: jobId(job) })).toEqual([
      { type: 'compute', id: jobId(job), job },
    ]);
    const results = [{ slot: 2, tokens: 3, lossSum: 1.5 }];
    script.event({ type: 'rangeComputed', job: jobId(job), results, milliseconds: 9 });
    expect(script.effects).toMatchObject([
      { type: 'send', message: { type: 'computed', job: jobId(job), results, milliseconds: 9, step: 1 } },
      { type: 'pullJob' },
    ]);
  });

  test('is computed once, however often it is granted', () => {
    const script = entered();
    script.lease(job);
    script.told({ type: 'granted', job: jobId(job) });
    expect(script.told({ type: 'granted', job: jobId(job) })).toEqual([]);
    script.event({ type: 'rangeComputed', job: jobId(job), results: [], milliseconds: 9 });
    expect(script.told({ type: 'granted', job: jobId(job) })).toEqual([]);
    expect(script.event({ type: 'rangeComputed', job: jobId(job), results: [], milliseconds: 9 })).toEqual(
      [],
    );
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

  test('that was never asked for, or is of another step, is not computed', () => {
    const script = entered();
    expect(script.told({ type: 'granted', job: 'run-1-1-0-9-1' })).toEqual([]);
    script.lease(jobOf(5));
    expect(script.told({ type: 'granted', job: jobId(jobOf(5)) })).toEqual([]);
  });

  test('whose answer crosses a commit still has the next one pulled', () => {
    // A void job of a lost worker, handed out again by the queue just before the step commits.
    const script = voted();
    const stale = jobOf(1, 4, 2);
    script.lease(stale);
    script.commit();
    expect(script.effects).toEqual([
      { type: 'releaseJob', id: jobId(jobOf(1)) },
      { type: 'apply', step: 1, tokens: 7, learningRate: 0.5 },
    ]);
    script.told({ type: 'denied', job: jobId(stale), reason: 'void' });
    expect(script.kinds).toEqual(['releaseJob', 'pullJob']);
  });

  test('of the next step may come before the commit of this one, and keeps its place', () => {
    const script = voted();
    const next = jobOf(2);
    script.lease(next);
    script.commit();
    expect(script.told({ type: 'granted', job: jobId(next) }, { step: 2 })).toEqual([
      { type: 'compute', id: jobId(next), job: next },
    ]);
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

  test('waits for the update under way: the reduced vector is the compute thread’s until then', () => {
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
    expect(script.effects).toMatchObject([{ type: 'startReduction', order: { attempt: 2, generation: 2 } }]);
    const aborted = voted();
    aborted.commit();
    aborted.reduce({ step: 2 });
    aborted.told({ type: 'abort', reason: 'lost' }, { step: 2 });
    expect(aborted.applied(1)).toEqual([]);
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
      { type: 'releaseJob', id: jobId(jobOf(1, 0, 2)) },
      { type: 'releaseJob', id: jobId(jobOf(1, 2, 2)) },
      { type: 'apply', step: 1, tokens: 7, learningRate: 0.5 },
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

describe('a snapshot', () => {
  const snapshot = { type: 'snapshot', offset: 10, length: 20 } as const;
  const order = (step: number, attempt: number) => ({ step, attempt, offset: 10, length: 20 });

  test('of a state at rest is uploaded at once, and answered for its try', () => {
    const script = entered(3);
    script.told(snapshot, { step: 3, attempt: 5 });
    expect(script.effects).toEqual([{ type: 'upload', order: order(3, 5) }]);
    script.event({ type: 'uploaded', order: order(3, 5) });
    expect(script.effects).toMatchObject([{ message: { type: 'uploaded', step: 3, attempt: 5 } }]);
    script.event({ type: 'uploadFailed', order: order(3, 5), reason: 'full' });
    expect(script.effects).toMatchObject([
      { message: { type: 'uploadFailed', step: 3, attempt: 5, reason: 'full' } },
    ]);
  });

  test('waits for the update of its step', () => {
    const script = voted();
    script.commit();
    expect(script.told(snapshot, { step: 1, attempt: 2 })).toEqual([]);
    expect(script.applied(1)).toEqual([{ type: 'upload', order: order(1, 2) }]);
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

test('a gradient that is not finite is told with its step and slot', () => {
  const script = entered();
  script.event({ type: 'notFinite', step: 1, slot: 3, reason: 'NaN' });
  expect(script.effects).toMatchObject([{ message: { type: 'notFinite', step: 1, slot: 3, reason: 'NaN' } }]);
});
