/**
 * The coordinator's machine, event by event: how a step lives, in which order things are said and
 * written, and what becomes of it when workers fail, lie or disagree.
 */
import { describe, expect, test } from 'vitest';
import { jobId } from '../../../src/protocol/index.ts';
import {
  type About,
  CoordinatorScript,
  DIGEST_A,
  DIGEST_B,
  DIGEST_C,
  failureOf,
  LAYOUT,
  resultsOf,
  slotsOf,
} from '../../support/coordinator-script.ts';

function started(names: readonly string[], settings = {}): CoordinatorScript {
  const script = new CoordinatorScript({ minWorkers: names.length, ...settings });
  script.enter(...names);
  return script;
}

/** A script whose step is computed by `names` in turn and waits for votes. */
function reducing(names: readonly string[], settings = {}): CoordinatorScript {
  const script = started(names, settings);
  script.computeAll(...names);
  return script;
}

describe('gathering', () => {
  test('hello is welcomed, prepared is sent in, ready begins the first step', () => {
    const script = new CoordinatorScript();
    script.hello('a');
    expect(script.kinds).toEqual(['welcome>a']);
    script.prepared('a');
    expect(script.told('a', 'enter')).toMatchObject([{ step: 0, source: { kind: 'initial' } }]);
    script.ready('a');
    expect(script.kinds).toEqual(['enqueue']);
    expect(script.phase).toBe('computing');
    expect(script.queue).toMatchObject([{ run: 'run', generation: 1, step: 1, first: 0, count: 4 }]);
  });

  test('nothing is planned before the least number of workers is ready', () => {
    const script = new CoordinatorScript({ minWorkers: 2 });
    script.enter('a');
    expect(script.kinds).toEqual([]);
    script.enter('b');
    expect(slotsOf(script.queue)).toEqual([0, 1, 2, 3]);
    expect(script.queue).toHaveLength(2);
  });

  test('a first step waits for a worker that is on its way in', () => {
    const script = new CoordinatorScript({ minWorkers: 1 });
    for (const name of ['a', 'b']) script.hello(name);
    for (const name of ['a', 'b']) script.prepared(name);
    expect(script.ready('a')).not.toContainEqual(expect.objectContaining({ type: 'enqueue' }));
    script.lose('b');
    expect(script.kinds).toEqual(['enqueue']);
  });

  test('hello said twice is welcomed twice under one name', () => {
    const script = new CoordinatorScript();
    script.hello('a');
    expect(script.hello('a')).toEqual([{ type: 'welcome', to: 'a', worker: 'a' }]);
    expect(script.state.workers.size).toBe(1);
  });

  test('nameless workers take the first free number', () => {
    const script = new CoordinatorScript();
    script.hello('worker-1');
    const hello = {
      type: 'hello',
      name: null,
      formerly: null,
      host: 'h',
      pid: 1,
      peerEndpoint: 'tcp://h:1',
      peerMemory: null,
    } as const;
    script.say('x', hello);
    script.say('y', hello);
    expect([...script.state.workers.values()].map(({ worker }) => worker)).toEqual([
      'worker-1',
      'worker-0',
      'worker-2',
    ]);
  });

  test.each<[string, About, string, string]>([
    ['another run', { run: 'other' }, 'a', 'this is run run, not other'],
    ['a name that is taken', {}, 'taken', 'a worker named taken is in the run already'],
  ])('hello of %s is refused with the reason', (_, about, name, reason) => {
    const script = new CoordinatorScript();
    script.hello('taken');
    const rest = { formerly: null, host: 'h', pid: 1, peerEndpoint: 'tcp://h:1', peerMemory: null };
    const hello = { type: 'hello', name, ...rest } as const;
    script.say('stranger', hello, about);
    expect(script.told('stranger', 'refused')).toMatchObject([{ reason }]);
    expect(script.state.workers.has('stranger')).toBe(false);
  });

  test('whoever is unknown is told to come back as new, whatever it says', () => {
    const script = started(['a']);
    script.vote('ghost');
    expect(script.kinds).toEqual(['evicted>ghost']);
    script.say('ghost', { type: 'leaving', reason: 'x' });
    expect(script.kinds).toEqual(['evicted>ghost']);
  });

  test('other parameters than those of the run are refused', () => {
    const script = new CoordinatorScript();
    script.enter('a');
    script.hello('b');
    script.prepared('b', [{ name: 'weight', shape: [10, 11] }]);
    expect(script.kinds).toEqual(['refused>b']);
    // Those of the checkpoint count as well when a run is resumed.
    const layoutKey = JSON.stringify(LAYOUT.map(({ name, shape }) => [name, shape]));
    const resumed = new CoordinatorScript({}, { step: 2, layoutKey });
    resumed.hello('a');
    resumed.prepared('a', [{ name: 'heavy', shape: [10, 10] }]);
    expect(resumed.kinds).toEqual(['refused>a']);
  });

  test('before the first step, whoever starts from other parameters is refused', () => {
    const script = new CoordinatorScript({ minWorkers: 2 });
    script.enter('a');
    script.hello('b');
    script.prepared('b');
    script.ready('b', DIGEST_B);
    expect(script.kinds).toEqual(['refused>b']);
    expect(script.phase).toBe('gathering');
  });
});

