/** A worker's life, event by event: how it comes in, what ends it, how it leaves. */
import { describe, expect, test } from 'vitest';
import { jobId } from '../../../src/protocol/index.ts';
import { isDeaf } from '../../../src/worker/lifecycle.ts';
import { BACKLOG_MAX, digestAt, jobOf, LifecycleScript, WELCOME } from '../../support/lifecycle-script.ts';

const entered = (step = 0) => new LifecycleScript().enter(step);

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
    expect(script.event({ type: 'computePrepared', backlogMax: BACKLOG_MAX })).toEqual([
      { type: 'sayPrepared' },
    ]);
    script.sendIn(step);
    expect(script.effects).toEqual([
      { type: 'keepSetAside', steps: [] },
      { type: 'follow', step },
      { type: 'loadState', step, source },
    ]);
    script.event({ type: 'stateLoaded', parametersDigest: digestAt(step) });
    expect(script.effects).toEqual([
      {
        type: 'send',
        message: { type: 'ready', generation: 1, step, attempt: 0, parametersDigest: digestAt(step) },
      },
      { type: 'pullJob' },
    ]);
  });

  test('leaves orders alone that come before it is in', () => {
    const script = new LifecycleScript();
    expect(script.reduce()).toEqual([]);
    expect(script.commit()).toEqual([]);
    expect(script.skip()).toEqual([]);
    expect(script.sendIn(0)).toEqual([]);
    expect(script.event({ type: 'computePrepared', backlogMax: 1 })).toEqual([]);
    expect(script.event({ type: 'stateLoaded', parametersDigest: digestAt(0) })).toEqual([]);
    expect(script.lease(jobOf(1))).toEqual([]);
    expect(script.phase).toBe('greeting');
  });

  test('is told to enter once: what it has then is not thrown away', () => {
    const script = entered(3);
    expect(script.sendIn(3)).toEqual([]);
    expect(script.sendIn(5)).toEqual([]);
  });

  test('tells when the state cannot be had, and loads what it is sent next', () => {
    const script = new LifecycleScript().prepare();
    script.sendIn(4);
    script.event({ type: 'stateFailed', reason: 'damaged' });
    expect(script.effects).toMatchObject([{ message: { type: 'stateFailed', reason: 'damaged', step: 4 } }]);
    script.sendIn(4);
    expect(script.kinds).toContain('loadState');
    // The first try's late news is no news.
    script.event({ type: 'stateLoaded', parametersDigest: digestAt(4) });
    expect(script.event({ type: 'stateFailed', reason: 'late' })).toEqual([]);
  });
});

describe('ending', () => {
  const failed = (code: string, reason: unknown) => [
    { type: 'end', ending: { kind: 'failed', code, reason } },
  ];

  test.each(['greeting', 'takingPart'])('when it is refused while %s', (phase) => {
    const script = phase === 'takingPart' ? entered() : new LifecycleScript();
    expect(script.told({ type: 'refused', reason: 'other run' })).toEqual(
      failed('CONNECTION_REFUSED', 'other run'),
    );
  });

  const evicted = (reason: unknown, pending: unknown = null) => [
    {
      type: 'end',
      ending: {
        ...{ kind: 'evicted', reason, incarnation: 'me', name: 'worker-0', pending },
        coordinatorLimitMs: 10_000,
      },
    },
  ];

  test('when it is evicted: it may come back as new, and knows who it was', () => {
    expect(entered().told({ type: 'evicted', reason: 'no part any more' })).toEqual(
      evicted('no part any more'),
    );
  });

  test('by eviction tells how long the run lets it wait for the coordinator, which may be gone by then', () => {
    const script = entered();
    script.event({ type: 'configured', coordinatorLimitMs: 60_000 });
    expect(script.told({ type: 'evicted', reason: 'x' })).toMatchObject([
      { ending: { kind: 'evicted', coordinatorLimitMs: 60_000 } },
    ]);
  });

  test('when messages were lost on the way: every later one may rest on them', () => {
    expect(entered().event({ type: 'messagesLost' })).toEqual(
      evicted('messages of the coordinator were lost on the way'),
    );
  });

  test('by eviction keeps the gradient it has voted for, which may have committed unheard', () => {
    const script = entered();
    script.reduce();
    expect(new LifecycleScript().enter().told({ type: 'evicted', reason: 'x' })).toEqual(evicted('x'));
    script.reduced();
    expect(script.told({ type: 'evicted', reason: 'x' })).toEqual(
      evicted('x', { step: 1, gradientDigest: 'e'.repeat(32) }),
    );
  });

  test.each(['reduced, not voted for', 'aborted', 'committed'])(
    'by eviction keeps no gradient that was %s',
    (what) => {
      const script = entered();
      script.reduce();
      if (what !== 'reduced, not voted for') script.reduced();
      if (what === 'aborted') script.told({ type: 'abort', reason: 'lost' });
      if (what === 'committed') script.commit();
      expect(script.told({ type: 'evicted', reason: 'x' })).toEqual(evicted('x'));
    },
  );

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

  test('when it is told to stop; and is deaf from then on', () => {
    const script = entered();
    expect(script.told({ type: 'stop', reason: 'complete' })).toEqual([
      { type: 'end', ending: { kind: 'stopped', reason: 'complete' } },
    ]);
    expect(script.told({ type: 'stop', reason: 'x' })).toEqual([]);
    expect(script.event({ type: 'tick', nowMs: 1e9 })).toEqual([]);
  });
});

