/** Where a step's time goes: of one step over its workers, and of many steps. In milliseconds. Pure; rows add up. */
import { assert } from '../base/index.ts';
import type { PhaseTimes } from '../protocol/index.ts';

/** Means over the workers. */
export interface StepPhases extends Omit<PhaseTimes, 'wait'> {
  /** What the worker that computed longest took beyond the mean: the others had nothing left to compute meanwhile. */
  readonly imbalance: number;
  /** What is left of the step: leases, messages, waiting. */
  readonly rest: number;
  readonly step: number;
}

export const PHASES = [
  'data',
  'compute',
  'imbalance',
  'reduce',
  'commit',
  'optimizer',
  'rest',
  'step',
] as const satisfies readonly (keyof StepPhases)[];

/** Of a step that took `stepMs` from commit to commit, within which the optimizer applied the update before. */
export function phasesOf(
  workers: readonly PhaseTimes[],
  updateBefore: readonly PhaseTimes[],
  stepMs: number,
): StepPhases | null {
  if (workers.length === 0 || updateBefore.length === 0) return null;
  const data = meanOf(workers.map((times) => times.data));
  const compute = meanOf(workers.map((times) => times.compute));
  const reduce = meanOf(workers.map((times) => times.reduce));
  const commit = meanOf(workers.map((times) => times.commit));
  const optimizer = meanOf(updateBefore.map((times) => times.optimizer));
  const longestMs = Math.max(...workers.map((times) => times.data + times.compute));
  const imbalance = longestMs - data - compute;
  const rest = stepMs - longestMs - reduce - commit - optimizer;
  return { data, compute, imbalance, reduce, commit, optimizer, rest, step: stepMs };
}

/** The mean of the half of the steps whose times are in the middle: those that the machine disturbed do not count. */
export function typicalPhases(steps: readonly StepPhases[]): StepPhases | null {
  if (steps.length === 0) return null;
  const quarter = Math.floor(steps.length / 4);
  const middle = steps.toSorted((a, b) => a.step - b.step).slice(quarter, steps.length - quarter);
  const mean = (phase: keyof StepPhases) => meanOf(middle.map((step) => step[phase]));
  return {
    data: mean('data'),
    compute: mean('compute'),
    imbalance: mean('imbalance'),
    reduce: mean('reduce'),
    commit: mean('commit'),
    optimizer: mean('optimizer'),
    rest: mean('rest'),
    step: mean('step'),
  };
}

function meanOf(values: readonly number[]): number {
  assert(values.length > 0, 'a mean is of something');
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
