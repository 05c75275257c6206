/**
 * The promises of DESIGN section 1 over random schedules of the whole cluster: every step is committed
 * once and in order, with every slot in it once, with the bits of an undisturbed run; and once faults
 * have stopped, the run comes to its end.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SETTINGS } from '../support/coordinator-script.ts';
import { type Fault, SimulatedCluster } from '../support/simulated-cluster.ts';

const FAULTS: readonly Fault[] = [
  'kill',
  'freeze',
  'losePlace',
  'emptyQueue',
  'restartCoordinator',
  'damage',
];
/** Far more than any run of this size takes; reached only by one that is stuck. */
const MOVES_MAX = 20_000;

interface Schedule {
  readonly numWorkers: number;
  readonly microBatches: number;
  readonly checkpointEvery: number;
  readonly faults: readonly Fault[];
  readonly seed: number;
}

function scheduleOf(faults: fc.Arbitrary<Fault>): fc.Arbitrary<Schedule> {
  return fc.record({
    numWorkers: fc.integer({ min: 1, max: 4 }),
    microBatches: fc.integer({ min: 1, max: 9 }),
    checkpointEvery: fc.integer({ min: 1, max: 4 }),
    faults: fc.array(faults, { maxLength: 12 }),
    seed: fc.nat(2 ** 31 - 1),
  });
}

function run({ numWorkers, microBatches, checkpointEvery, faults, seed }: Schedule): SimulatedCluster {
  const settings = { ...SETTINGS, totalSteps: 5, minWorkers: numWorkers, microBatches, checkpointEvery };
  const cluster = new SimulatedCluster(settings, seed);
  for (let count = 0; count < numWorkers; count += 1) cluster.startWorker();
  cluster.run(faults, MOVES_MAX);
  expect(cluster.outcome).toEqual({ kind: 'completed', step: 5 });
  expect(cluster.log.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
  return cluster;
}

describe('a cluster', () => {
  test('without faults ends with the same log, however many workers took part', () => {
    const logs = [1, 2, 3, 4].map((numWorkers) => {
      const { log } = run({ numWorkers, microBatches: 8, checkpointEvery: 2, faults: [], seed: numWorkers });
      return log.map(({ generation: _g, attempt: _a, slots, ...bits }) => ({
        ...bits,
        slots: slots.map(({ worker: _w, ...result }) => result),
      }));
    });
    for (const log of logs) expect(log).toEqual(logs[0]);
  });

  test.each(FAULTS)('keeps its promises under any number of: %s', (fault) => {
    fc.assert(
      fc.property(scheduleOf(fc.constant(fault)), (schedule) => void run(schedule)),
      {
        numRuns: 25,
      },
    );
  });

  test('keeps its promises whatever goes wrong', () => {
    const done = new Map<Fault, number>();
    fc.assert(
      fc.property(scheduleOf(fc.constantFrom(...FAULTS)), (schedule) => {
        for (const [fault, count] of run(schedule).faultsDone)
          done.set(fault, (done.get(fault) ?? 0) + count);
      }),
      { numRuns: 120 },
    );
    // A fault that never fires proves nothing.
    for (const fault of FAULTS) expect(done.get(fault)).toBeGreaterThan(20);
  });
});