describe('computing', () => {
  test('a job goes to who asks first; the others are denied it', () => {
    const script = started(['a', 'b']);
    const [job] = script.queue;
    script.lease('a', job!);
    expect(script.told('a', 'granted')).toMatchObject([{ job: jobId(job!), step: 1, attempt: 1 }]);
    script.lease('b', job!);
    expect(script.told('b', 'denied')).toMatchObject([{ reason: 'another worker holds the job' }]);
  });

  test('asking twice for one’s own job is granted twice and counts once', () => {
    const script = started(['a']);
    const [job] = script.queue;
    script.lease('a', job!);
    const { activity } = script.state;
    script.lease('a', job!);
    expect(script.kinds).toEqual(['granted>a']);
    expect(script.state.activity).toEqual(activity);
  });

  test('a worker that is no member is denied; what it took from the queue is planned anew', () => {
    const script = started(['a']);
    const job = script.queue.shift()!;
    script.hello('late');
    script.lease('late', job);
    expect(script.kinds).toEqual(['denied>late', 'enqueue']);
    expect(script.told('late', 'denied')).toMatchObject([{ reason: 'the worker is not a member' }]);
    expect(slotsOf(script.queue)).toEqual(slotsOf([job]));
    // The denied one ends the old job in the queue, so the new one must not be the same to it.
    for (const again of script.queue) expect(jobId(again)).not.toBe(jobId(job));
  });

  test('a job that a member holds is not planned anew because another asks for it', () => {
    const script = started(['a']);
    const job = script.queue.shift()!;
    script.lease('a', job);
    script.hello('late');
    script.lease('late', job);
    expect(script.kinds).toEqual(['denied>late']);
  });

  test('whoever asks when nothing is to be computed is denied', () => {
    const script = started(['a']);
    const [job] = script.queue;
    script.computeAll('a');
    script.lease('a', job!);
    expect(script.told('a', 'denied')).toMatchObject([{ reason: 'nothing is to be computed' }]);
  });

  test('results of another’s job, of other slots or of another step change nothing', () => {
    const script = started(['a', 'b']);
    const [job, other] = script.queue;
    script.lease('a', job!);
    const before = script.state.activity;
    script.compute('b', job!);
    script.compute('a', other!);
    script.compute('a', job!, resultsOf({ first: 1, count: job!.count }));
    script.compute('a', { ...job!, step: 2 });
    expect(script.state.activity).toEqual(before);
    expect(script.kinds).toEqual([]);
  });

  test('results come slot by slot; what is missing of a job keeps the step open', () => {
    const script = started(['a']);
    const job = script.queue.shift()!;
    script.lease('a', job);
    const results = resultsOf(job);
    for (const result of results.slice(0, -1)) {
      script.compute('a', job, [result]);
      expect(script.kinds).toEqual([]);
      // Each is counted once, however often it is told.
      script.compute('a', job, [result]);
      expect(script.notes).toEqual(['resultRefused']);
    }
    script.compute('a', job, results.slice(-1));
    expect(script.kinds).toEqual(['members>a', 'reduce>a']);
  });

  test('the last result starts the reduction at every member, with the rank of each slot', () => {
    const script = reducing(['b', 'a']);
    expect(script.kinds).toEqual(['members>a', 'members>b', 'reduce>a', 'reduce>b']);
    const position = { generation: 2, step: 1, attempt: 1 };
    expect(script.told('a', 'reduce')).toEqual([{ type: 'reduce', ...position, slotOwners: [1, 1, 0, 0] }]);
    const addressOf = (name: string) => ({
      ...{ incarnation: name, worker: name, peerEndpoint: `tcp://127.0.0.1:1/${name}`, peerMemory: null },
    });
    for (const name of ['a', 'b']) {
      const members = [addressOf('a'), addressOf('b')];
      expect(script.told(name, 'members')).toEqual([{ type: 'members', ...position, members }]);
    }
  });

  test('members are told again when they have changed, to each of them, and only then', () => {
    const script = reducing(['a', 'b'], { totalSteps: 9 });
    script.voteAll('a', 'b');
    const namesToldTo = (name: string) =>
      script.told(name, 'members').map(({ members }) => members.map(({ worker }) => worker));
    script.computeAll('a', 'b');
    expect(script.kinds).toEqual(['reduce>a', 'reduce>b']);
    script.voteAll('a', 'b');
    // One that comes in between two orders, and one that is lost.
    script.enter('c');
    script.computeAll('a', 'b');
    for (const name of ['a', 'b', 'c']) expect(namesToldTo(name)).toEqual([['a', 'b', 'c']]);
    script.lose('b');
    script.computeAll('a');
    for (const name of ['a', 'c']) expect(namesToldTo(name)).toEqual([['a', 'c']]);
    script.say('a', { type: 'reduceFailed', reason: 'damaged' });
    expect(script.kinds).toEqual(['abort>a', 'abort>c', 'reduce>a', 'reduce>c']);
  });

  test('a job that one who is gone has taken is planned anew at once, the others are left alone', () => {
    const script = started(['a', 'b']);
    const [job, other] = script.queue;
    script.lease('a', other!);
    script.lease('ghost', job!);
    expect(script.kinds).toEqual(['evicted>ghost', 'enqueue']);
    const replanned = script.queue.filter(({ plan }) => plan === 1);
    expect(slotsOf(replanned)).toEqual(slotsOf([job!]));
    script.lease('b', job!);
    expect(script.told('b', 'denied')).toMatchObject([{ reason: 'the job belongs to no current plan' }]);
    script.lease('ghost', other!);
    expect(script.kinds, 'somebody holds that one').toEqual(['evicted>ghost']);
    script.compute('a', other!);
    for (const range of replanned) {
      script.lease('b', range);
      script.compute('b', range);
    }
    expect(script.phase).toBe('reducing');
  });

  test('a job that waits although a member is idle is planned anew after the heartbeat limit', () => {
    const script = started(['a', 'b']);
    const { heartbeatLimitMs } = script.state.settings;
    const alive = () => {
      for (const name of ['a', 'b']) script.heartbeat(name);
    };
    const tick = (nowMs: number) => script.event({ type: 'tick', nowMs });
    const [job, other] = script.queue;
    script.lease('a', job!);
    tick(heartbeatLimitMs);
    expect(script.kinds, 'not yet').toEqual([]);
    alive();
    tick(heartbeatLimitMs + 1);
    expect(script.kinds).toEqual(['enqueue']);
    expect(slotsOf(script.queue.filter(({ plan }) => plan === 1))).toEqual(slotsOf([other!]));
    alive();
    const replannedMs = heartbeatLimitMs + 1;
    for (const [waitedMs, kinds] of [
      [heartbeatLimitMs, []],
      [2 * heartbeatLimitMs, []],
      [2 * heartbeatLimitMs + 1, ['enqueue']],
    ] as const) {
      tick(replannedMs + waitedMs);
      expect(script.kinds, `after ${waitedMs} ms more`).toEqual(kinds);
      alive();
    }
  });

  test('jobs that wait because every member is at work stay where they are', () => {
    const script = started(['a']);
    const { heartbeatLimitMs } = script.state.settings;
    const [job] = script.queue;
    script.lease('a', job!);
    script.hello('late');
    script.event({ type: 'tick', nowMs: heartbeatLimitMs - 1 });
    for (const name of ['a', 'late']) script.heartbeat(name);
    script.event({ type: 'tick', nowMs: heartbeatLimitMs + 1 });
    expect(script.kinds).toEqual([]);
  });

  test('an emptied queue is filled with what waits, and with nothing that is held', () => {
    const script = started(['a', 'b']);
    const [job, other] = script.queue;
    script.lease('a', job!);
    expect(script.event({ type: 'queueEmptied' })).toEqual([{ type: 'enqueue', jobs: [other] }]);
    script.lease('b', other!);
    expect(script.event({ type: 'queueEmptied' })).toEqual([]);
  });
});

