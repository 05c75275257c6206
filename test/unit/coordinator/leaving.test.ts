/** How workers leave politely in the coordinator's machine. */
import { describe, expect, test } from 'vitest';
import {
  CoordinatorScript,
  DIGEST_A,
  DIGEST_B,
  DIGEST_C,
  slotsOf,
} from '../../support/coordinator-script.ts';

function started(names: readonly string[], settings = {}): CoordinatorScript {
  const script = new CoordinatorScript({ minWorkers: names.length, totalSteps: 9, ...settings });
  script.enter(...names);
  return script;
}

const drain = (script: CoordinatorScript, name: string) => script.say(name, { type: 'draining' });

describe('a worker that drains', () => {
  test('keeps its slots and its vote in the step under way, and goes at the boundary after it', () => {
    const script = started(['a', 'b']);
    const [mine, theirs] = script.queue.splice(0);
    script.lease('a', mine!);
    script.lease('b', theirs!);
    drain(script, 'b');
    expect(script.kinds).toEqual([]);
    script.compute('a', mine!);
    script.compute('b', theirs!);
    expect(script.kinds).toEqual(['members>a', 'members>b', 'reduce>a', 'reduce>b']);
    script.vote('a');
    expect(script.phase).toBe('reducing');
    script.vote('b');
    expect(script.kinds).toEqual(['appendCommit', 'commit>a', 'commit>b', 'committed', 'stop>b', 'enqueue']);
    // The next step is cut for who is left.
    expect(script.queue).toMatchObject([{ step: 2, first: 0, count: 4 }]);
  });

  test('hands back what it has not begun; the others take that', () => {
    const script = started(['a', 'b']);
    const [mine, theirs] = script.queue.splice(0);
    script.lease('a', mine!);
    script.lease('b', theirs!);
    drain(script, 'b');
    script.handBack('b', theirs!, theirs!.first + 1);
    expect(script.kinds).toEqual(['enqueue']);
    expect(slotsOf(script.queue)).toEqual([theirs!.first + 1]);
    script.compute('b', theirs!, [{ slot: theirs!.first, tokens: 12, lossSum: 1 }]);
    script.compute('a', mine!);
    script.computeAll('a');
    expect(script.told('a', 'reduce')).toMatchObject([{ slotOwners: [0, 0, 1, 0] }]);
  });

  test('is known until its connection is gone, which is no loss', () => {
    const script = started(['a', 'b']);
    drain(script, 'b');
    script.computeAll('a');
    script.voteAll('a', 'b');
    expect(script.state.workers.get('b')!.phase).toBe('leaving');
    const { generation } = script.state;
    script.lose('b');
    expect(script.notes).not.toContain('workerLost');
    expect([...script.state.workers.keys()]).toEqual(['a']);
    expect(script.state.generation).toBe(generation);
  });

  test('may have taken a job as it left: what waits is planned anew when it is gone', () => {
    const script = started(['a', 'b']);
    drain(script, 'b');
    script.computeAll('a');
    script.voteAll('a', 'b');
    const [lost] = script.queue.splice(0);
    script.lose('b');
    expect(script.kinds).toEqual(['enqueue']);
    expect(slotsOf(script.queue)).toEqual(slotsOf([lost!]));
    script.computeAll('a');
    expect(script.kinds).toEqual(['members>a', 'reduce>a']);
  });

  test('and says so twice has said it once', () => {
    const script = started(['a', 'b']);
    drain(script, 'b');
    expect(script.notes).toEqual(['workerDraining']);
    expect(drain(script, 'b')).toEqual([]);
  });

  test('stays until its part of a checkpoint is there', () => {
    const script = started(['a', 'b'], { checkpointEvery: 1 });
    drain(script, 'b');
    script.computeAll('a');
    script.voteAll('a', 'b');
    expect(script.kinds).not.toContain('stop>b');
    expect(script.state.checkpoint!.pending.has('b')).toBe(true);
    script.uploaded('b');
    // Between two steps, that is: it is asked to stay through the one that has begun since.
    expect(script.kinds).toEqual([]);
    script.computeAll('a');
    script.voteAll('a', 'b');
    expect(script.kinds).toContain('stop>b');
  });

  test('is asked for by whoever runs the cluster, by way of the worker itself', () => {
    const script = started(['a', 'b']);
    expect(script.event({ type: 'drainRequested', incarnation: 'b' })).toMatchObject([
      { type: 'send', to: 'b', message: { type: 'drain' } },
    ]);
    expect(script.event({ type: 'drainRequested', incarnation: 'nobody' })).toEqual([]);
  });
});

