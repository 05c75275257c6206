/** `lockstep train`: a private Redis, a coordinator and N workers from one command. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { deadlinesFrom, type RunConfig } from '../config/index.ts';
import type { Coordinator, Outcome, RunFolder } from '../coordinator/index.ts';
import { ServedDataset } from '../data/index.ts';
import { usefulHostThreads } from '../kernels/index.ts';
import { type PrivateRedis, startPrivateRedis } from '../queue/index.ts';
import { type DevicesFlag, devicesFlag, devicesFor } from './devices.ts';
import { addRunFlags, atLeastOne, hostThreads, type RunFlags, wholeNumber } from './flags.ts';
import { type LocalProcess, startLocalWorker } from './local-workers.ts';
import { addDashboardFlags, type DashboardFlags, RunObserver } from './observe.ts';
import { openPlannedRun, planRun, reachRedis } from './open-run.ts';
import type { ProgressDisplay } from './progress.ts';
import { isTerminal, runCommand, say } from './terminal.ts';
import { lockstepVersion } from './version.ts';

export interface TrainFlags extends RunFlags, DashboardFlags {
  readonly workers: number;
  readonly devices?: DevicesFlag;
  readonly hostThreads?: number;
  readonly redis?: string;
  readonly throttleWorker?: readonly string[];
}

export function addTrainCommand(program: Command): void {
  const command = program
    .command('train')
    .description('train on this machine: Redis, coordinator and workers at once');
  addFleetFlags(addDashboardFlags(addRunFlags(command))).action((flags: TrainFlags) =>
    runCommand(async () => exitCodeOf(await train(flags))),
  );
}

/** What concerns this machine's workers. */
export function addFleetFlags(command: Command): Command {
  return command
    .option('--workers <n>', 'worker processes', atLeastOne, 1)
    .option(
      '--devices <list>',
      'one worker on each of these devices: all, or indices or names as 0,1',
      devicesFlag,
    )
    .option(
      '--host-threads <n>',
      "threads of each worker for sums and updates in the host's memory (default: this machine's cores, shared out; 8 at most)",
      hostThreads,
    )
    .option('--redis <url>', 'use a running Redis instead of a private one')
    .option(
      '--throttle-worker <index:ms...>',
      'slow a worker down by so much per micro-batch (to try stragglers)',
    );
}

export async function train(flags: TrainFlags): Promise<Outcome> {
  const plan = await planRun(flags);
  const devices = await workerDevices(flags, plan.config.engine);
  const throttles = parseThrottles(flags.throttleWorker ?? [], devices.length);
  let redis: PrivateRedis | null = null;
  if (flags.redis === undefined) redis = await startPrivateRedis();
  else await reachRedis(flags.redis, plan);
  try {
    const run = await openPlannedRun(plan);
    return await trainWith(run, flags, redis?.url ?? flags.redis ?? '', devices, throttles);
  } finally {
    await redis?.stop();
  }
}

async function trainWith(
  run: RunFolder,
  flags: TrainFlags,
  redisUrl: string,
  devices: readonly (string | null)[],
  throttles: ReadonlyMap<number, number>,
): Promise<Outcome> {
  const observer = await RunObserver.open({ run, dataDir: flags.data, redisUrl, flags });
  const { progress } = observer;
  const token = randomBytes(32).toString('hex');
  const data = new ServedDataset(flags.data, run.datasetSha256, run.config.data);
  const coordinator = await observer.start({
    run,
    data,
    token,
    redisUrl,
    advertisedRedisUrl: redisUrl,
    host: '127.0.0.1',
    advertisedHost: '127.0.0.1',
    controlPort: 0,
    httpPort: 0,
    minWorkers: devices.length,
    version: lockstepVersion(),
  });
  const workers: LocalProcess[] = [];
  const release = stopOnSignals(coordinator, workers, progress);
  try {
    await observer.follow(coordinator);
    if (isTerminal) say(headline(run, devices.length));
    for (const [index, device] of devices.entries()) {
      const worker = startLocalWorker({
        name: `worker-${index}`,
        links: ['--coordinator', coordinator.endpoint],
        token,
        dataDir: flags.data,
        logFile: join(run.dir, 'logs', `worker-${index}.log`),
        throttleMs: throttles.get(index) ?? 0,
        hostThreads: flags.hostThreads ?? usefulHostThreads(devices.length),
        device,
      });
      workers.push(worker);
    }
    const outcome = await Promise.race([coordinator.outcome, workersFailed(workers, coordinator)]);
    await observer.ended(outcome);
    return outcome;
  } catch (error) {
    observer.failed(error, coordinator.state.stateStep);
    throw error;
  } finally {
    release();
    progress.end();
    await observer.close();
    await coordinator.close();
    await data.close();
    await endWorkers(workers, deadlinesFrom(run.config.network.heartbeatLimitMs).shutdownLimitMs);
  }
}