describe('the commit', () => {
  test('is on disk before anyone hears of it, and the next step is planned after', () => {
    const script = reducing(['a', 'b']);
    script.vote('a');
    expect(script.kinds).toEqual([]);
    script.vote('b');
    expect(script.kinds).toEqual(['appendCommit', 'commit>a', 'commit>b', 'committed', 'enqueue']);
  });

  test('says how the sum is to be divided and applied, and records who computed what', () => {
    const script = reducing(['a', 'b']);
    script.voteAll('a', 'b');
    const append = script.effects.find(({ type }) => type === 'appendCommit');
    const results = resultsOf({ first: 0, count: 4 });
    const lossSum = results.reduce((sum, result) => sum + result.lossSum, 0);
    expect(append).toEqual({
      type: 'appendCommit',
      record: {
        step: 1,
        generation: 2,
        attempt: 1,
        tokens: 10 + 11 + 12 + 13,
        lossSum,
        learningRate: Math.fround(3e-4),
        gradientDigest: DIGEST_B,
        parametersDigest: DIGEST_A,
        slots: results.map((result, slot) => ({ ...result, worker: slot < 2 ? 'a' : 'b' })),
      },
    });
    expect(script.told('b', 'commit')).toMatchObject([
      { step: 1, attempt: 1, tokens: 46, learningRate: Math.fround(3e-4) },
    ]);
  });

  test.each([
    ['generation', { generation: 1 }],
    ['step', { step: 2 }],
    ['attempt', { attempt: 2 }],
  ])('does not count the vote of another %s', (_, about) => {
    const script = reducing(['a', 'b']);
    script.vote('a');
    script.vote('b', DIGEST_B, DIGEST_A, about);
    expect(script.kinds).toEqual([]);
    expect(script.phase).toBe('reducing');
    script.vote('b');
    expect(script.kinds[0]).toBe('appendCommit');
  });

  test('counts one vote per member, the newest', () => {
    const script = reducing(['a', 'b']);
    script.vote('a', DIGEST_C);
    script.vote('a');
    expect(script.phase).toBe('reducing');
    script.vote('b');
    expect(script.kinds[0]).toBe('appendCommit');
  });

  test.each([
    ['gradients', DIGEST_C, DIGEST_A],
    ['parameters', DIGEST_B, DIGEST_C],
  ])(
    'stops the run when %s differ one against one, naming both with their digests',
    (_, gradient, parameters) => {
      const script = reducing(['a', 'b']);
      script.vote('a');
      script.vote('b', gradient, parameters);
      expect(script.kinds).toEqual(['stop>a', 'stop>b', 'finish']);
      const failure = failureOf(script)!;
      expect(failure.code).toBe('DIVERGED');
      for (const ballot of [`a ${DIGEST_A}/${DIGEST_B}`, `b ${parameters}/${gradient}`]) {
        expect(failure.message).toContain(ballot);
      }
      expect(script.all.some(({ type }) => type === 'appendCommit')).toBe(false);
      expect(script.phase).toBe('finished');
    },
  );

  test('of a step without any target token is a configuration’s fault', () => {
    const script = started(['a']);
    const [job] = script.queue;
    script.lease('a', job!);
    script.compute(
      'a',
      job!,
      resultsOf(job!).map((result) => ({ ...result, tokens: 0 })),
    );
    script.vote('a');
    expect(failureOf(script)).toMatchObject({ code: 'CONFIG_MISMATCH' });
  });

  test('a gradient that is not finite ends the run before anything is committed', () => {
    const script = started(['a']);
    script.say('a', { type: 'notFinite', slot: 2, reason: 'loss is NaN' }, { step: 9 });
    expect(script.kinds).toEqual([]);
    script.say('a', { type: 'notFinite', slot: 2, reason: 'loss is NaN' }, { step: 1 });
    const failure = failureOf(script);
    expect(failure).toMatchObject({ code: 'NOT_FINITE' });
    expect(failure!.message).toMatch(/step 1, slot 2, at a: loss is NaN.*optimizer\.learningRate/);
    expect(failure!.message).not.toContain('\n');
  });
});

