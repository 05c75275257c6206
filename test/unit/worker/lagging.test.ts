/**
 * A replica that lags behind the run, event by event: it is only being loaded, its device is slow, or its
 * bits were wrong. The worker reduces and votes all the same, and keeps what the replica has to take in.
 */
import { describe, expect, test } from 'vitest';
import { jobId } from '../../../src/protocol/index.ts';
import { BACKLOG_MAX, digestAt, jobOf, LifecycleScript } from '../../support/lifecycle-script.ts';

const updateOf = (step: number, from: 'reduced' | 'setAside') => ({
  ...{ kind: 'apply', step, tokens: 7, learningRate: 0.5, from },
});
const applyOf = (step: number, from: 'reduced' | 'setAside') => ({
  ...{ type: 'apply', update: updateOf(step, from) },
});

/** Follows from step 2 on, and has nothing yet. */
function following(): LifecycleScript {
  const script = new LifecycleScript().prepare();
  script.reduce({ step: 3 });
  return script;
}

const loaded = (script: LifecycleScript, step: number) =>
  script.event({ type: 'stateLoaded', parametersDigest: digestAt(step) });

describe('a worker that follows without a state', () => {
  test('reduces and votes, but vouches for no parameters', () => {
    const script = following();
    expect(script.effects).toMatchObject([{ type: 'startReduction', order: { step: 3 } }]);
    script.reduced();
    expect(script.effects).toMatchObject([
      { type: 'vote', message: { step: 3, parametersDigest: null, gradientDigest: 'e'.repeat(32) } },
    ]);
  });

  test('sets the gradient of every committed step aside', () => {
    const script = following();
    script.reduced();
    expect(script.commit({ step: 3 })).toEqual([
      { type: 'committed', step: 3 },
      { type: 'setAside', step: 3 },
    ]);
    script.take(4);
    expect(script.kinds).toEqual(['committed', 'setAside']);
    expect(script.life.backlog).toEqual([updateOf(3, 'setAside'), updateOf(4, 'setAside')]);
  });

  test('takes in what it has missed in order when the state is there, and only then is ready', () => {
    const script = following();
    script.reduced();
    script.commit({ step: 3 });
    script.take(4);
    script.sendIn(2, 4);
    expect(script.effects).toEqual([
      { type: 'keepSetAside', steps: [3, 4] },
      { type: 'follow', step: 4 },
      { type: 'loadState', step: 2, source: 'checkpoint' },
    ]);
    expect(loaded(script, 2)).toEqual([applyOf(3, 'setAside')]);
    expect(script.applied(3)).toEqual([applyOf(4, 'setAside')]);
    script.applied(4);
    expect(script.effects).toMatchObject([
      { type: 'send', message: { type: 'ready', step: 4, parametersDigest: digestAt(4) } },
      { type: 'pullJob' },
    ]);
  });

  test('goes on following while it loads', () => {
    const script = following();
    script.reduced();
    script.commit({ step: 3 });
    script.sendIn(2, 3);
    script.take(4);
    expect(script.kinds).toEqual(['committed', 'setAside']);
    loaded(script, 2);
    expect(script.effects).toEqual([applyOf(3, 'setAside')]);
  });

  test('forgets gradients from before the state it is given', () => {
    const script = following();
    script.reduced();
    script.commit({ step: 3 });
    script.sendIn(3, 3);
    expect(script.effects[0]).toEqual({ type: 'keepSetAside', steps: [] });
    loaded(script, 3);
    expect(script.kinds).toEqual(['send:ready', 'pullJob']);
  });

  test('comes back as new when steps in between were missed: it could never catch up', () => {
    const script = following();
    script.reduced();
    script.commit({ step: 3 });
    script.sendIn(1, 3);
    expect(script.effects).toMatchObject([
      { type: 'end', ending: { kind: 'evicted', reason: expect.stringContaining('steps in between') } },
    ]);
  });

  test('repeats the steps since an older state when the whole run does', () => {
    const script = following();
    script.reduced();
    script.commit({ step: 3 });
    script.sendIn(0, 0);
    expect(script.effects).toEqual([
      { type: 'keepSetAside', steps: [] },
      { type: 'follow', step: 0 },
      { type: 'loadState', step: 0, source: 'initial' },
    ]);
    loaded(script, 0);
    expect(script.kinds).toEqual(['send:ready', 'pullJob']);
    expect(script.reduce({ step: 1 })).toHaveLength(1);
  });

  test('takes a skipped step for one without an update', () => {
    const script = following();
    script.skip({ step: 3 });
    expect(script.kinds).toEqual(['abortReduction', 'committed']);
    script.sendIn(2, 3);
    loaded(script, 2);
    expect(script.effects).toEqual([{ type: 'apply', update: { kind: 'skip', step: 3 } }]);
  });

  test('gets no job before it is ready, and hands back one that it has', () => {
    const script = following();
    script.lease(jobOf(3));
    expect(script.effects).toMatchObject([{ message: { type: 'handedBack', first: 0 } }]);
  });
});

