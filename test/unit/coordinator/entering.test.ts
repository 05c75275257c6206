/** How workers come to the state in the coordinator's machine: joiners, and those that come back with it. */
import { describe, expect, test } from 'vitest';
import {
  CoordinatorScript,
  DIGEST_A,
  DIGEST_B,
  DIGEST_C,
  LAYOUT,
  slotsOf,
} from '../../support/coordinator-script.ts';

/** Two steps in, nothing stored, step 3 being computed by `a`, and `b` prepared. */
function joining(settings = {}): CoordinatorScript {
  const script = new CoordinatorScript({ totalSteps: 9, ...settings });
  script.enter('a');
  script.step('a');
  script.step('a');
  script.hello('b');
  script.prepared('b');
  return script;
}

describe('the start', () => {
  test('is drawn from the seed, or, of a run that was given weights, the checkpoint of step 0', () => {
    for (const startsFromCheckpoint of [false, true]) {
      const script = new CoordinatorScript({ startsFromCheckpoint });
      script.hello('a');
      script.prepared('a');
      const source = startsFromCheckpoint ? { kind: 'checkpoint', step: 0 } : { kind: 'initial' };
      expect(script.told('a', 'enter')).toEqual([expect.objectContaining({ step: 0, source })]);
    }
  });
});

