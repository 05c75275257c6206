/**
 * Connecting to Redis: reach it, check that it is new enough, and say plainly what to do if not.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { LockstepError, messageOf } from '../base/index.ts';
import { Redis } from './packages.ts';

/** BullMQ's Lua scripts need commands of this version. */
const REDIS_VERSION_MIN = '6.2.0';
const RETRY_DELAY_MS = 200;

/** Hides the password of a Redis URL for messages and logs. */
export function redact(url: string): string {
  // Up to the last @: a password that nobody escaped may hold one, or a slash.
  return url.replace(/\/\/.*@/, '//***@');
}

/**
 * Checks that a usable Redis answers at `url` within `limitMs`.
 * Throws REDIS_UNAVAILABLE naming the address, what is wrong and the remedy.
 */
export async function checkRedis(url: string, limitMs: number): Promise<{ version: string }> {
  const redis = createConnection(url, {
    connectTimeout: limitMs,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  // The rejected command below carries the reason; without a listener the client prints each error as well.
  let connectionError: unknown;
  redis.on('error', (error) => {
    connectionError ??= error;
  });
  // The client's own limit covers the connection only: whatever took it may never answer.
  const timer = setTimeout(() => {
    connectionError ??= new Error(`no answer within ${limitMs} ms`);
    redis.disconnect();
  }, limitMs);
  try {
    await redis.connect();
    const info = await redis.info('server');
    const version = /^(?:valkey|redis)_version:(\S+)/m.exec(info)?.[1] ?? '0';
    const isValkey = /^valkey_version:/m.test(info);
    if (!isValkey && compareVersions(version, REDIS_VERSION_MIN) < 0) {
      throw new LockstepError(
        'REDIS_UNAVAILABLE',
        `Redis at ${redact(url)} has version ${version}, older than ${REDIS_VERSION_MIN}: use a newer server`,
      );
    }
    return { version };
  } catch (error) {
    if (error instanceof LockstepError) throw error;
    throw new LockstepError(
      'REDIS_UNAVAILABLE',
      `Redis at ${redact(url)} cannot be reached (${messageOf(connectionError ?? error)}): start it, or name another with --redis`,
      { cause: error },
    );
  } finally {
    clearTimeout(timer);
    redis.disconnect();
  }
}

/**
 * Likewise for a Redis that has served this run before: it may be starting again, or out of reach for a moment, and is
 * tried again until `limitMs` are over or `signal` aborts.
 */
export async function awaitRedis(url: string, limitMs: number, signal?: AbortSignal): Promise<void> {
  const giveUpMs = performance.now() + limitMs;
  for (;;) {
    try {
      await checkRedis(url, Math.max(1, Math.round(giveUpMs - performance.now())));
      return;
    } catch (error) {
      if (performance.now() + RETRY_DELAY_MS > giveUpMs || signal?.aborted === true) throw error;
    }
    await delay(RETRY_DELAY_MS);
  }
}

/** A connection as BullMQ wants it: blocking commands wait for ever, and none is retried out of order. */
export function createConnection(
  url: string,
  options: {
    connectTimeout?: number;
    maxRetriesPerRequest?: number | null;
    retryStrategy?: () => number | null;
  } = {},
): Redis {
  try {
    return new Redis(url, { lazyConnect: true, maxRetriesPerRequest: null, ...options });
  } catch (error) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `--redis ${redact(url)}: ${messageOf(error)}; expected redis://HOST:PORT`,
      {
        cause: error,
      },
    );
  }
}

function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let part = 0; part < 3; part += 1) {
    const difference = (left[part] ?? 0) - (right[part] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
