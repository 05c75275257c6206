import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PHASES, phasesOf, type StepPhases, typicalPhases } from '../../../src/bench/step-phases.ts';

const times = { data: 1, compute: 100, wait: 0, reduce: 10, commit: 2, optimizer: 5 };

function total(phases: StepPhases): number {
  return PHASES.reduce((sum, phase) => sum + (phase === 'step' ? 0 : phases[phase]), 0);
}

test('imbalance is what the longest computes beyond the mean, and the update is that of the step before', () => {
  const slow = { ...times, compute: 120 };
  const before = { ...times, optimizer: 8 };
  expect(phasesOf([times, slow], [before, before], 150)).toEqual({
    ...{ data: 1, compute: 110, imbalance: 10, reduce: 10, commit: 2, optimizer: 8, rest: 9, step: 150 },
  });
  expect(phasesOf([], [before], 150), 'no vote told').toBeNull();
});

test('the phases of all steps together add up, and disturbed steps do not count', () => {
  const milliseconds = fc.integer({ min: 0, max: 1000 });
  const step = fc
    .record({ compute: milliseconds, other: milliseconds, rest: milliseconds })
    .map(({ compute, other, rest }) =>
      phasesOf([times, { ...times, compute }], [{ ...times, optimizer: other }], compute + other + rest),
    );
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
      const typical = typicalPhases(steps.map((phases) => phases!))!;
      expect(total(typical)).toBeCloseTo(typical.step, 6);
    }),
  );
  const calm = phasesOf([times], [times], 120)!;
  const disturbed = phasesOf([times], [times], 9000)!;
  expect(typicalPhases([calm, disturbed, calm, calm])).toEqual(calm);
  expect(typicalPhases([])).toBeNull();
});