describe('a lost worker', () => {
  test('while computing: its slots are planned anew in the next generation, the survivor keeps its own', () => {
    const script = started(['a', 'b']);
    const [mine, theirs] = script.queue.splice(0);
    script.lease('a', mine!);
    script.lease('b', theirs!);
    script.compute('a', mine!);
    script.lose('b');
    expect(script.kinds).toEqual(['enqueue']);
    expect(script.state.generation).toBe(3);
    expect(slotsOf(script.queue)).toEqual(slotsOf([theirs!]));
    for (const job of script.queue) expect(job).toMatchObject({ generation: 3, plan: 1, step: 1 });
    script.computeAll('a');
    expect(script.told('a', 'reduce')).toMatchObject([
      { attempt: 1, generation: 3, slotOwners: [0, 0, 0, 0] },
    ]);
  });

  test('while computing, with nothing leased: it may have taken a job without a word, so all are planned anew', () => {
    const script = started(['a', 'b']);
    const before = script.queue.splice(0);
    script.lose('b');
    expect(script.kinds).toEqual(['enqueue']);
    expect(slotsOf(script.queue)).toEqual(slotsOf(before));
    for (const job of script.queue) expect(job).toMatchObject({ plan: 1 });
    script.computeAll('a');
    expect(script.kinds).toEqual(['members>a', 'reduce>a']);
  });

  test('while reducing: the attempt is aborted, its slots are computed again, the next attempt follows', () => {
    const script = reducing(['a', 'b']);
    script.vote('a');
    script.lose('b');
    expect(script.kinds).toEqual(['abort>a', 'enqueue']);
    expect(script.told('a', 'abort')).toMatchObject([{ step: 1, attempt: 1 }]);
    script.computeAll('a');
    expect(script.told('a', 'reduce')).toMatchObject([{ attempt: 2 }]);
    // The vote of the first attempt does not count in the second.
    script.vote('a', DIGEST_B, DIGEST_A, { attempt: 1 });
    expect(script.phase).toBe('reducing');
    script.vote('a');
    expect(script.kinds[0]).toBe('appendCommit');
  });

  test('while reducing, without a slot of its own: the others reduce again at once', () => {
    const script = started(['a', 'b']);
    script.computeAll('a');
    script.lose('b');
    expect(script.kinds).toEqual(['abort>a', 'members>a', 'reduce>a']);
    expect(script.told('a', 'reduce')).toMatchObject([{ attempt: 2, slotOwners: [0, 0, 0, 0] }]);
  });

  test('is lost by silence, and only by silence', () => {
    const script = started(['a', 'b']);
    script.event({ type: 'tick', nowMs: 1000 });
    expect(script.kinds).toEqual([]);
    const heard = { residentBytes: 5, engineBytes: 8, sentBytes: 6, receivedBytes: 7, hears: true };
    script.say('a', { type: 'heartbeat', ...heard });
    script.event({ type: 'tick', nowMs: 1001 });
    expect(script.effects[0]).toMatchObject({ type: 'note', event: 'workerLost' });
    expect([...script.state.workers.keys()]).toEqual(['a']);
    expect(script.state.workers.get('a')).toMatchObject({
      ...{ residentBytes: 5, engineBytes: 8, sentBytes: 6, receivedBytes: 7 },
      lastHeardMs: 1000,
    });
  });

  test('that is heard but hears nothing is missed like a silent one', () => {
    const script = started(['a', 'b']);
    const { heartbeatLimitMs } = script.state.settings;
    for (const nowMs of [1, heartbeatLimitMs]) {
      script.event({ type: 'tick', nowMs });
      script.heartbeat('a');
      script.heartbeat('b', false);
    }
    script.event({ type: 'tick', nowMs: heartbeatLimitMs + 1 });
    expect([...script.state.workers.keys()]).toEqual(['a']);
    script.heartbeat('b', false);
    expect(script.kinds, 'it may hear that').toEqual(['evicted>b']);
  });

  test('that speaks again is told to come back as new', () => {
    const script = reducing(['a', 'b']);
    script.lose('b');
    script.vote('b');
    expect(script.kinds).toEqual(['evicted>b']);
    expect(script.event({ type: 'connectionLost', incarnation: 'b', reason: 'again' })).toEqual([]);
  });

  test('that was no member yet disturbs no step', () => {
    const script = reducing(['a']);
    script.hello('late');
    script.lose('late');
    expect(script.kinds).toEqual([]);
    expect(script.state.generation).toBe(1);
  });

  test('is missed as soon as its process has come back as new', () => {
    const script = started(['a', 'b']);
    script.comeBack('a/2', 'a', null);
    expect([...script.state.workers.keys()]).toEqual(['b', 'a/2']);
    expect(script.state.workers.get('a/2')).toMatchObject({ worker: 'a' });
    expect(script.all).toContainEqual(
      expect.objectContaining({
        event: 'workerLost',
        fields: expect.objectContaining({ worker: 'a', reason: 'its process has come back as new' }),
      }),
    );
  });
});