describe('a joiner', () => {
  test('follows at once and has a checkpoint made, while the others go on with their step', () => {
    const script = joining();
    expect(script.kinds).toEqual(['beginCheckpoint', 'snapshot>a']);
    expect(script.phase).toBe('computing');
    expect(script.state.workers.get('b')).toMatchObject({ phase: 'following', followsFrom: 2 });
    script.computeAll('a');
    // It has a rank, though no slot: from here on it has every gradient.
    expect(script.kinds).toEqual(['members>a', 'members>b', 'reduce>a', 'reduce>b']);
    expect(script.told('b', 'reduce')).toMatchObject([{ slotOwners: [0, 0, 0, 0] }]);
    script.vote('a');
    expect(script.phase).toBe('reducing');
    script.vote('b', DIGEST_B, null);
    expect(script.kinds).toEqual(['appendCommit', 'commit>a', 'commit>b', 'committed', 'enqueue']);
  });

  test('enters with the stored state from which it follows, however far the run is by then', () => {
    const script = joining();
    script.computeAll('a');
    script.vote('a');
    script.vote('b', DIGEST_B, null);
    expect(script.told('b', 'enter')).toEqual([]);
    script.store();
    expect(script.told('b', 'enter')).toMatchObject([{ step: 3, source: { kind: 'checkpoint', step: 2 } }]);
    // Once only, and until it is ready it gets no slot.
    script.tick(1);
    expect(script.told('b', 'enter')).toEqual([]);
    const [job] = script.queue;
    script.lease('b', job!);
    expect(script.told('b', 'denied')).toHaveLength(1);
  });

  test('is a member from when it is ready, in the middle of a step, and has slots of the next one', () => {
    const script = joining();
    script.store();
    script.ready('b', DIGEST_A, { step: 2 });
    expect(script.kinds).toEqual([]);
    expect(script.notes).toEqual(['workerEntered']);
    expect(script.state.workers.get('b')).toMatchObject({ phase: 'member' });
    script.computeAll('a');
    script.voteAll('a', 'b');
    expect(script.queue).toHaveLength(2);
    expect(slotsOf(script.queue)).toEqual([0, 1, 2, 3]);
  });

  test('enters at once with a checkpoint that is the current state, and has none made', () => {
    const script = new CoordinatorScript({ totalSteps: 9, checkpointEvery: 2 });
    script.enter('a');
    script.step('a');
    script.step('a');
    script.store();
    script.hello('b');
    script.prepared('b');
    expect(script.kinds).toEqual(['enter>b']);
    expect(script.told('b', 'enter')).toMatchObject([{ step: 2, source: { kind: 'checkpoint', step: 2 } }]);
  });

  test('waits for the end of a reduction: that gradient would be missed', () => {
    const script = new CoordinatorScript({ totalSteps: 9 });
    script.enter('a');
    script.computeAll('a');
    script.hello('b');
    script.prepared('b');
    expect(script.kinds).toEqual([]);
    expect(script.state.workers.get('b')!.phase).toBe('prepared');
    script.vote('a');
    expect(script.state.workers.get('b')).toMatchObject({ phase: 'following', followsFrom: 1 });
    expect(script.told('b', 'commit')).toEqual([]);
  });

  test('waits while an older state is being stored, which would be of no use to it', () => {
    const script = new CoordinatorScript({ totalSteps: 9, checkpointEvery: 1 });
    script.enter('a');
    script.step('a');
    script.step('a');
    expect(script.state.checkpoint!.step).toBe(1);
    script.hello('b');
    script.prepared('b');
    expect(script.state.workers.get('b')!.phase).toBe('prepared');
    script.store();
    expect(script.state.workers.get('b')).toMatchObject({ phase: 'following', followsFrom: 2 });
    expect(script.state.checkpoint!.step).toBe(2);
  });

  test('follows a state that is just being stored', () => {
    const script = new CoordinatorScript({ totalSteps: 9, checkpointEvery: 2 });
    script.enter('a');
    script.step('a');
    script.step('a');
    script.hello('b');
    script.prepared('b');
    expect(script.kinds).toEqual([]);
    expect(script.state.workers.get('b')).toMatchObject({ phase: 'following', followsFrom: 2 });
    script.store();
    expect(script.told('b', 'enter')).toHaveLength(1);
  });

  test('that is lost while it follows holds nobody up: the reduction is tried without it', () => {
    const script = joining();
    script.computeAll('a');
    script.lose('b');
    expect(script.kinds).toEqual(['abort>a', 'members>a', 'reduce>a']);
    expect(script.told('a', 'reduce')).toMatchObject([{ attempt: 2, slotOwners: [0, 0, 0, 0] }]);
    script.vote('a');
    expect(script.kinds[0]).toBe('appendCommit');
  });

  test('that cannot get its state has another one made, and is sent away the third time', () => {
    const script = joining();
    script.store();
    for (let count = 1; count < 3; count += 1) {
      script.say('b', { type: 'stateFailed', reason: 'damaged' });
      expect(script.notes).toContain('stateFailed');
      expect(script.told('b', 'enter')).toHaveLength(1);
    }
    script.say('b', { type: 'stateFailed', reason: 'damaged' });
    expect(script.told('b', 'refused')).toMatchObject([
      { reason: expect.stringContaining('3 tries: damaged') },
    ]);
    expect(script.state.workers.has('b')).toBe(false);
    expect(script.phase).toBe('computing');
  });

  test('whose parameters are not those the log names is sent away', () => {
    const script = joining();
    script.store();
    script.computeAll('a');
    script.vote('a');
    script.vote('b', DIGEST_B, null);
    // By now it is on record what step 3 started from.
    script.ready('b', DIGEST_C, { step: 2 });
    expect(script.told('b', 'refused')).toMatchObject([{ reason: expect.stringContaining(DIGEST_C) }]);
  });

  test('that says it is ready for a step that has not been is not believed', () => {
    const script = joining();
    script.store();
    script.ready('b', DIGEST_A, { step: 9 });
    expect(script.state.workers.get('b')!.phase).toBe('following');
  });

  test('of a run whose members are all lost while a checkpoint is stored enters with that one', () => {
    const script = new CoordinatorScript({ totalSteps: 9, checkpointEvery: 1 });
    script.enter('a');
    script.step('a');
    script.step('a');
    script.uploaded('a');
    expect(script.kinds).toEqual(['storeCheckpoint']);
    script.lose('a');
    script.hello('b');
    script.prepared('b');
    script.tick(1000);
    expect(script.told('b', 'enter')).toEqual([]);
    script.event({ type: 'checkpointStored', step: 1 });
    expect(script.told('b', 'enter')).toMatchObject([{ step: 1, source: { kind: 'checkpoint', step: 1 } }]);
    expect(script.state).toMatchObject({ stateStep: 1, storedStep: 1 });
  });
});

