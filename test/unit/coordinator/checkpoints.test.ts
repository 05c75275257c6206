/** The life of a checkpoint in the coordinator's machine. */
import { describe, expect, test } from 'vitest';
import { CoordinatorScript, DIGEST_B, DIGEST_C } from '../../support/coordinator-script.ts';

/** Step 1 is committed and its checkpoint begun; step 2 is planned unless the run ends with step 1. */
function uploading(names: readonly string[], settings = {}): CoordinatorScript {
  const script = new CoordinatorScript({
    minWorkers: names.length,
    totalSteps: 9,
    checkpointEvery: 1,
    ...settings,
  });
  script.enter(...names);
  script.step(...names);
  return script;
}

describe('a checkpoint', () => {
  test('is asked of all members in equal parts that cover the vector once, and training goes on', () => {
    const script = uploading(['a', 'b', 'c']);
    const parts = ['a', 'b', 'c'].flatMap((name) => script.told(name, 'snapshot'));
    // 100 floats for three.
    expect(parts.map(({ offset, length, step }) => [offset, length, step])).toEqual([
      [0, 33, 1],
      [33, 33, 1],
      [66, 34, 1],
    ]);
    expect(script.kinds.at(-1)).toBe('enqueue');
    expect(script.phase).toBe('computing');
  });

  test('is stored when the last part is there, and counts from then on', () => {
    const script = uploading(['a', 'b']);
    script.uploaded('a');
    script.uploaded('a');
    script.uploaded('b', { step: 2 });
    expect(script.kinds).toEqual([]);
    script.uploaded('b');
    expect(script.kinds).toEqual(['storeCheckpoint']);
    expect(script.state.storedStep).toBe(0);
    script.event({ type: 'checkpointStored', step: 1 });
    expect(script.state).toMatchObject({ storedStep: 1, checkpoint: null });
    // What lies before it is never repeated.
    expect([...script.state.recorded.keys()]).toEqual([]);
  });

  test('that is due while another is written comes at the next commit after that', () => {
    const script = uploading(['a']);
    script.step('a');
    expect(script.kinds).not.toContain('beginCheckpoint');
    expect(script.state.checkpointDue).toBe(true);
    script.uploaded('a');
    script.event({ type: 'checkpointStored', step: 1 });
    script.step('a');
    expect(script.effects).toContainEqual(expect.objectContaining({ type: 'beginCheckpoint', step: 3 }));
    expect(script.state.checkpointDue).toBe(false);
  });

  test('outlives a worker that had done its part', () => {
    const script = uploading(['a', 'b']);
    script.uploaded('a');
    script.lose('a');
    expect(script.kinds).not.toContain('abortCheckpoint');
    script.uploaded('b');
    expect(script.kinds).toEqual(['storeCheckpoint']);
  });

  test('of a lost uploader is given up, and asked for at the next commit', () => {
    const script = uploading(['a', 'b']);
    script.lose('b');
    expect(script.effects).toContainEqual({
      type: 'abortCheckpoint',
      step: 1,
      reason: 'b was lost while it uploaded its part',
    });
    script.queue.length = 0;
    script.event({ type: 'queueEmptied' });
    script.step('a');
    expect(script.effects).toContainEqual({ type: 'beginCheckpoint', step: 2, attempt: 2 });
    expect(script.told('a', 'snapshot')).toMatchObject([{ offset: 0, length: 100 }]);
  });

  test('that is begun again takes no report of the try before', () => {
    const script = uploading(['a', 'b'], { totalSteps: 1 });
    script.lose('b');
    expect(script.kinds).toEqual(['abortCheckpoint', 'beginCheckpoint', 'snapshot>a']);
    expect(script.told('a', 'snapshot')).toMatchObject([{ step: 1, attempt: 2, offset: 0, length: 100 }]);
    script.uploaded('a', { attempt: 1 });
    script.uploadFailed('a', { attempt: 1 });
    expect(script.kinds).toEqual([]);
    script.uploaded('a');
    expect(script.kinds).toEqual(['storeCheckpoint']);
    script.event({ type: 'checkpointStored', step: 1 });
    expect(script.effects.at(-1)).toMatchObject({ type: 'finish', outcome: { kind: 'completed' } });
  });

  test('that could not be uploaded is one failure, however many parts of it fail', () => {
    const script = uploading(['a', 'b', 'c'], { totalSteps: 1 });
    const { attempt } = script.state.checkpoint!;
    script.uploadFailed('a');
    expect(script.kinds).toEqual([
      ...['abortCheckpoint', 'beginCheckpoint'],
      ...['snapshot>a', 'snapshot>b', 'snapshot>c'],
    ]);
    script.uploadFailed('b', { attempt });
    script.uploadFailed('c', { attempt });
    expect(script.state.uploadFailures).toBe(1);
    for (const name of ['a', 'b', 'c']) script.uploaded(name);
    expect(script.kinds).toEqual(['storeCheckpoint']);
  });

  test('that fails three times in a row ends the run, and a stored one in between forgives', () => {
    const script = uploading(['a']);
    const fail = () => {
      script.uploadFailed('a');
      if (script.phase !== 'finished') script.step('a');
    };
    fail();
    fail();
    script.uploaded('a');
    script.event({ type: 'checkpointStored', step: 3 });
    script.step('a');
    fail();
    fail();
    expect(script.phase).toBe('computing');
    fail();
    expect(script.effects.at(-1)).toMatchObject({
      type: 'finish',
      outcome: {
        kind: 'failed',
        failure: { code: 'WORKER_LOST', message: expect.stringContaining('refused') },
      },
    });
  });

  test('reports about no checkpoint, another step or from bystanders change nothing', () => {
    const script = uploading(['a']);
    const { checkpoint } = script.state;
    script.hello('late');
    script.uploaded('late');
    script.uploadFailed('late');
    script.uploadFailed('a', { step: 7 });
    script.event({ type: 'checkpointStored', step: 7 });
    expect(script.state.checkpoint).toEqual(checkpoint);
    script.uploaded('a');
    script.uploadFailed('a');
    expect(script.kinds).toEqual([]);
  });

  test('has no part of a replica that lags behind: it would come only when that has caught up', () => {
    const script = new CoordinatorScript({ minWorkers: 2, totalSteps: 9, checkpointEvery: 1 });
    script.enter('a', 'b');
    script.computeAll('a');
    script.vote('a');
    script.vote('b', DIGEST_B, null);
    expect(script.kinds).toContain('snapshot>a');
    expect(script.kinds).not.toContain('snapshot>b');
    expect(script.told('a', 'snapshot')).toMatchObject([{ offset: 0, length: 100 }]);
  });

  test('whose parts are of different parameters is not stored: the minority is quarantined', () => {
    const script = uploading(['a', 'b', 'c']);
    script.uploaded('a');
    script.uploaded('b', {}, DIGEST_C);
    script.uploaded('c');
    expect(script.kinds.slice(0, 2)).toEqual(['abortCheckpoint', 'quarantined>b']);
    expect(script.state.workers.get('b')).toMatchObject({ phase: 'following', numQuarantines: 1 });
    expect(script.all.some(({ type }) => type === 'storeCheckpoint')).toBe(false);
    // The others make another one, without it and for it.
    expect(script.state.checkpoint!.pending).toEqual(new Set(['a', 'c']));
  });

  test('whose parts are of different parameters, one against one, ends the run', () => {
    const script = uploading(['a', 'b']);
    script.uploaded('a');
    script.uploaded('b', {}, DIGEST_C);
    expect(script.effects.at(-1)).toMatchObject({
      type: 'finish',
      outcome: {
        kind: 'failed',
        failure: { code: 'DIVERGED', message: expect.stringContaining('replicas disagree') },
      },
    });
    expect(script.kinds).toContain('abortCheckpoint');
  });
});
