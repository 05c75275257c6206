/**
 * A schedule: a small run, and what goes wrong in it. All of it follows from one seed, so that the seed
 * is all that a failure has to tell.
 */
import { PhiloxRng } from '../base/index.ts';
import { PRESETS } from '../config/index.ts';
import type { CoordinatorSettings } from '../coordinator/index.ts';
import { FAULTS, type Fault, SimulatedCluster } from './cluster.ts';
import type { Oracle } from './oracle.ts';
import { type Parts, REAL_PARTS } from './parts.ts';

/** Far more moves than any run of this size takes without faults; reached only by one that is stuck. */
const MOVES_MAX = 8000;
const WORKERS_MAX = 4;
const FAULTS_MAX = 12;
/** All but the one that comes last if at all. */
const ANYWHERE = FAULTS.filter((fault) => fault !== 'corrupt');

export interface Schedule {
  readonly seed: number;
  readonly numWorkers: number;
  readonly microBatches: number;
  readonly checkpointEvery: number;
  /** What becomes of a step that overflows: some runs have one, and skip it. */
  readonly skipsStep: boolean;
  /** In the order in which they happen. */
  readonly faults: readonly Fault[];
}

export function scheduleOf(seed: number): Schedule {
  const rng = new PhiloxRng({ seed, stream: 'sampling', substream: 2, step: 0, slot: 0 });
  const faults: Fault[] = Array.from(
    { length: rng.nextInt(FAULTS_MAX + 1) },
    () => ANYWHERE[rng.nextInt(ANYWHERE.length)]!,
  );
  if (rng.nextInt(4) === 0) faults.push('corrupt');
  return {
    seed,
    numWorkers: 1 + rng.nextInt(WORKERS_MAX),
    microBatches: 1 + rng.nextInt(9),
    checkpointEvery: 1 + rng.nextInt(4),
    skipsStep: rng.nextInt(3) === 0,
    faults,
  };
}

export interface ScheduleOptions {
  readonly oracle: Oracle;
  /** What is put to the test; by default what the product runs. */
  readonly parts?: Parts;
  readonly onMove?: (line: string) => void;
}

/** Runs a schedule to its end. Throws BrokenProperty. */
export function runSchedule(schedule: Schedule, options: ScheduleOptions): SimulatedCluster {
  const { numWorkers, microBatches, checkpointEvery, skipsStep, faults, seed } = schedule;
  const onNotFinite = skipsStep ? 'skip' : 'stop';
  const settings: CoordinatorSettings = {
    run: 'run',
    totalSteps: 5,
    microBatches,
    optimizer: { ...PRESETS.tiny.optimizer, onNotFinite },
    minWorkers: numWorkers,
    mixedEngines: false,
    // Both kinds of start, without a draw: the seeds of found failures keep their schedules.
    startsFromCheckpoint: seed % 2 === 1,
    checkpointEvery,
    heartbeatLimitMs: 1000,
  };
  const cluster = new SimulatedCluster({ parts: REAL_PARTS, ...options, settings, numWorkers, seed });
  cluster.run(faults, MOVES_MAX);
  return cluster;
}