describe('a lagging replica', () => {
  test('gets no slots until it has caught up, and the plan does not count on it', () => {
    const script = new CoordinatorScript({ minWorkers: 2, totalSteps: 9 });
    script.enter('a', 'b');
    script.computeAll('a', 'b');
    script.queue.length = 0;
    script.vote('a');
    script.vote('b', DIGEST_B, null);
    expect(script.state.workers.get('b')).toMatchObject({ phase: 'member', isLagging: true });
    expect(script.queue).toMatchObject([{ first: 0, count: 4 }]);
    script.computeAll('a');
    script.voteAll('a', 'b');
    expect(script.state.workers.get('b')).toMatchObject({ isLagging: false });
    expect(script.queue).toHaveLength(2);
  });

  test('is not compared by the digest it does not tell, but by its gradient', () => {
    const script = new CoordinatorScript({ minWorkers: 3, totalSteps: 9 });
    script.enter('a', 'b', 'c');
    script.computeAll('a');
    script.voteAll('a', 'b');
    script.vote('c', DIGEST_C, null);
    expect(script.kinds[0]).toBe('quarantined>c');
  });

  test('has no say in what the majority is', () => {
    // Two followers that share a wrong gradient do not outvote the one that computed.
    const script = new CoordinatorScript({ minWorkers: 3, totalSteps: 9 });
    script.enter('a', 'b', 'c');
    script.computeAll('a');
    script.vote('b', DIGEST_C, null);
    script.vote('c', DIGEST_C, null);
    script.vote('a');
    expect(script.kinds.slice(0, 2)).toEqual(['quarantined>b', 'quarantined>c']);
  });
});

describe('a quarantined replica', () => {
  const QUARANTINED = ['a', 'b', 'c'];

  function quarantining(gradient = DIGEST_C, parameters = DIGEST_A): CoordinatorScript {
    const script = new CoordinatorScript({ minWorkers: 3, totalSteps: 9 });
    script.enter(...QUARANTINED);
    script.computeAll(...QUARANTINED);
    script.voteAll('a', 'b');
    script.vote('c', gradient, parameters);
    return script;
  }

  test.each([
    ['gradients', DIGEST_C, DIGEST_A],
    ['parameters', DIGEST_B, DIGEST_C],
  ])(
    'is a minority whose %s differ; its slots are computed again, and it is healed',
    (_, gradient, parameters) => {
      const script = quarantining(gradient, parameters);
      expect(script.kinds).toEqual([
        'quarantined>c',
        ...['abort>a', 'abort>b', 'abort>c'],
        'enqueue',
        // Before the first step the state is the initial one.
        'enter>c',
      ]);
      expect(script.told('c', 'quarantined')).toMatchObject([
        { reason: expect.stringContaining('differs from the majority') },
      ]);
      script.computeAll('a');
      const [order] = script.told('a', 'reduce');
      expect(order).toMatchObject({ attempt: 2 });
      expect(order!.slotOwners).not.toContain(2);
      script.voteAll('a', 'b');
      script.vote('c', DIGEST_B, null);
      expect(script.kinds[0]).toBe('appendCommit');
      script.ready('c', DIGEST_A, { step: 0 });
      expect(script.state.workers.get('c')).toMatchObject({ phase: 'member', numQuarantines: 1 });
    },
  );

  test('computes nothing, and what it had computed does not count, until it is ready again', () => {
    const script = quarantining();
    const [job] = script.queue;
    script.lease('c', job!);
    expect(script.told('c', 'denied')).toHaveLength(1);
  });

  test('has a checkpoint made for it by the others, when there is none of this state', () => {
    const script = new CoordinatorScript({ minWorkers: 3, totalSteps: 9 });
    script.enter(...QUARANTINED);
    script.step(...QUARANTINED);
    script.computeAll(...QUARANTINED);
    script.voteAll('a', 'b');
    script.vote('c', DIGEST_C);
    expect(script.told('c', 'enter')).toEqual([]);
    expect(script.state.checkpoint).toMatchObject({ step: 1, pending: new Set(['a', 'b']) });
    script.store();
    expect(script.told('c', 'enter')).toMatchObject([{ source: { kind: 'checkpoint', step: 1 } }]);
  });

  test('takes the checkpoint with it that it had a part in', () => {
    const script = new CoordinatorScript({ minWorkers: 3, totalSteps: 9, checkpointEvery: 1 });
    script.enter(...QUARANTINED);
    script.step(...QUARANTINED);
    const before = script.state.checkpoint!;
    script.computeAll(...QUARANTINED);
    script.voteAll('a', 'b');
    script.vote('c', DIGEST_C);
    expect(script.kinds).toContain('abortCheckpoint');
    expect(script.state.checkpoint!.attempt).toBe(before.attempt + 1);
  });

  test('is sent away the third time: then its device is broken', () => {
    const script = quarantining();
    for (let count = 1; count < 3; count += 1) {
      script.ready('c', DIGEST_A, { step: 0 });
      script.computeAll('a', 'b');
      script.voteAll('a', 'b');
      script.vote('c', DIGEST_C);
    }
    expect(script.told('c', 'refused')).toMatchObject([
      { reason: expect.stringContaining('test its memory and device') },
    ]);
    expect([...script.state.workers.keys()]).toEqual(['a', 'b']);
    script.computeAll('a');
    script.voteAll('a', 'b');
    expect(script.kinds[0]).toBe('appendCommit');
  });
});

