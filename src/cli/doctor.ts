/** `lockstep doctor`: what this machine offers, and the remedy for each thing it lacks. */
import { execFileSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { availableParallelism, freemem, totalmem } from 'node:os';
import type { Command } from 'commander';
import { messageOf } from '../base/index.ts';
import type { EngineName } from '../config/index.ts';
import { ADAPTER_REMEDY, type Adapter, probeAdapters, probeEngines } from '../engine/index.ts';
import { usefulHostThreads } from '../kernels/index.ts';
import { checkRedis, findRedisServer } from '../queue/index.ts';
import { formatBytes, runCommand, say } from './terminal.ts';
import { lockstepVersion } from './version.ts';

/** Below these a `small` run is in danger. */
const FREE_MEMORY_MIN = 2 * 1024 ** 3;
const FREE_DISK_MIN = 5 * 1024 ** 3;
const CONNECT_LIMIT_MS = 3000;

interface Finding {
  readonly what: string;
  readonly found: string;
  /** What to do about it; null when all is well. */
  readonly remedy: string | null;
}

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('say what is found on this machine: Node, engines, Redis, memory, disk')
    .option('--redis <url>', 'also check this Redis')
    .action((flags: { redis?: string }) => runCommand(() => examine(flags.redis)));
}

async function examine(redisUrl: string | undefined): Promise<number> {
  const engines = await engineFindings();
  const findings = [
    nodeFinding(),
    hostThreadsFinding(),
    ...engines.findings,
    redisServerFinding(),
    ...(redisUrl === undefined ? [] : [await redisFinding(redisUrl)]),
    memoryFinding(),
    diskFinding(),
  ];
  say(`lockstep ${lockstepVersion()}`);
  const width = Math.max(...findings.map(({ what }) => what.length));
  for (const { what, found, remedy } of findings) {
    say(`${remedy === null ? 'ok  ' : 'MISS'}  ${what.padEnd(width)}  ${found}`);
    if (remedy !== null) say(`${' '.repeat(width + 8)}-> ${remedy}`);
  }
  // One engine is enough, and a Redis elsewhere may serve; these two together decide.
  const canTrain = engines.anyAvailable && (redisUrl !== undefined || findRedisServer() !== null);
  say(canTrain ? 'ready to train' : 'not ready to train: see MISS above');
  return canTrain ? 0 : 1;
}

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isSupported = (major === 20 && minor >= 11) || major === 21 || major === 22;
  return {
    what: 'Node.js',
    found: `${process.version}, ${availableParallelism()} cores`,
    remedy: isSupported ? null : 'use Node.js 20.11 or later, below 23: the TensorFlow package needs it',
  };
}

function hostThreadsFinding(): Finding {
  const count = usefulHostThreads(1);
  const found = `${count} for the sums and updates of a worker that is alone here (--host-threads)`;
  return { what: 'host threads', found, remedy: null };
}

async function engineFindings(): Promise<{ findings: Finding[]; anyAvailable: boolean }> {
  const [probes, { adapters }] = await Promise.all([probeEngines(), probeAdapters()]);
  const findings = probes.map((probe) => ({
    what: `engine ${probe.name}`,
    found: probe.available ? `${probe.version} on ${probe.device}` : probe.reason,
    remedy: probe.available ? null : engineRemedy(probe.name),
  }));
  const devices = adapters.map((adapter) => ({
    what: `device ${adapter.index}`,
    found: adapterDetails(adapter),
    remedy: null,
  }));
  return { findings: [...findings, ...devices], anyAvailable: probes.some((probe) => probe.available) };
}

function engineRemedy(name: EngineName): string {
  return name === 'webgpu' ? ADAPTER_REMEDY : 'run `npm run setup`, or use another --engine';
}

function adapterDetails({
  name,
  api,
  vendor,
  driver,
  isSoftware,
  tensorBytesMax,
  features,
}: Adapter): string {
  const kind = isSoftware ? 'software' : 'card';
  const has = features.length === 0 ? 'none of the optional features' : features.join(', ');
  return `${name} (${kind}, ${vendor}, ${api}, ${driver}); tensors up to ${formatBytes(tensorBytesMax)}; ${has}`;
}

function redisServerFinding(): Finding {
  const path = findRedisServer();
  if (path === null) {
    const remedy =
      'run `npm run setup`, or `apt-get install redis-server`, or name a running one with --redis';
    return { what: 'Redis server', found: 'neither redis-server nor valkey-server on the PATH', remedy };
  }
  try {
    const text = execFileSync(path, ['--version'], { encoding: 'utf8' });
    return {
      what: 'Redis server',
      found: `${/v=(\S+)/.exec(text)?.[1] ?? 'unknown version'} at ${path}`,
      remedy: null,
    };
  } catch (error) {
    return {
      what: 'Redis server',
      found: `${path} does not run: ${messageOf(error)}`,
      remedy: 'install it anew',
    };
  }
}

async function redisFinding(url: string): Promise<Finding> {
  try {
    const { version } = await checkRedis(url, CONNECT_LIMIT_MS);
    return { what: '--redis', found: `version ${version} answers`, remedy: null };
  } catch (error) {
    return { what: '--redis', found: messageOf(error), remedy: 'start it, or correct the address' };
  }
}

function memoryFinding(): Finding {
  const free = freemem();
  const found = `${formatBytes(free)} free of ${formatBytes(totalmem())}`;
  return {
    what: 'memory',
    found,
    remedy: free < FREE_MEMORY_MIN ? 'close other programs, or use preset tiny' : null,
  };
}

function diskFinding(): Finding {
  const { bavail, bsize } = statfsSync('.');
  const free = bavail * bsize;
  const remedy = free < FREE_DISK_MIN ? 'free some space, or put --run and --data on another disk' : null;
  return { what: 'disk', found: `${formatBytes(free)} free here`, remedy };
}