describe('a failed reduction', () => {
  test('is tried again by the same members with the same slots', () => {
    const script = reducing(['a', 'b']);
    const [first] = script.told('a', 'reduce');
    script.vote('b');
    script.say('a', { type: 'reduceFailed', reason: 'damaged' });
    expect(script.kinds).toEqual(['abort>a', 'abort>b', 'reduce>a', 'reduce>b']);
    expect(script.told('a', 'reduce')).toEqual([{ ...first, attempt: 2 }]);
    script.vote('a');
    expect(script.phase).toBe('reducing');
    script.vote('b');
    expect(script.kinds[0]).toBe('appendCommit');
    expect(script.effects[0]).toMatchObject({ record: { attempt: 2 } });
  });

  test('of an older attempt or generation changes nothing', () => {
    const script = reducing(['a', 'b']);
    script.say('a', { type: 'reduceFailed', reason: 'x' }, { attempt: 0 });
    expect(script.kinds).toEqual([]);
    script.say('a', { type: 'reduceFailed', reason: 'x' }, { generation: 1 });
    expect(script.kinds).toEqual([]);
  });

  test('that fails time and again ends the run with the reason', () => {
    const script = reducing(['a']);
    for (let attempt = 1; attempt < 20; attempt += 1) {
      script.say('a', { type: 'reduceFailed', reason: 'damaged' });
      expect(script.phase).toBe('reducing');
    }
    script.say('a', { type: 'reduceFailed', reason: 'damaged' });
    expect(failureOf(script)).toMatchObject({
      code: 'WORKER_LOST',
      message: expect.stringContaining('damaged'),
    });
  });
});

