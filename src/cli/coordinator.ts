/** `lockstep coordinator`: the coordinator alone, for workers on this host or others. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { deadlinesFrom } from '../config/index.ts';
import { Coordinator } from '../coordinator/index.ts';
import { ServedDataset } from '../data/index.ts';
import { checkRedis } from '../queue/index.ts';
import { addRunFlags, atLeastOne, port, type RunFlags } from './flags.ts';
import { TOKEN_VARIABLE } from './local-workers.ts';
import { closeRun, openPlannedRun, planRun } from './open-run.ts';
import { ProgressDisplay } from './progress.ts';
import { lineLogger, runCommand, say } from './terminal.ts';
import { exitCodeOf } from './train.ts';
import { lockstepVersion } from './version.ts';

interface CoordinatorFlags extends RunFlags {
  readonly redis: string;
  readonly advertiseRedis?: string;
  readonly host: string;
  readonly advertise?: string;
  readonly port: number;
  readonly httpPort: number;
  readonly minWorkers: number;
}

export function addCoordinatorCommand(program: Command): void {
  addRunFlags(program.command('coordinator').description('start a coordinator alone; workers connect to it'))
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
  await checkRedis(flags.redis, deadlinesFrom(plan.config.network.heartbeatLimitMs).connectLimitMs);
  const run = await openPlannedRun(plan);
  const progress = new ProgressDisplay(run.config.steps, lineLogger().child({ run: run.id }));
  const data = new ServedDataset(flags.data, run.datasetSha256, run.config.data);
  let coordinator: Coordinator;
  try {
    coordinator = await Coordinator.start({
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
      logger: progress.logger().child({ role: 'coordinator' }),
      listener: progress,
      version: lockstepVersion(),
    });
  } catch (error) {
    await closeRun(run);
    throw error;
  }
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
    const outcome = await coordinator.outcome;
    progress.end();
    return exitCodeOf(outcome);
  } finally {
    await coordinator.close();
    await data.close();
  }
}

export function tokenFromEnvironment(): string {
  const token = process.env[TOKEN_VARIABLE] ?? '';
  if (token.length >= 16) return token;
  throw new LockstepError(
    'CONFIG_INVALID',
    `${TOKEN_VARIABLE} is ${token === '' ? 'not set' : 'shorter than 16 characters'}: ` +
      'give coordinator and workers one secret, as from `openssl rand -hex 32`',
  );
}
