/**
 * Over a thousand schedules of the real protocol, by seed. `npm run simulate -- --seed S --schedules 1
 * --trace` replays one that fails here.
 */
import { expect, test } from 'vitest';
import { createKernels } from '../../src/kernels/index.ts';
import { FAULTS, type Fault, Oracle, runSchedule, scheduleOf } from '../../src/simulator/index.ts';

const SCHEDULES = 1200;

test(`${SCHEDULES} schedules break no promise, and every fault fires`, { timeout: 180_000 }, () => {
  const oracle = new Oracle(createKernels());
  const done = new Map<Fault, number>();
  for (let seed = 0; seed < SCHEDULES; seed += 1) {
    const cluster = runSchedule(scheduleOf(seed), { oracle });
    for (const [fault, count] of cluster.faultsDone) done.set(fault, (done.get(fault) ?? 0) + count);
  }
  // A fault that never fires proves nothing.
  for (const fault of FAULTS) expect(done.get(fault), fault).toBeGreaterThan(SCHEDULES / 20);
});

test('nor do they where gradients are summed in bfloat16', () => {
  const oracle = new Oracle(createKernels('bfloat16'));
  for (let seed = 0; seed < 200; seed += 1) runSchedule(scheduleOf(seed), { oracle });
});

test('a seed gives the same moves every time', () => {
  const movesOf = (seed: number) => {
    const moves: string[] = [];
    runSchedule(scheduleOf(seed), {
      oracle: new Oracle(createKernels()),
      onMove: (line) => moves.push(line),
    });
    return moves;
  };
  expect(movesOf(7)).toEqual(movesOf(7));
  expect(movesOf(7)).not.toEqual(movesOf(8));
});