describe('a worker that comes back', () => {
  const held = (step: number, pending: { step: number; gradientDigest: string } | null = null) => ({
    ...{ step, parametersDigest: DIGEST_A, pending },
  });

  /** Two members, of whom `b` was cut off while step 2 is computed. */
  function cutOff(): CoordinatorScript {
    const script = new CoordinatorScript({ minWorkers: 2, totalSteps: 9 });
    script.enter('a', 'b');
    script.step('a', 'b');
    script.lose('b');
    return script;
  }

  test('with the state of the run goes on with that, and nobody has to store or wait', () => {
    const script = cutOff();
    script.comeBack('b/2', 'b', held(1));
    expect(script.kinds).toEqual(['enter>b/2']);
    expect(script.told('b/2', 'enter')).toMatchObject([{ step: 1, source: { kind: 'held' } }]);
    script.ready('b/2', DIGEST_A, { step: 1 });
    expect(script.state.workers.get('b/2')).toMatchObject({ phase: 'member', worker: 'b' });
  });

  test('with the newest step voted for, whose commit it has not heard, is told how to apply it', () => {
    const script = cutOff();
    script.comeBack('b/2', 'b', held(0, { step: 1, gradientDigest: DIGEST_B }));
    expect(script.told('b/2', 'enter')).toMatchObject([
      { step: 1, source: { kind: 'pending', tokens: 46, learningRate: Math.fround(3e-4) } },
    ]);
  });

  test.each([
    ['an older state', held(0)],
    ['a gradient that did not commit', held(0, { step: 1, gradientDigest: DIGEST_C })],
    [
      'other parameters than the log names',
      { ...held(0, { step: 1, gradientDigest: DIGEST_B }), parametersDigest: DIGEST_C },
    ],
    ['a state that has never been', held(4)],
    ['nothing', null],
  ])('with %s takes the way of a joiner', (_, kept) => {
    const script = cutOff();
    script.comeBack('b/2', 'b', kept);
    expect(script.kinds).toEqual(['beginCheckpoint', 'snapshot>a']);
    expect(script.state.workers.get('b/2')).toMatchObject({ phase: 'following', isEntering: false });
  });

  test('in the middle of a reduction takes part in the next attempt', () => {
    const script = cutOff();
    script.computeAll('a');
    script.comeBack('b/2', 'b', held(1));
    expect(script.kinds).toEqual([
      ...['enter>b/2', 'abort>a', 'abort>b/2'],
      ...['members>a', 'members>b/2', 'reduce>a', 'reduce>b/2'],
    ]);
    expect(script.told('a', 'reduce')).toMatchObject([{ attempt: 2 }]);
    script.vote('a');
    expect(script.phase).toBe('reducing');
    script.vote('b/2');
    expect(script.kinds[0]).toBe('appendCommit');
  });
});

