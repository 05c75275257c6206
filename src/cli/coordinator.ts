/** `lockstep coordinator`: the coordinator alone, for workers on this host or others. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { ServedDataset } from '../data/index.ts';
import { addRunFlags, atLeastOne, port, type RunFlags } from './flags.ts';
import { addDashboardFlags, type DashboardFlags, RunObserver } from './observe.ts';
import { openPlannedRun, planRun, reachRedis } from './open-run.ts';
import { runCommand, say } from './terminal.ts';
import { tokenFromEnvironment } from './token.ts';
import { exitCodeOf } from './train.ts';
import { lockstepVersion } from './version.ts';

interface CoordinatorFlags extends RunFlags, DashboardFlags {
  readonly redis: string;
  readonly advertiseRedis?: string;
  readonly host: string;
  readonly advertise?: string;
  readonly port: number;
  readonly httpPort: number;
  readonly minWorkers: number;
}

export function addCoordinatorCommand(program: Command): void {
  const command = program
    .command('coordinator')
    .description('start a coordinator alone; workers connect to it');
  addDashboardFlags(addRunFlags(command))
    .requiredOption('--redis <url>', 'Redis for the job queue, as redis://:PASSWORD@HOST:6379')
    .option('--advertise-redis <url>', 'the same Redis as workers reach it (default: --redis)')
    .option('--host <address>', 'interface to listen on', '127.0.0.1')
    .option(
      '--advertise <address>',
      'address that workers are told (default: --host, or the host name for 0.0.0.0)',
    )
    .option('--port <n>', 'control port; 0 takes a free one', port, 7700)
    .option('--http-port <n>', 'port for checkpoint transfer; 0 takes a free one', port, 7701)
    .option('--min-workers <n>', 'workers to wait for before the first step', atLeastOne, 1)
    .action((flags: CoordinatorFlags) => runCommand(() => coordinate(flags)));
}

async function coordinate(flags: CoordinatorFlags): Promise<number> {
  const token = tokenFromEnvironment();
  const plan = await planRun(flags);
  await reachRedis(flags.redis, plan);
  const run = await openPlannedRun(plan);
  const data = new ServedDataset(flags.data, run.datasetSha256, run.config.data);
  const observer = await RunObserver.open({ run, dataDir: flags.data, redisUrl: flags.redis, flags });
  const coordinator = await observer.start({
    run,
    data,
    token,
    redisUrl: flags.redis,
    advertisedRedisUrl: flags.advertiseRedis ?? flags.redis,
    host: flags.host,
    advertisedHost: flags.advertise ?? (flags.host === '0.0.0.0' ? hostname() : flags.host),
    controlPort: flags.port,
    httpPort: flags.httpPort,
    minWorkers: flags.minWorkers,
    version: lockstepVersion(),
  });
  say(`run ${run.id}: waiting for workers at ${coordinator.endpoint}`);
  let asked = false;
  const onSignal = () => {
    if (asked) process.exit(130);
    asked = true;
    coordinator.requestStop();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    // No message of the protocol asks a worker on another host to leave.
    await observer.follow(coordinator);
    const outcome = await coordinator.outcome;
    await observer.ended(outcome);
    return exitCodeOf(outcome);
  } catch (error) {
    observer.failed(error, coordinator.state.stateStep);
    throw error;
  } finally {
    observer.progress.end();
    await observer.close();
    await coordinator.close();
    await data.close();
  }
}
