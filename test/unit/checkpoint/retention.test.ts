import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { obsoleteSteps } from '../../../src/checkpoint/retention.ts';
import { checkpointName, stepOfName } from '../../../src/checkpoint/sections.ts';

describe('retention', () => {
  it('keeps the newest and the multiples', () => {
    const steps = [0, 100, 200, 300, 400, 500];
    expect(obsoleteSteps(steps, 500, { keepLast: 2, keepEvery: null })).toEqual([300, 200, 100, 0]);
    expect(obsoleteSteps(steps, 500, { keepLast: 2, keepEvery: 200 })).toEqual([300, 100]);
    expect(obsoleteSteps(steps, 500, { keepLast: 9, keepEvery: null })).toEqual([]);
  });

  it('leaves later checkpoints alone, which a resume passed over', () => {
    expect(obsoleteSteps([5, 10, 15, 20], 10, { keepLast: 1, keepEvery: null })).toEqual([5]);
  });

  it('never gives up the one just written, nor more than it must', () => {
    const steps = fc.uniqueArray(fc.nat(50), { minLength: 1 });
    fc.assert(
      fc.property(
        steps,
        fc.integer({ min: 1, max: 5 }),
        fc.option(fc.integer({ min: 1, max: 9 })),
        (all, n, m) => {
          const committed = all[0]!;
          const gone = new Set(obsoleteSteps(all, committed, { keepLast: n, keepEvery: m }));
          expect(gone.has(committed)).toBe(false);
          for (const step of all) {
            const newer = all.filter((other) => other > step && other <= committed).length;
            const kept = step > committed || newer < n || (m !== null && step % m === 0);
            expect(gone.has(step)).toBe(!kept);
          }
        },
      ),
    );
  });
});

describe('names of checkpoints', () => {
  it('give their step back, and no other name does', () => {
    for (const step of [0, 12, 99_999_999, 100_000_000]) expect(stepOfName(checkpointName(step))).toBe(step);
    expect(checkpointName(12)).toBe('step-00000012');
    for (const name of ['step-12', '.writing-step-00000012-abcdef', 'step-00000012.old', 'step-0100000000']) {
      expect(stepOfName(name)).toBeNull();
    }
  });
});
