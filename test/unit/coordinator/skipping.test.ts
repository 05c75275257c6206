/** A step whose gradient is not finite, where the run is to skip such steps: on all replicas alike. */
import { describe, expect, test } from 'vitest';
import { PRESETS } from '../../../src/config/index.ts';
import type { RecordedStep } from '../../../src/coordinator/index.ts';
import { CoordinatorScript, DIGEST_A, DIGEST_B, failureOf } from '../../support/coordinator-script.ts';

const optimizer = { ...PRESETS.tiny.optimizer, onNotFinite: 'skip' } as const;

function started(names: readonly string[], settings = {}): CoordinatorScript {
  const script = new CoordinatorScript({
    ...{ minWorkers: names.length, totalSteps: 20, optimizer },
    ...settings,
  });
  script.enter(...names);
  return script;
}

describe('a skipped step', () => {
  test('is on disk before anyone hears of it; the next one is planned from the same parameters', () => {
    const script = started(['a', 'b']);
    script.notFinite('b');
    expect(script.kinds).toEqual(['appendSkipped', 'skip>a', 'skip>b', 'skipped', 'enqueue']);
    expect(script.effects[0]).toEqual({
      type: 'appendSkipped',
      record: { step: 1, generation: 2, slot: 2, worker: 'b', reason: 'loss is NaN' },
    });
    expect(script.told('a', 'skip')).toMatchObject([{ step: 1, reason: 'loss is NaN' }]);
    expect(script.queue.at(-1)).toMatchObject({ step: 2 });
    expect(script.state.stateStep).toBe(1);
  });

  test('is one for those who follow as well', () => {
    const script = started(['a']);
    script.step('a');
    script.hello('b');
    script.prepared('b');
    script.notFinite('a');
    expect(script.kinds).toContain('skip>b');
  });

  test('may be found out only by the sum, while it is reduced', () => {
    const script = started(['a', 'b']);
    script.computeAll('a', 'b');
    script.vote('a');
    script.say('b', { type: 'notFinite', slot: null, reason: 'the summed gradient overflows' });
    expect(script.effects[0]).toMatchObject({ type: 'appendSkipped', record: { step: 1, slot: null } });
    // What is still said about it changes nothing.
    script.vote('b', DIGEST_B, DIGEST_A, { step: 1, attempt: 1 });
    script.say('b', { type: 'notFinite', slot: 3, reason: 'x' }, { step: 1 });
    expect(script.kinds).toEqual([]);
    expect(script.state.stateStep).toBe(1);
  });

  test('is stored like any other when a checkpoint is due', () => {
    const script = started(['a'], { checkpointEvery: 1 });
    script.notFinite('a');
    expect(script.kinds).toEqual([
      ...['appendSkipped', 'skip>a', 'skipped', 'beginCheckpoint', 'snapshot>a'],
      'enqueue',
    ]);
  });

  test('may be the last one', () => {
    const script = started(['a'], { totalSteps: 1 });
    script.notFinite('a');
    expect(script.phase).toBe('closing');
    script.store();
    expect(script.effects.at(-1)).toEqual({ type: 'finish', outcome: { kind: 'completed', step: 1 } });
  });

  test('ends the run instead, with the remedy, where that is the configuration’s wish', () => {
    const script = started(['a'], { optimizer: PRESETS.tiny.optimizer });
    script.notFinite('a');
    expect(failureOf(script)).toMatchObject({ code: 'NOT_FINITE' });
    expect(script.all.some(({ type }) => type === 'appendSkipped')).toBe(false);
  });

  test('is passing trouble, ten in a row are not', () => {
    const script = started(['a']);
    for (let step = 1; step <= 10; step += 1) {
      script.notFinite('a');
      expect(script.state.stateStep).toBe(step);
    }
    script.notFinite('a');
    const failure = failureOf(script)!;
    expect(failure).toMatchObject({ code: 'NOT_FINITE' });
    expect(failure.message).toMatch(/step 11.*after 10 steps in a row that were skipped.*learningRate/);
    expect(failure.message).not.toContain('\n');
  });

  test('is forgiven by a commit', () => {
    const script = started(['a']);
    for (let count = 0; count < 10; count += 1) script.notFinite('a');
    script.queue.splice(0, script.queue.length - 1);
    script.step('a');
    expect(script.kinds[0]).toBe('appendCommit');
    script.notFinite('a');
    expect(script.kinds[0]).toBe('appendSkipped');
  });
});

describe('a skipped step that comes again', () => {
  const commit = {
    kind: 'committed',
    gradientDigest: DIGEST_B,
    parametersDigest: DIGEST_A,
    tokens: 46,
  } as const;
  const skipped = { kind: 'skipped' } as const;

  function resumed(first: typeof commit | typeof skipped): CoordinatorScript {
    const script = new CoordinatorScript({ totalSteps: 9, optimizer }, { recorded: new Map([[1, first]]) });
    script.enter('a');
    return script;
  }

  test('is skipped again, and not written again', () => {
    const script = resumed(skipped);
    script.notFinite('a');
    expect(script.kinds).toEqual(['skip>a', 'skipped', 'enqueue']);
  });

  test('must not commit', () => {
    const script = resumed(skipped);
    script.step('a');
    const failure = failureOf(script)!;
    expect(failure.code).toBe('DIVERGED');
    expect(failure.message).toContain('the log holds that it was skipped');
    expect(script.all.some(({ type }) => type === 'committed')).toBe(false);
  });

  test('must have been one the first time', () => {
    const script = resumed(commit);
    script.notFinite('a');
    expect(failureOf(script)).toMatchObject({
      code: 'DIVERGED',
      message: expect.stringContaining('the log holds a commit of step 1'),
    });
  });

  test('leaves the parameters as they were: what the step after started from is what it starts from', () => {
    const script = new CoordinatorScript(
      { totalSteps: 9, optimizer },
      {
        recorded: new Map<number, RecordedStep>([
          [1, skipped],
          [2, commit],
        ]),
      },
    );
    script.hello('a');
    script.prepared('a');
    script.ready('a', DIGEST_B);
    expect(script.told('a', 'refused')).toMatchObject([{ reason: expect.stringContaining(DIGEST_A) }]);
  });
});