describe('when nobody holds the state', () => {
  const held = (step: number) => ({ step, parametersDigest: DIGEST_A, pending: null });

  /** Two steps in, nothing stored, and the only member gone at 0 ms. */
  function orphaned(): CoordinatorScript {
    const script = new CoordinatorScript({ totalSteps: 5 });
    script.enter('a');
    script.step('a');
    script.step('a');
    script.lose('a');
    script.queue.length = 0;
    return script;
  }

  test('who may come back with it is waited for, also by those who are there', () => {
    const script = orphaned();
    expect(script.state).toMatchObject({ stateStep: 2, activity: { phase: 'gathering' } });
    script.hello('b');
    script.prepared('b');
    script.tick(999);
    expect(script.kinds).toEqual([]);
    script.comeBack('a/2', 'a', held(2));
    expect(script.told('a/2', 'enter')).toMatchObject([{ step: 2, source: { kind: 'held' } }]);
    expect(script.notes).toContain('stateKept');
    script.ready('a/2', DIGEST_A, { step: 2 });
    expect(script.queue).toMatchObject([{ step: 3 }]);
  });

  test('without them the run goes back to what is stored, and repeats the steps since', () => {
    const script = orphaned();
    script.tick(999);
    script.hello('b');
    script.prepared('b');
    script.tick(1000);
    expect(script.notes).toContain('rewound');
    expect(script.told('b', 'enter')).toMatchObject([{ step: 0, source: { kind: 'initial' } }]);
    script.ready('b');
    expect(script.queue).toMatchObject([{ step: 1 }]);
    // What is repeated must agree with the log, and is not written into it again.
    script.computeAll('b');
    script.vote('b');
    expect(script.kinds).toEqual(['commit>b', 'committed', 'enqueue']);
    expect(script.effects.find(({ type }) => type === 'committed')).toMatchObject({ repeated: true });
  });

  test('nobody is waited for who is back without it', () => {
    const script = orphaned();
    script.comeBack('a/2', 'a', null);
    expect(script.notes).toContain('rewound');
    expect(script.told('a/2', 'enter')).toMatchObject([{ source: { kind: 'initial' } }]);
  });

  test('an older state that was kept is better than what is stored', () => {
    const script = orphaned();
    script.comeBack('a/2', 'a', held(1));
    expect(script.state).toMatchObject({ stateStep: 1, storedStep: 0 });
    script.ready('a/2', DIGEST_A, { step: 1 });
    expect(script.queue).toMatchObject([{ step: 2 }]);
    script.computeAll('a/2');
    script.vote('a/2');
    expect(script.effects.find(({ type }) => type === 'committed')).toMatchObject({ repeated: true });
  });

  test('a follower repeats the steps as well', () => {
    const script = new CoordinatorScript({ totalSteps: 9 });
    script.enter('a');
    script.step('a');
    script.hello('b');
    script.prepared('b');
    expect(script.state.workers.get('b')).toMatchObject({ phase: 'following', followsFrom: 1 });
    script.lose('a');
    script.heartbeat('b');
    script.tick(1000);
    expect(script.told('b', 'enter')).toMatchObject([{ step: 0, source: { kind: 'initial' } }]);
    expect(script.state.workers.get('b')).toMatchObject({ followsFrom: 0 });
  });

  test('in the last checkpoint: the run does not end without its weights', () => {
    const script = new CoordinatorScript({ totalSteps: 1 });
    script.enter('a');
    script.step('a');
    expect(script.phase).toBe('closing');
    script.lose('a');
    expect(script.kinds).toEqual(['abortCheckpoint']);
    script.comeBack('a/2', 'a', held(1));
    expect(script.told('a/2', 'enter')).toMatchObject([{ source: { kind: 'held' } }]);
    script.ready('a/2', DIGEST_A, { step: 1 });
    expect(script.state.checkpoint).toMatchObject({ step: 1 });
    script.store();
    expect(script.effects.at(-1)).toEqual({ type: 'finish', outcome: { kind: 'completed', step: 1 } });
  });
});