describe('a repeated step', () => {
  const recorded = new Map([
    [3, { kind: 'committed', gradientDigest: DIGEST_B, parametersDigest: DIGEST_A, tokens: 46 }],
  ] as const);
  const resumed = () => {
    const script = new CoordinatorScript({ totalSteps: 9 }, { step: 2, recorded });
    script.hello('a');
    script.prepared('a');
    expect(script.told('a', 'enter')).toMatchObject([{ step: 2, source: { kind: 'checkpoint', step: 2 } }]);
    return script;
  };

  test('that agrees with the log is not written again', () => {
    const script = resumed();
    script.ready('a');
    script.step('a');
    expect(script.kinds).toEqual(['commit>a', 'committed', 'enqueue']);
    script.step('a');
    expect(script.kinds[0]).toBe('appendCommit');
  });

  test.each([
    ['gradient', DIGEST_C, DIGEST_A, 10],
    ['parameters', DIGEST_B, DIGEST_C, 10],
    ['tokens', DIGEST_B, DIGEST_A, 11],
  ])('of other %s stops the run', (_, gradient, parameters, tokens) => {
    const script = resumed();
    script.ready('a');
    const [job] = script.queue;
    script.lease('a', job!);
    script.compute(
      'a',
      job!,
      resultsOf(job!).map((result) => ({ ...result, tokens: result.tokens - 10 + tokens })),
    );
    script.vote('a', gradient, parameters);
    expect(failureOf(script)).toMatchObject({ code: 'DIVERGED' });
    expect(script.all.some(({ type }) => type === 'appendCommit' || type === 'committed')).toBe(false);
  });

  test('refuses a worker whose parameters are not those of the log', () => {
    const script = resumed();
    script.ready('a', DIGEST_C);
    expect(script.kinds).toEqual(['refused>a']);
  });
});

