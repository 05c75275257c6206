/** `lockstep worker`: one worker process on one device. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { LockstepError } from '../base/index.ts';
import { ENGINE_NAMES, type EngineName } from '../config/index.ts';
import { usefulHostThreads } from '../kernels/index.ts';
import { type DataPlace, startWorker, type WorkerOptions } from '../worker/index.ts';
import { cacheFolder } from './cache-folder.ts';
import { type DevicesFlag, devicesFlag } from './devices.ts';
import { addressAndPort, type HostAndPort, hostPort, hostThreads, port, wholeNumber } from './flags.ts';
import { runCommand, warn } from './terminal.ts';
import { tokenFromEnvironment } from './token.ts';
import { runWorkerFleet } from './worker-fleet.ts';

interface WorkerFlags {
  readonly coordinator: string;
  readonly data?: string;
  readonly cache?: string;
  readonly name?: string;
  readonly host: string;
  readonly port: number;
  readonly advertise?: HostAndPort;
  readonly redisVia?: string;
  readonly httpVia?: string;
  readonly logFile?: string;
  readonly throttle: number;
  readonly engine?: EngineName;
  readonly device?: string;
  readonly devices?: DevicesFlag;
  readonly hostThreads?: number;
}

export function addWorkerCommand(program: Command): void {
  program
    .command('worker')
    .description('start one worker; everything else it needs comes from the coordinator')
    .requiredOption('--coordinator <endpoint>', 'where the coordinator listens, as tcp://HOST:7700')
    .option('--data <dir>', "this host's copy of the run's data set (default: fetched from the coordinator)")
    .option('--cache <dir>', 'where fetched data is kept (default: ~/.cache/lockstep/data)')
    .option('--name <name>', 'name within the run (default: worker-N)')
    .option('--host <address>', 'interface to listen on for other workers', '127.0.0.1')
    .option('--port <n>', 'port to listen on for other workers; 0 takes a free one', port, 0)
    .option(
      '--advertise <address[:port]>',
      'where other workers reach this one (default: --host, or the host name for 0.0.0.0; --port)',
      addressAndPort,
    )
    .option('--redis-via <host:port>', 'Redis as this worker reaches it, through a tunnel', hostPort)
    .option(
      '--http-via <host:port>',
      "the coordinator's port for checkpoint transfer as this worker reaches it",
      hostPort,
    )
    .option('--log-file <file>', 'append log lines to a file (default: standard error)')
    .option('--throttle <ms>', 'wait so long after each micro-batch (to play a slow device)', wholeNumber, 0)
    .addOption(
      new Option('--engine <name>', 'compute engine, where the run allows another than its own').choices(
        ENGINE_NAMES,
      ),
    )
    .option(
      '--host-threads <n>',
      "threads for sums and updates in the host's memory (default: this machine's cores, shared out among --devices; 8 at most)",
      hostThreads,
    )
    .option('--device <device>', 'which graphics card, by index or name as `lockstep doctor` lists them')
    .addOption(
      new Option('--devices <list>', 'start a worker on each of these: all, or indices or names as 0,1')
        .argParser(devicesFlag)
        .conflicts(['device', 'port', 'advertise']),
    )
    .action((flags: WorkerFlags) =>
      runCommand(() => (flags.devices === undefined ? work(flags) : workOnEach(flags, flags.devices))),
    );
}

function dataPlaceOf({ data, cache }: WorkerFlags): DataPlace {
  if (data !== undefined) return { kind: 'folder', dir: data };
  return {
    kind: 'coordinator',
    cacheDir: cache ?? join(cacheFolder(), 'data'),
    onCacheTrouble: (reason) => warn(`fetched data is not kept: ${reason}; training goes on`),
  };
}

/** One process for each device, with these flags but its own name and log. */
function workOnEach(flags: WorkerFlags, devices: DevicesFlag): Promise<number> {
  const { coordinator, data, cache, name, host, redisVia, httpVia, logFile, throttle, engine } = flags;
  return runWorkerFleet(devices, engine ?? 'auto', (device, numDevices) => {
    const own = (text: string | undefined) => (text === undefined ? undefined : `${text}-${device}`);
    const values = {
      ...{ coordinator, data, cache, name: own(name), host, engine, device },
      ...{ 'redis-via': redisVia, 'http-via': httpVia, 'log-file': own(logFile), throttle: String(throttle) },
      'host-threads': String(flags.hostThreads ?? usefulHostThreads(numDevices)),
    };
    return Object.entries(values).flatMap(([flag, value]) =>
      value === undefined ? [] : [`--${flag}`, value],
    );
  });
}

async function work(flags: WorkerFlags): Promise<number> {
  const options: WorkerOptions = {
    coordinator: flags.coordinator,
    token: tokenFromEnvironment(),
    name: flags.name ?? null,
    host: flags.host,
    port: flags.port,
    advertisedHost: flags.advertise?.host ?? (flags.host === '0.0.0.0' ? hostname() : flags.host),
    advertisedPort: flags.advertise?.port ?? null,
    redisVia: flags.redisVia ?? null,
    httpVia: flags.httpVia ?? null,
    data: dataPlaceOf(flags),
    throttleMs: flags.throttle,
    hostThreads: flags.hostThreads ?? usefulHostThreads(1),
    engine: { name: flags.engine ?? null, device: flags.device ?? null },
    log: { file: flags.logFile ?? null, level: 'info' },
  };
  const worker = startWorker(options);
  // The first signal is polite, the second hasty; whoever sends a third does not want to wait at all.
  let numSignals = 0;
  const leave = () => {
    numSignals += 1;
    if (numSignals > 2) process.exit(130);
    if (numSignals === 1) warn('leaving when the step is over; once more to leave at once');
    worker.drain();
  };
  process.on('SIGINT', leave);
  process.on('SIGTERM', leave);
  // Started by `train`: without its launcher there is nothing to work for.
  process.on('disconnect', () => process.exit(1));
  const outcome = await worker.outcome;
  process.removeAllListeners('disconnect');
  if (process.connected === true) process.disconnect();
  if (outcome.kind !== 'failed') return 0;
  if (outcome.code === 'UNEXPECTED') throw new Error(outcome.reason);
  throw new LockstepError(outcome.code, outcome.reason);
}
