/**
 * `lockstep simulate`: the protocol's real state machines under seeded schedules of moves and faults, in
 * this process. The first schedule that breaks a promise ends the command with its seed, which replays it.
 */
import type { Command } from 'commander';
import { createKernels } from '../kernels/index.ts';
import { BrokenProperty, FAULTS, type Fault, Oracle, runSchedule, scheduleOf } from '../simulator/index.ts';
import { atLeastOne, wholeNumber } from './flags.ts';
import { formatCount, runCommand, say } from './terminal.ts';

interface SimulateFlags {
  readonly seed: number;
  readonly schedules: number;
  readonly trace?: true;
}

/** What a series of schedules came to. */
interface Tally {
  numSchedules: number;
  numMoves: number;
  numCommits: number;
  readonly faults: Map<Fault, number>;
}

export function addSimulateCommand(program: Command): void {
  program
    .command('simulate')
    .description(
      'run the protocol under random schedules of messages, delays and faults, and check its promises',
    )
    .option('--seed <n>', 'seed of the first schedule; the next ones count up', wholeNumber, 0)
    .option('--schedules <n>', 'schedules to run', atLeastOne, 1000)
    .option('--trace', 'print every move; with --schedules 1, the replay of one seed')
    .action((flags: SimulateFlags) => runCommand(() => Promise.resolve(simulate(flags))));
}

function simulate({ seed: first, schedules, trace }: SimulateFlags): number {
  const oracle = new Oracle(createKernels());
  const tally: Tally = { numSchedules: 0, numMoves: 0, numCommits: 0, faults: new Map() };
  const startMs = performance.now();
  for (let seed = first; seed < first + schedules; seed += 1) {
    const schedule = scheduleOf(seed);
    if (trace === true) say(`seed ${seed}: ${JSON.stringify(schedule)}`);
    try {
      const cluster = runSchedule(schedule, { oracle, ...(trace === true && { onMove: say }) });
      tally.numSchedules += 1;
      tally.numMoves += cluster.numMoves;
      tally.numCommits += cluster.coordinator.disk.log.length;
      for (const [fault, count] of cluster.faultsDone) {
        tally.faults.set(fault, (tally.faults.get(fault) ?? 0) + count);
      }
    } catch (error) {
      if (!(error instanceof BrokenProperty)) throw error;
      // A trace has shown the moves already.
      if (trace !== true) for (const move of error.moves) say(`  ${move}`);
      report(tally, startMs);
      say(`BROKEN       ${error.message}`);
      say(`replay       lockstep simulate --seed ${seed} --schedules 1 --trace`);
      return 1;
    }
  }
  report(tally, startMs);
  return 0;
}

function report({ numSchedules, numMoves, numCommits, faults }: Tally, startMs: number): void {
  const minutes = (performance.now() - startMs) / 60_000;
  const fired = FAULTS.map((fault) => `${fault} ${formatCount(faults.get(fault) ?? 0)}`);
  say(`schedules    ${formatCount(numSchedules)}, ${formatCount(numSchedules / minutes)} a minute`);
  say(`moves        ${formatCount(numMoves)}`);
  say(`commits      ${formatCount(numCommits)}, each with the bits of an undisturbed run`);
  say(`faults       ${fired.join(', ')}`);
}