/** The device of each worker; null leaves it to the engine. */
async function workerDevices(
  { devices: flag, workers }: TrainFlags,
  engine: RunConfig['engine'],
): Promise<readonly (string | null)[]> {
  if (flag === undefined) return Array.from({ length: workers }, () => null);
  const devices = await devicesFor(flag, engine);
  if (workers === 1 || workers === devices.length) return devices;
  throw new LockstepError(
    'CONFIG_INVALID',
    `--workers ${workers}: --devices names ${devices.length}, and each gets one worker; leave --workers out`,
    { context: { field: '--workers', value: workers } },
  );
}

function headline(run: RunFolder, workers: number): string {
  const { config } = run;
  const from = run.startStep === 0 ? '' : ` from step ${run.startStep}`;
  return (
    `run ${run.id} in ${run.dir}: preset ${config.preset}, engine ${config.engine}, ${config.steps} steps of ` +
    `${config.step.microBatches} x ${config.step.microBatchSize} sequences, ${workers} ${workers === 1 ? 'worker' : 'workers'}${from}`
  );
}

/** Rejects when no worker can do the work any more; one that ends while others go on is not the end. */
async function workersFailed(workers: readonly LocalProcess[], coordinator: Coordinator): Promise<never> {
  let left = workers.length;
  return new Promise((_, reject) => {
    for (const worker of workers) {
      void worker.ended.then(({ code, lastLine }) => {
        left -= 1;
        if (code === 0 || coordinator.state.activity.phase === 'finished') return;
        const started = coordinator.state.startedComputing;
        if (started && left > 0) return;
        const said = lastLine.replace(/^lockstep: /, '');
        const what = `${worker.name} ended${code === null ? '' : ` with code ${code}`}`;
        reject(new LockstepError('WORKER_LOST', `${what}: ${said === '' ? 'it said nothing' : said}`));
      });
    }
  });
}

function stopOnSignals(
  coordinator: Coordinator,
  workers: readonly LocalProcess[],
  progress: ProgressDisplay,
): () => void {
  let asked = false;
  const onSignal = () => {
    if (asked) {
      for (const worker of workers) worker.kill('SIGKILL');
      process.exit(130);
    }
    asked = true;
    progress.note('stopping after this step, with a checkpoint; press Ctrl-C again to exit now');
    coordinator.requestStop();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return () => {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  };
}

async function endWorkers(workers: readonly LocalProcess[], limitMs: number): Promise<void> {
  const all = Promise.all(workers.map((worker) => worker.ended));
  const timer = setTimeout(() => {
    for (const worker of workers) worker.kill('SIGKILL');
  }, limitMs);
  await all;
  clearTimeout(timer);
}

/** `1:200` slows worker 1 down by 200 ms per micro-batch. */
function parseThrottles(texts: readonly string[], workers: number): Map<number, number> {
  return new Map(
    texts.map((text) => {
      const [index = '', milliseconds = ''] = text.split(':');
      const number = wholeNumberOr(index, text);
      if (number >= workers) {
        throw new LockstepError(
          'CONFIG_INVALID',
          `--throttle-worker ${text}: there are only ${workers} workers, from 0`,
        );
      }
      return [number, wholeNumberOr(milliseconds, text)];
    }),
  );
}

function wholeNumberOr(text: string, flag: string): number {
  try {
    return wholeNumber(text);
  } catch (cause) {
    throw new LockstepError('CONFIG_INVALID', `--throttle-worker ${flag}: expected INDEX:MILLISECONDS`, {
      cause,
    });
  }
}

/** Says how it ended; 0 for a run that is complete or was stopped. */
export function exitCodeOf(outcome: Outcome): number {
  switch (outcome.kind) {
    case 'completed':
      say(`complete at step ${outcome.step}`);
      return 0;
    case 'stopped':
      say(`stopped at step ${outcome.step}; go on with --resume`);
      return 0;
    case 'failed':
      throw new LockstepError(outcome.failure.code, outcome.failure.message);
  }
}
