/**
 * A run of Lockstep as `lockstep train` starts it (private Redis, coordinator, worker processes), with
 * a listener that notes when each step was committed and where the workers say the time went.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { assert, silentLogger } from '../base/index.ts';
import { type LocalProcess, lockstepVersion, startLocalWorker } from '../cli/index.ts';
import { Coordinator, openRun } from '../coordinator/index.ts';
import { ServedDataset } from '../data/index.ts';
import type { PhaseTimes } from '../protocol/index.ts';
import { startPrivateRedis } from '../queue/index.ts';
import { phasesOf, type StepPhases } from './step-phases.ts';
import type { Workload } from './workload.ts';

export interface TrainedStep {
  readonly step: number;
  /** Real target tokens. */
  readonly tokens: number;
  /** From the commit before to this one. */
  readonly milliseconds: number;
  /** Mean over the real target tokens, in nats. */
  readonly loss: number;
  /** What fell between the two commits. Null for the last step, whose times no vote reports any more. */
  readonly phases: StepPhases | null;
  /** The shortest time from vote to commit among the workers; null likewise. */
  readonly settlementMs: number | null;
}

interface Commit {
  readonly step: number;
  readonly tokens: number;
  readonly lossSum: number;
  readonly atMs: number;
  /** Of each worker, reported with this step's vote: of the step before. */
  readonly timesBefore: readonly PhaseTimes[];
}

export interface TrainedRun {
  /** The measured ones, in order. */
  readonly steps: readonly TrainedStep[];
  /** Largest resident memory of a worker up to the last commit, shared vectors included; null where no /proc tells. */
  readonly peakBytes: number | null;
}

/** Trains through the workload once. Rejects if the run does not complete. */
export async function trainLockstep(
  workload: Workload,
  numWorkers: number,
  folder: string,
): Promise<TrainedRun> {
  const { config, datasetSha256, tokenizerJson } = workload;
  const dir = await mkdtemp(join(folder, 'run-'));
  const redis = await startPrivateRedis();
  try {
    const run = await openRun({ dir, config, datasetSha256, tokenizerJson, resume: false });
    const commits: Commit[] = [];
    let workers: readonly LocalProcess[] = [];
    let peakBytes: number | null = null;
    const token = randomBytes(32).toString('hex');
    const coordinator = await Coordinator.start({
      run,
      // Workers of this machine read the folder; nobody asks.
      data: new ServedDataset(workload.dataDir, datasetSha256, config.data),
      token,
      redisUrl: redis.url,
      advertisedRedisUrl: redis.url,
      host: '127.0.0.1',
      advertisedHost: '127.0.0.1',
      controlPort: 0,
      httpPort: 0,
      minWorkers: numWorkers,
      logger: silentLogger,
      listener: {
        onCommitted({ step, tokens, lossSum }, state) {
          const times = [...state.workers.values()].flatMap((worker) => worker.times ?? []);
          peakBytes = maxOf([peakBytes, ...workers.map(({ pid }) => peakBytesOf(pid))]);
          commits.push({
            step,
            tokens,
            lossSum,
            atMs: performance.now(),
            timesBefore: times,
          });
        },
      },
      version: lockstepVersion(),
    });
    workers = Array.from({ length: numWorkers }, (_, index) =>
      startLocalWorker({
        name: `worker-${index}`,
        links: ['--coordinator', coordinator.endpoint],
        token,
        dataDir: workload.dataDir,
        logFile: join(dir, `worker-${index}.log`),
        throttleMs: 0,
        // As PyTorch beside it.
        hostThreads: 1,
      }),
    );
    try {
      const outcome = await Promise.race([coordinator.outcome, firstToEnd(workers)]);
      if (outcome.kind === 'failed') throw new Error(outcome.failure.message);
    } finally {
      await coordinator.close();
      await Promise.all(workers.map((worker) => worker.ended));
    }
    return { steps: measuredSteps(commits, workload.options.warmupSteps), peakBytes };
  } finally {
    await redis.stop();
  }
}

/** Of a process that runs, from Linux's account of it. */
function peakBytesOf(pid: number): number | null {
  try {
    const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return kibibytes === undefined ? null : Number(kibibytes) * 1024;
  } catch {
    // Another system, or the process has just ended.
    return null;
  }
}

function maxOf(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.max(...known);
}

/** Rejects once a worker has ended by itself; what the others do then is not what was to be measured. */
async function firstToEnd(workers: readonly LocalProcess[]): Promise<never> {
  return new Promise((_, reject) => {
    for (const { name, ended } of workers) {
      void ended.then(({ code, lastLine }) => {
        if (code !== 0) reject(new Error(`${name} ended with code ${code}: ${lastLine}`));
      });
    }
  });
}

function measuredSteps(commits: readonly Commit[], warmupSteps: number): TrainedStep[] {
  assert(warmupSteps >= 1, 'the first step has no commit before it to be timed from');
  return commits.slice(warmupSteps).map(({ step, tokens, lossSum, atMs, timesBefore }, index) => {
    const times = commits[warmupSteps + index + 1]?.timesBefore ?? [];
    const milliseconds = atMs - commits[warmupSteps + index - 1]!.atMs;
    return {
      step,
      tokens,
      milliseconds,
      loss: lossSum / tokens,
      phases: phasesOf(times, timesBefore, milliseconds),
      settlementMs: times.length === 0 ? null : Math.min(...times.map(({ commit }) => commit)),
    };
  });
}