describe('after a restart of the coordinator', () => {
  const commit = (gradientDigest: string) =>
    ({ kind: 'committed', gradientDigest, parametersDigest: DIGEST_A, tokens: 46 }) as const;
  const recorded = new Map([
    [1, commit(DIGEST_B)],
    [2, commit(DIGEST_C)],
  ]);
  const restarted = () =>
    new CoordinatorScript({ totalSteps: 9, minWorkers: 2 }, { recorded, lastWorkers: ['a', 'b'] });
  const held = (step: number, pendingDigest: string | null = null) => ({
    step,
    parametersDigest: DIGEST_A,
    pending: pendingDigest === null ? null : { step: step + 1, gradientDigest: pendingDigest },
  });

  test('the run goes on from what its workers hold, without repeating a step', () => {
    const script = restarted();
    script.tick(5);
    script.comeBack('a/2', 'a', held(2));
    expect(script.told('a/2', 'enter')).toEqual([]);
    script.comeBack('b/2', 'b', held(1, DIGEST_C));
    expect(script.told('a/2', 'enter')).toMatchObject([{ step: 2, source: { kind: 'held' } }]);
    expect(script.told('b/2', 'enter')).toMatchObject([{ step: 2, source: { kind: 'pending', tokens: 46 } }]);
    script.ready('a/2', DIGEST_A, { step: 2 });
    script.ready('b/2', DIGEST_A, { step: 2 });
    expect(script.queue[0]).toMatchObject({ step: 3 });
    script.step('a/2', 'b/2');
    expect(script.kinds[0]).toBe('appendCommit');
  });

  test('the newest state wins; who holds an older one takes the way of a joiner', () => {
    const script = restarted();
    script.comeBack('a/2', 'a', held(2));
    script.comeBack('b/2', 'b', held(1));
    expect(script.told('a/2', 'enter')).toMatchObject([{ source: { kind: 'held' } }]);
    expect(script.told('b/2', 'enter')).toEqual([]);
    script.ready('a/2', DIGEST_A, { step: 2 });
    expect(script.state.checkpoint).toMatchObject({ step: 2, pending: new Set(['a/2']) });
    script.store();
    expect(script.told('b/2', 'enter')).toMatchObject([{ source: { kind: 'checkpoint', step: 2 } }]);
  });

  test('the wait for the others begins with the first tick, and ends', () => {
    const script = restarted();
    script.comeBack('a/2', 'a', held(2));
    expect(script.state.awaited).toMatchObject({ untilMs: null });
    script.tick(500);
    expect(script.state.awaited).toMatchObject({ untilMs: 1500 });
    script.heartbeat('a/2');
    script.tick(1499);
    expect(script.told('a/2', 'enter')).toEqual([]);
    script.tick(1500);
    expect(script.told('a/2', 'enter')).toHaveLength(1);
    expect(script.state.awaited).toBeNull();
  });

  test('a state that the log has not heard of is not taken', () => {
    const script = restarted();
    script.comeBack('a/2', 'a', held(7));
    script.comeBack('b/2', 'b', held(1, DIGEST_B));
    expect(script.state.stateStep).toBe(1);
    expect(script.told('b/2', 'enter')).toMatchObject([{ step: 1, source: { kind: 'held' } }]);
  });

  test('other layouts are still refused', () => {
    const script = restarted();
    script.comeBack('a/2', 'a', held(2));
    script.hello('c');
    script.prepared('c', [{ ...LAYOUT[0]!, shape: [7] }]);
    expect(script.kinds).toEqual(['refused>c']);
  });
});