describe('a full backlog', () => {
  function full(): LifecycleScript {
    const script = new LifecycleScript().prepare();
    for (let step = 1; step <= BACKLOG_MAX; step += 1) script.take(step);
    script.sendIn(0, BACKLOG_MAX);
    return script;
  }

  test('has the vote wait: its commit would find no room', () => {
    const script = full();
    script.reduce({ step: 3 });
    expect(script.reduced()).toEqual([]);
    // Nor is a commit believed that it has not voted for.
    expect(script.commit({ step: 3 })).toEqual([]);
    loaded(script, 0);
    // The first update leaves room as soon as it is taken up.
    expect(script.effects).toMatchObject([applyOf(1, 'setAside'), { type: 'vote', message: { step: 3 } }]);
    expect(script.commit({ step: 3 })).toEqual([
      { type: 'committed', step: 3 },
      { type: 'setAside', step: 3 },
    ]);
  });

  test('has the vote dropped when the attempt is over meanwhile', () => {
    const script = full();
    script.reduce({ step: 3 });
    script.reduced();
    script.told({ type: 'abort', reason: 'lost' }, { step: 3 });
    loaded(script, 0);
    expect(script.kinds).toEqual(['apply']);
  });
});

describe('a slow device', () => {
  const job = jobOf(1);

  test('that is still at its last job when the step commits does not hold up the next one', () => {
    // All of it was taken back and computed elsewhere; the engine cannot be stopped.
    const script = new LifecycleScript().enter();
    script.begin(job);
    script.reduce();
    script.reduced();
    expect(script.commit()).toEqual([
      { type: 'committed', step: 1 },
      { type: 'setAside', step: 1 },
      { type: 'releaseJob', id: jobId(job) },
    ]);
    expect(script.reduce({ step: 2 })).toMatchObject([{ type: 'startReduction' }]);
    expect(script.reduced()).toMatchObject([{ message: { step: 2, parametersDigest: null } }]);
    // Its result is nothing any more, and only now comes the update.
    expect(script.slot(job, 0)).toEqual([]);
    expect(script.ended(job)).toMatchObject([applyOf(1, 'setAside'), { type: 'pullJob' }]);
    script.commit({ step: 2 });
    expect(script.kinds).toEqual(['committed', 'setAside']);
    expect(script.applied(1)).toEqual([applyOf(2, 'setAside')]);
  });

  test('that applies one update while the next step commits sets that one aside', () => {
    const script = new LifecycleScript().enter();
    script.take(1);
    expect(script.effects.at(-1)).toEqual(applyOf(1, 'reduced'));
    // The place is the compute thread's until then, so the next order waits, and with it the vote.
    expect(script.reduce({ step: 2 })).toEqual([]);
    script.applied(1);
    script.reduced();
    expect(script.effects).toMatchObject([{ message: { step: 2, parametersDigest: digestAt(1) } }]);
  });

  test('has its snapshot taken when it comes to that step', () => {
    const script = new LifecycleScript().enter();
    script.begin(job);
    script.take(1);
    script.told({ type: 'snapshot', offset: 0, length: 5 }, { step: 1, attempt: 7 });
    expect(script.effects).toEqual([]);
    script.ended(job);
    script.applied(1);
    expect(script.effects[0]).toMatchObject({
      ...{ type: 'upload', order: { step: 1, attempt: 7 }, parametersDigest: digestAt(1) },
    });
  });
});

