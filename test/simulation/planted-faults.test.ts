/**
 * The simulator bites: each fault planted in the protocol is found within a bounded number of
 * schedules, and the seed that found it shows it again.
 */
import { expect, test } from 'vitest';
import { createKernels } from '../../src/kernels/index.ts';
import {
  BrokenProperty,
  Oracle,
  type Parts,
  REAL_PARTS,
  runSchedule,
  scheduleOf,
} from '../../src/simulator/index.ts';
import { PLANTED_FAULTS } from '../support/planted-faults.ts';

/** Most are found within 60; the rarest needs a joiner that is asked to leave while a step is reduced. */
const SCHEDULES_MAX = 3000;

const oracle = new Oracle(createKernels());

/** What a schedule finds; null when it breaks nothing. */
function findingOf(seed: number, parts: Parts): string | null {
  try {
    runSchedule(scheduleOf(seed), { oracle, parts });
    return null;
  } catch (error) {
    if (!(error instanceof BrokenProperty)) throw error;
    return error.message;
  }
}

test.each(Object.entries(PLANTED_FAULTS))('finds that %s', { timeout: 180_000 }, (_name, mutant) => {
  const parts = { ...REAL_PARTS, ...mutant };
  for (let seed = 0; seed < SCHEDULES_MAX; seed += 1) {
    const finding = findingOf(seed, parts);
    if (finding === null) continue;
    expect(findingOf(seed, parts)).toBe(finding);
    expect(findingOf(seed, REAL_PARTS)).toBeNull();
    return;
  }
  expect.fail(`${SCHEDULES_MAX} schedules found nothing`);
});

test('a finding tells the moves that led to it', () => {
  const parts = { ...REAL_PARTS, synced: { log: false, checkpoint: true } };
  for (let seed = 0; seed < SCHEDULES_MAX; seed += 1) {
    try {
      runSchedule(scheduleOf(seed), { oracle, parts });
    } catch (error) {
      expect(error).toBeInstanceOf(BrokenProperty);
      const { moves } = error as BrokenProperty;
      expect(moves.at(-1)).toBe('the coordinator dies');
      return;
    }
  }
  expect.fail('nothing was found');
});
