/**
 * The promises of DESIGN section 1 over schedules that fast-check draws and shrinks: a failure comes
 * with the fewest workers, slots and faults that show it. Many more, by seed: test/simulation.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createKernels } from '../../src/kernels/index.ts';
import { FAULTS, type Fault, Oracle, runSchedule, type Schedule } from '../../src/simulator/index.ts';

const oracle = new Oracle(createKernels());

function schedules(faults: fc.Arbitrary<Fault>): fc.Arbitrary<Schedule> {
  return fc.record({
    numWorkers: fc.integer({ min: 1, max: 4 }),
    microBatches: fc.integer({ min: 1, max: 9 }),
    checkpointEvery: fc.integer({ min: 1, max: 4 }),
    skipsStep: fc.boolean(),
    faults: fc.array(faults, { maxLength: 12 }),
    seed: fc.nat(2 ** 31 - 1),
  });
}

describe('a cluster', () => {
  test.each([false, true])(
    'without faults ends with the same log, however many workers took part; skipping: %s',
    (skipsStep) => {
      const logs = [1, 2, 3, 4].map((numWorkers) => {
        const size = { numWorkers, microBatches: 8, checkpointEvery: 2, skipsStep };
        const { coordinator } = runSchedule({ ...size, faults: [], seed: numWorkers }, { oracle });
        return coordinator.disk.log.map(({ step, outcome }) => ({ step, outcome }));
      });
      for (const log of logs) expect(log).toEqual(logs[0]);
      const skipped = logs[0]!.filter(({ outcome }) => outcome.kind === 'skipped');
      expect(skipped.map(({ step }) => step)).toEqual(skipsStep ? [3] : []);
    },
  );

  test.each(FAULTS)('keeps its promises under any number of: %s', (fault) => {
    fc.assert(
      fc.property(schedules(fc.constant(fault)), (schedule) => {
        const { log } = runSchedule(schedule, { oracle }).coordinator.disk;
        expect(log.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
      }),
      { numRuns: 25 },
    );
  });
});