describe('leaving', () => {
  const job = jobOf(1, 2, 4);

  test('politely: says so, hands back what is not begun, and works on until it is told to stop', () => {
    const script = entered();
    script.begin(job);
    script.slot(job, 2);
    script.event({ type: 'drainRequested' });
    // Slot 3 may be begun by now.
    expect(script.effects).toMatchObject([
      { type: 'send', message: { type: 'draining' } },
      { type: 'limitJob', id: jobId(job), first: 4 },
    ]);
    script.event({ type: 'jobLimited', id: jobId(job), first: 4 });
    expect(script.effects).toMatchObject([{ message: { type: 'handedBack', job: jobId(job), first: 4 } }]);
    script.slot(job, 3);
    expect(script.effects).toMatchObject([{ message: { type: 'computed' } }]);
    // No more jobs; its part in the reduction and its vote as before.
    expect(script.ended(job)).toEqual([]);
    script.reduce();
    expect(script.kinds).toEqual(['startReduction']);
    script.reduced();
    expect(script.kinds).toEqual(['vote']);
    script.commit();
    expect(script.kinds).toContain('apply');
    expect(script.applied(1)).toEqual([]);
    script.told({ type: 'stop', reason: 'it has left' });
    expect(script.effects).toEqual([{ type: 'end', ending: { kind: 'stopped', reason: 'it has left' } }]);
  });

  test('hands back a job it was waiting for, and one whose grant crosses', () => {
    const script = entered();
    script.lease(job);
    script.event({ type: 'drainRequested' });
    expect(script.kinds).toEqual(['send:draining']);
    script.told({ type: 'granted', job: jobId(job), first: job.first });
    expect(script.effects).toMatchObject([{ message: { type: 'handedBack', job: jobId(job), first: 2 } }]);
    const pulled = entered();
    pulled.event({ type: 'drainRequested' });
    pulled.lease(job);
    expect(pulled.effects).toMatchObject([
      { message: { type: 'handedBack', job: jobId(job), first: 2, step: 1 } },
    ]);
  });

  test('politely when the coordinator wants it to, and once', () => {
    const script = entered();
    script.told({ type: 'drain' });
    expect(script.kinds).toEqual(['send:draining']);
    expect(script.told({ type: 'drain' })).toEqual([]);
  });

  test('at once when it is asked a second time', () => {
    const script = entered();
    script.event({ type: 'drainRequested' });
    script.event({ type: 'drainRequested' });
    expect(script.kinds).toEqual(['send:leaving', 'end']);
    expect(script.effects.at(-1)).toMatchObject({ ending: { kind: 'stopped' } });
  });

  test.each(['greeting', 'preparing', 'loading'])(
    'at once while it is %s: it has nothing to give',
    (phase) => {
      const script = new LifecycleScript();
      if (phase === 'preparing') script.told(WELCOME);
      if (phase === 'loading') script.prepare().sendIn(4);
      script.event({ type: 'drainRequested' });
      expect(script.kinds).toEqual(['send:leaving', 'end']);
    },
  );
});
