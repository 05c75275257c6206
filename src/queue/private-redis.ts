/**
 * A Redis server of the run's own: loopback, a free port, a random password, nothing on disk. The
 * commit log is the truth, so the queue needs no persistence.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { LockstepError } from '../base/index.ts';
import { checkRedis } from './connection.ts';

const SERVERS = ['redis-server', 'valkey-server'];
const START_LIMIT_MS = 10_000;
/** Another process may take the free port between our look and the server's start. */
const PORT_TRIES = 5;

/** Where a server listens, and what it asks of its clients. */
export interface RedisAddress {
  readonly port: number;
  readonly password: string;
}

export interface PrivateRedis {
  readonly url: string;
  readonly address: RedisAddress;
  readonly pid: number;
  /** Resolves when the server has ended, by whatever cause. */
  readonly ended: Promise<void>;
  /** Sends a signal, if it has not ended yet. */
  kill(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** The first Redis-compatible server on the PATH, or null. */
export function findRedisServer(): string | null {
  return findOnPath(SERVERS);
}

function findOnPath(names: readonly string[]): string | null {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of names) {
      const path = join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not here; look further.
      }
    }
  }
  return null;
}

/**
 * Starts a server and waits until it answers: at a free port, or in the place of one that has ended.
 * Throws REDIS_UNAVAILABLE.
 */
export async function startPrivateRedis(address?: RedisAddress): Promise<PrivateRedis> {
  const binary = findRedisServer();
  if (binary === null) {
    throw new LockstepError(
      'REDIS_UNAVAILABLE',
      'no redis-server or valkey-server on the PATH: run `npm run setup`, or name a running server with --redis',
    );
  }
  let lastError: unknown;
  for (let attempt = 0; attempt < PORT_TRIES; attempt += 1) {
    try {
      return await launch(binary, address ?? { port: await freePort(), password: newPassword() });
    } catch (error) {
      lastError = error;
    }
  }
  throw lastError;
}

function newPassword(): string {
  return randomBytes(24).toString('hex');
}

/**
 * The command line that has the kernel end the process when this one is gone, however it went; the bare
 * command where setpriv is missing.
 */
export function endingWithParent(signal: 'TERM' | 'KILL', command: readonly string[]): readonly string[] {
  const setpriv = findOnPath(['setpriv']);
  return setpriv === null ? command : [setpriv, '--pdeathsig', signal, ...command];
}

async function launch(binary: string, address: RedisAddress): Promise<PrivateRedis> {
  const { port, password } = address;
  // The password travels by standard input, so that no other user reads it in the process list.
  // A process group of its own keeps a Ctrl-C at the terminal from ending it before the last step
  // is committed.
  const command = endingWithParent('TERM', [binary, '-']);
  const child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  const settings = [
    'bind 127.0.0.1',
    `port ${port}`,
    `requirepass ${password}`,
    'save ""',
    'appendonly no',
    'maxmemory-policy noeviction',
    'daemonize no',
    'loglevel warning',
  ];
  child.stdin.end(`${settings.join('\n')}\n`);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-2000);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-2000);
  });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const url = `redis://:${password}@127.0.0.1:${port}`;
  await waitUntilUp(url, child, () => output.trim());
  return {
    url,
    address,
    pid: child.pid ?? 0,
    ended,
    kill: (signal) => child.kill(signal),
    stop: () => stop(child, ended),
  };
}

async function waitUntilUp(url: string, child: ChildProcess, output: () => string): Promise<void> {
  const deadline = Date.now() + START_LIMIT_MS;
  for (;;) {
    try {
      await checkRedis(url, 1000);
      return;
    } catch (error) {
      if (child.exitCode !== null || Date.now() > deadline) {
        child.kill('SIGKILL');
        throw new LockstepError(
          'REDIS_UNAVAILABLE',
          `redis-server did not start: ${output() || 'no output'}`,
          {
            cause: error,
          },
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

async function stop(child: ChildProcess, ended: Promise<void>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
  await ended;
}

/** A TCP port of the loopback address that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