describe('coming back', () => {
  test('with the state of the run: it is adopted', () => {
    const script = new LifecycleScript().prepare();
    script.told({ type: 'enter', source: { kind: 'held' } }, { step: 6 });
    expect(script.effects).toEqual([
      { type: 'keepSetAside', steps: [] },
      { type: 'follow', step: 6 },
      { type: 'loadState', step: 6, source: 'held' },
    ]);
    loaded(script, 6);
    expect(script.kinds).toEqual(['send:ready', 'pullJob']);
  });

  test('with the gradient of the newest step where it was reduced: it is applied first', () => {
    const script = new LifecycleScript().prepare();
    script.told({ type: 'enter', source: { kind: 'pending', tokens: 7, learningRate: 0.5 } }, { step: 6 });
    expect(script.effects).toEqual([
      { type: 'keepSetAside', steps: [6] },
      { type: 'follow', step: 6 },
      { type: 'loadState', step: 5, source: 'held' },
    ]);
    // Nothing may be reduced into its place before.
    expect(script.reduce({ step: 7 })).toEqual([]);
    expect(loaded(script, 5)).toEqual([applyOf(6, 'reduced')]);
    script.applied(6);
    expect(script.kinds).toEqual(['startReduction', 'send:ready', 'pullJob']);
  });
});

describe('a replica that is quarantined', () => {
  const job = jobOf(1, 2, 4);

  test('drops its work, its reduction and its state, and follows until it is given the right one', () => {
    const script = new LifecycleScript().enter();
    script.begin(job);
    script.slot(job, 2);
    script.reduce();
    script.told({ type: 'quarantined', reason: 'differs' }, { generation: 2 });
    expect(script.effects).toEqual([
      { type: 'limitJob', id: jobId(job), first: 0 },
      { type: 'releaseJob', id: jobId(job) },
      { type: 'abortReduction' },
      { type: 'keepSetAside', steps: [] },
      { type: 'discardFragments' },
    ]);
    expect(script.life).toMatchObject({ replica: { kind: 'absent' }, announced: false, generation: 2 });
    // What its device still brings is nobody's.
    expect(script.slot(job, 3)).toEqual([]);
    expect(script.ended(job)).toEqual([]);
    script.reduce({ generation: 2 });
    expect(script.reduced({ generation: 2 })).toMatchObject([{ message: { parametersDigest: null } }]);
  });

  test('is loaded anew only when the compute thread is done with what it did before', () => {
    const script = new LifecycleScript().enter();
    script.begin(job);
    script.told({ type: 'quarantined', reason: 'differs' }, { generation: 2 });
    script.told({ type: 'enter', source: { kind: 'initial' } }, { step: 0, generation: 2 });
    expect(script.kinds).toEqual(['keepSetAside', 'follow']);
    expect(script.ended(job)).toEqual([{ type: 'loadState', step: 0, source: 'initial' }]);
    // The job that was waited for is waited for still.
    expect(loaded(script, 0)).toMatchObject([{ message: { type: 'ready' } }, { type: 'pullJob' }]);
  });

  test('has the update that is under way end without taking it for the new state', () => {
    const script = new LifecycleScript().enter();
    script.take(1);
    script.told({ type: 'quarantined', reason: 'differs' }, { step: 1, generation: 2 });
    expect(script.applied(1)).toEqual([]);
    expect(script.life).toMatchObject({ replica: { kind: 'absent' }, applying: null });
  });

  test('by an order of an older generation is not', () => {
    const script = new LifecycleScript().enter();
    script.told({ type: 'denied', job: 'x', reason: '' }, { generation: 5 });
    expect(script.told({ type: 'quarantined', reason: 'late' }, { generation: 4 })).toEqual([]);
    expect(script.life.replica.kind).toBe('held');
  });
});
