/** `lockstep prepare-worker`: helps with a preparation, here or from another host that sees the same files. */
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { JobSite, type WorkFolder } from '../data/index.ts';
import { checkRedis, type PerformTask, TaskWorker } from '../queue/index.ts';
import { queueNameOf, REDIS_VARIABLE } from './prepare-fleet.ts';
import { runCommand, warn } from './terminal.ts';

interface PrepareWorkerFlags {
  readonly out: string;
  readonly redis?: string;
}

const REDIS_LIMIT_MS = 5_000;
const LOOK_MS = 500;

export function addPrepareWorkerCommand(program: Command): void {
  program
    .command('prepare-worker')
    .description('help with the `lockstep prepare` that is under way in --out; ends when it does')
    .requiredOption('--out <dir>', "the data set's folder, on storage that all hosts share")
    .option('--redis <url>', `the Redis given to \`prepare\` (default: $${REDIS_VARIABLE})`)
    .action((flags: PrepareWorkerFlags) => runCommand(() => help(flags)));
}

async function help({ out, redis }: PrepareWorkerFlags): Promise<number> {
  const url = redis ?? process.env[REDIS_VARIABLE];
  if (url === undefined) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `--redis is missing: name the Redis that \`prepare\` was given`,
    );
  }
  const first = JobSite.open(out);
  if (first === null) {
    throw new LockstepError(
      'DATA_MISSING',
      `${out}: no preparation is under way here: start \`lockstep prepare --out ${out} --redis ...\` first`,
    );
  }
  await checkRedis(url, REDIS_LIMIT_MS);
  // Started by `prepare`: without it there is nothing to work for.
  process.on('disconnect', () => process.exit(1));
  const stop = stopSignal();
  // Begun again after an interruption it has the same id, but may allow more.
  for (let site: JobSite | null = first; site?.plan.id === first.plan.id && !stop.aborted; ) {
    const { work } = site;
    const worker = await TaskWorker.open(url, queueNameOf(site), performing(site), warn);
    await untilChanged(work, stop);
    await worker.close();
    site = JobSite.open(out);
  }
  process.removeAllListeners('disconnect');
  if (process.connected === true) process.disconnect();
  return 0;
}

function performing(site: JobSite): PerformTask {
  return (data, isRetry) => site.run(site.parseJob(data), isRetry);
}

/** Aborted when the user asks to stop; asked again, the process ends at once. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return controller.signal;
}

/** Until the plan is gone or another, or `stop` is aborted. */
function untilChanged(work: WorkFolder, stop: AbortSignal): Promise<void> {
  const before = work.planStamp();
  return new Promise((resolve) => {
    const look = setInterval(() => {
      if (stop.aborted || work.planStamp() !== before) {
        clearInterval(look);
        resolve();
      }
    }, LOOK_MS);
  });
}