describe('the end', () => {
  const ended = (kind: string, step: number) => ({ type: 'finish', outcome: { kind, step } });

  test('a complete run stores its last state, then records its end, then dismisses everyone', () => {
    const script = started(['a', 'b'], { totalSteps: 1 });
    script.step('a', 'b');
    expect(script.kinds).toEqual([
      'appendCommit',
      'commit>a',
      'commit>b',
      'committed',
      'beginCheckpoint',
      'snapshot>a',
      'snapshot>b',
    ]);
    script.uploaded('a');
    script.uploaded('b');
    expect(script.kinds).toEqual(['storeCheckpoint']);
    script.event({ type: 'checkpointStored', step: 1 });
    expect(script.kinds).toEqual(['appendFinished', 'stop>a', 'stop>b', 'finish']);
    expect(script.effects.at(-1)).toEqual(ended('completed', 1));
    expect(script.event({ type: 'tick', nowMs: 1e9 })).toEqual([]);
  });

  test('a stop finishes the step under way, stores, and ends as stopped', () => {
    const script = started(['a']);
    script.event({ type: 'stopRequested' });
    expect(script.kinds).toEqual([]);
    script.step('a');
    expect(script.kinds).toEqual(['appendCommit', 'commit>a', 'committed', 'beginCheckpoint', 'snapshot>a']);
    script.uploaded('a');
    script.event({ type: 'checkpointStored', step: 1 });
    expect(script.effects.at(-1)).toEqual(ended('stopped', 1));
  });

  test('a stop while nobody is there ends at once', () => {
    const script = new CoordinatorScript();
    script.event({ type: 'stopRequested' });
    expect(script.kinds).toEqual(['appendFinished', 'finish']);
    expect(script.effects.at(-1)).toEqual(ended('stopped', 0));
  });

  test('a stop that loses all workers ends where a resume would begin', () => {
    const script = started(['a'], { totalSteps: 9 });
    script.step('a');
    script.event({ type: 'stopRequested' });
    script.lose('a');
    expect(script.effects.at(-1)).toEqual(ended('stopped', 0));
  });

  test('a checkpoint that cannot be written ends the run with the disk’s reason', () => {
    const script = started(['a'], { checkpointEvery: 1 });
    script.step('a');
    script.event({ type: 'checkpointFailed', step: 1, code: 'DISK_FULL', reason: 'no space left' });
    expect(failureOf(script)).toEqual({ code: 'DISK_FULL', message: 'no space left' });
    expect(script.kinds).toEqual(['abortCheckpoint', 'stop>a', 'finish']);
  });
});