describe('the last that holds the state', () => {
  test('gives up the step nobody is left for, and stays until the state is stored', () => {
    const script = started(['a']);
    script.step('a');
    const [job] = script.queue;
    script.lease('a', job!);
    drain(script, 'a');
    expect(script.kinds).toEqual(['beginCheckpoint', 'snapshot>a']);
    expect(script.phase).toBe('gathering');
    script.uploaded('a');
    expect(script.kinds).toEqual(['storeCheckpoint']);
    expect(script.state.workers.get('a')!.phase).toBe('member');
    script.event({ type: 'checkpointStored', step: 1 });
    expect(script.kinds).toEqual(['stop>a']);
    // Whoever comes now goes on from there.
    script.queue.length = 0;
    script.enter('b');
    expect(script.queue).toMatchObject([{ step: 2, first: 0, count: 4 }]);
  });

  test('gives up the step as well when those who were to finish it are lost', () => {
    const script = started(['a', 'b']);
    script.step('a', 'b');
    drain(script, 'a');
    script.lose('b');
    expect(script.kinds).toEqual(['beginCheckpoint', 'snapshot>a']);
    expect(script.phase).toBe('gathering');
    script.store();
    expect(script.kinds).toEqual(['stop>a']);
  });

  test('finishes a step of which it has computed all that there is', () => {
    const script = started(['a', 'b']);
    script.computeAll('a');
    drain(script, 'a');
    script.lose('b');
    expect(script.kinds).toEqual(['abort>a', 'members>a', 'reduce>a']);
    script.vote('a');
    expect(script.kinds[0]).toBe('appendCommit');
  });

  test('leaves at once when its state is stored already', () => {
    const script = started(['a']);
    drain(script, 'a');
    expect(script.kinds).toEqual(['stop>a']);
  });

  test('is one of two that drain: the first may go, the second stores', () => {
    const script = started(['a', 'b']);
    script.step('a', 'b');
    drain(script, 'a');
    expect(script.phase).toBe('computing');
    drain(script, 'b');
    expect(script.kinds).toEqual(['stop>a', 'beginCheckpoint', 'snapshot>b']);
    script.store();
    expect(script.kinds).toEqual(['stop>b']);
  });

  test('that drains leaves its state to one who is on the way in', () => {
    const script = started(['a']);
    script.step('a');
    script.hello('b');
    script.prepared('b');
    drain(script, 'a');
    script.store();
    expect(script.told('b', 'enter')).toMatchObject([{ source: { kind: 'checkpoint', step: 1 } }]);
    script.ready('b', DIGEST_A, { step: 1 });
    expect(script.phase).toBe('computing');
    expect(script.queue.at(-1)).toMatchObject({ step: 2 });
  });
});

describe('a worker that drains before it is a member', () => {
  test('is let go at once', () => {
    const script = started(['a']);
    script.hello('b');
    drain(script, 'b');
    expect(script.kinds).toEqual(['stop>b']);
    script.prepared('b');
    expect(script.kinds).toEqual([]);
    expect(script.state.workers.get('b')!.phase).toBe('leaving');
  });

  test('and takes part in a reduction goes at the boundary after it', () => {
    const script = started(['a']);
    script.step('a');
    script.hello('b');
    script.prepared('b');
    script.computeAll('a');
    expect(script.kinds).toEqual(['members>a', 'members>b', 'reduce>a', 'reduce>b']);
    drain(script, 'b');
    expect(script.kinds).toEqual([]);
    script.vote('a');
    script.vote('b', DIGEST_B, null);
    expect(script.kinds).toEqual(['appendCommit', 'commit>a', 'commit>b', 'committed', 'stop>b', 'enqueue']);
  });

  test('and was to bring the lost state back does not keep the run from its end', () => {
    const script = started(['a'], { totalSteps: 1 });
    script.step('a');
    script.lose('a');
    script.comeBack('a/2', 'a', { step: 1, parametersDigest: DIGEST_A, pending: null });
    expect(script.told('a/2', 'enter')).toHaveLength(1);
    drain(script, 'a/2');
    expect(script.kinds).toEqual(['stop>a/2']);
    // Nobody has the state: whoever comes repeats the step.
    script.queue.length = 0;
    script.enter('b');
    expect(script.queue).toMatchObject([{ step: 1 }]);
  });

  test('because its replica is being healed is let go as well, and keeps nobody waiting', () => {
    const script = started(['a', 'b', 'c']);
    drain(script, 'c');
    script.computeAll('a');
    script.voteAll('a', 'b');
    script.vote('c', DIGEST_C);
    expect(script.kinds).toContain('stop>c');
    expect(script.kinds).not.toContain('enter>c');
    script.computeAll('a');
    script.vote('a', DIGEST_B);
    script.vote('b', DIGEST_B);
    expect(script.kinds[0]).toBe('appendCommit');
  });
});
