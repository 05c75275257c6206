/** The job queue over a real Redis: once in, at least once out, and plain words when Redis is no use. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { deadlinesFrom } from '../../src/config/index.ts';
import { type Job, jobId } from '../../src/protocol/index.ts';
import {
  awaitRedis,
  checkRedis,
  freePort,
  JobConsumer,
  JobProducer,
  type LeasedJob,
  type PrivateRedis,
  redact,
  startPrivateRedis,
} from '../../src/queue/index.ts';
import { RestartableRedis } from '../support/redis-server.ts';
import { Recorder, within } from '../support/waiting.ts';

/** Locks of 300 ms, looked after every 300 ms: as fast as a test wants it. */
const FAST = deadlinesFrom(100);
/** Locks of 1.5 s, renewed every 500 ms: what a busy machine can keep up with. */
const STEADY = deadlinesFrom(500);
/** Locks that nothing in a test outlives. */
const CALM = deadlinesFrom(60_000);
let redis: PrivateRedis;
let numQueues = 0;
const closing: (() => unknown)[] = [];

beforeAll(async () => {
  redis = await startPrivateRedis();
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
afterAll(() => redis.stop());

const jobOf = (first: number, change: Partial<Job> = {}): Job => ({
  ...{ run: 'run', generation: 1, step: 1, plan: 1, first, count: 1 },
  ...change,
});

function newName(): string {
  numQueues += 1;
  return `queue-${numQueues}`;
}

async function openProducer(name: string, url = redis.url) {
  const errors = new Recorder<string>();
  const reconnected = new Recorder<void>();
  const producer = await JobProducer.open(url, name, {
    onError: errors.record,
    onReconnected: reconnected.record,
  });
  closing.push(() => producer.close());
  return { producer, errors, reconnected };
}

async function openConsumer(name: string, token: string, deadlines = CALM, url = redis.url) {
  const errors = new Recorder<string>();
  const consumer = await JobConsumer.open(url, name, token, deadlines, errors.record);
  closing.push(() => consumer.close());
  return { consumer, errors };
}

async function nextOf(consumer: JobConsumer): Promise<LeasedJob> {
  const leased = await within('a job', consumer.next());
  return leased ?? expect.fail('the consumer is closed');
}

/** Whether the queue has nothing more to give: what is added last comes next. */
async function expectDrained(producer: JobProducer, consumer: JobConsumer): Promise<void> {
  const last = jobOf(999, { step: 999 });
  await producer.enqueue([last]);
  expect((await nextOf(consumer)).job).toEqual(last);
  await consumer.complete(jobId(last));
}

describe('jobs', () => {
  test('come out in order, to one consumer each', async () => {
    const name = newName();
    const { producer } = await openProducer(name);
    const { consumer: a } = await openConsumer(name, 'a');
    const { consumer: b } = await openConsumer(name, 'b');
    await producer.enqueue([0, 1, 2, 3].map((first) => jobOf(first)));
    const taken = [await nextOf(a), await nextOf(b), await nextOf(b), await nextOf(a)];
    expect(taken.map(({ job }) => job)).toEqual([0, 1, 2, 3].map((first) => jobOf(first)));
    expect(taken.map(({ id }) => id)).toEqual(taken.map(({ job }) => jobId(job)));
  });

  test('that are equal are added once, whether they wait or are held, and again when they are done', async () => {
    const name = newName();
    const { producer } = await openProducer(name);
    const { consumer } = await openConsumer(name, 'a');
    await producer.enqueue([jobOf(0), jobOf(0)]);
    await producer.enqueue([jobOf(0)]);
    const { id } = await nextOf(consumer);
    await producer.enqueue([jobOf(0)]);
    await expectDrained(producer, consumer);
    await consumer.complete(id);
    await producer.enqueue([jobOf(0)]);
    expect((await nextOf(consumer)).id).toBe(id);
  });

  test('wake a consumer that waits', async () => {
    const name = newName();
    const { producer } = await openProducer(name);
    const { consumer } = await openConsumer(name, 'a');
    const waiting = nextOf(consumer);
    await producer.enqueue([jobOf(5)]);
    expect((await waiting).job.first).toBe(5);
  });

  test('of an earlier coordinator of the run are void', async () => {
    const name = newName();
    const { producer: earlier } = await openProducer(name);
    const { consumer: holder } = await openConsumer(name, 'a');
    await earlier.enqueue([jobOf(0), jobOf(1)]);
    const held = await nextOf(holder);
    const { producer } = await openProducer(name);
    const { consumer } = await openConsumer(name, 'b');
    await expectDrained(producer, consumer);
    await holder.complete(held.id);
  });

  test('that are none of ours are thrown out, and the next good one comes', async () => {
    const name = newName();
    const { producer } = await openProducer(name);
    const { consumer } = await openConsumer(name, 'a');
    const connection = new Redis(redis.url, { maxRetriesPerRequest: null });
    const intruder = new Queue(name, { connection });
    await intruder.add('slots', { hello: 'world' });
    await intruder.add('slots', 'text', { jobId: 'odd' });
    await intruder.add('slots', { ...jobOf(0), extra: true }, { jobId: jobId(jobOf(0)) });
    // A good job under another's name would let it be computed twice.
    await intruder.add('slots', jobOf(1), { jobId: jobId(jobOf(2)) });
    await producer.enqueue([jobOf(3)]);
    expect((await nextOf(consumer)).job).toEqual(jobOf(3));
    expect(await intruder.getJobCounts('waiting', 'active')).toEqual({ waiting: 0, active: 1 });
    await intruder.close();
    connection.disconnect();
  });
});

describe('a lock', () => {
  test('is kept as long as its holder lives, however long it computes', async () => {
    const name = newName();
    const { producer } = await openProducer(name);
    const { consumer: a } = await openConsumer(name, 'a', STEADY);
    const { consumer: b } = await openConsumer(name, 'b', STEADY);
    await producer.enqueue([jobOf(0)]);
    const { id } = await nextOf(a);
    const connection = new Redis(redis.url);
    closing.push(() => connection.disconnect());
    // The lock’s time to live falls and is raised again, several times over its first length.
    const key = `bull:${name}:${id}:lock`;
    let renewals = 0;
    for (let before = await connection.pttl(key); renewals < 6; ) {
      const now = await connection.pttl(key);
      expect(now).toBeGreaterThan(0);
      if (now > before) renewals += 1;
      before = now;
    }
    await expectDrained(producer, b);
  });

  test('that is lost hands the job out again, and its first holder cannot end it any more', async () => {
    const name = newName();
    const { producer } = await openProducer(name);
    const { consumer: dead } = await openConsumer(name, 'dead', FAST);
    await producer.enqueue([jobOf(0)]);
    const { id } = await nextOf(dead);
    await dead.close();
    const { consumer: heir } = await openConsumer(name, 'heir', FAST);
    expect(await nextOf(heir)).toEqual({ id, job: jobOf(0) });
    await expect(dead.complete(id)).resolves.toBeUndefined();
    await heir.complete(id);
    await expectDrained(producer, heir);
  });

  test('that was lost while its holder lives makes completion harmless', async () => {
    const name = newName();
    const { producer } = await openProducer(name);
    const { consumer: slow } = await openConsumer(name, 'slow', FAST);
    await producer.enqueue([jobOf(0)]);
    const { id } = await nextOf(slow);
    // The queue takes the lock away, as it would from a process that was stopped for a while.
    const connection = new Redis(redis.url);
    closing.push(() => connection.disconnect());
    await connection.set(`bull:${name}:${id}:lock`, 'another');
    await expect(slow.complete(id)).resolves.toBeUndefined();
    await connection.del(`bull:${name}:${id}:lock`);
    const { consumer: heir } = await openConsumer(name, 'heir', FAST);
    expect((await nextOf(heir)).id).toBe(id);
  });

  test('completing what is not held, or after the end, does nothing', async () => {
    const name = newName();
    await openProducer(name);
    const { consumer } = await openConsumer(name, 'a');
    await consumer.complete('run-9-9-9-9-9');
    await consumer.close();
    await consumer.close();
    await consumer.complete('run-9-9-9-9-9');
    expect(await consumer.next()).toBeNull();
  });
});

describe('a Redis that is killed and comes back empty', () => {
  test('is noticed by the producer; both ends go on', { timeout: 60_000 }, async () => {
    const own = await RestartableRedis.start();
    closing.push(() => own.kill());
    const name = newName();
    const { producer, errors, reconnected } = await openProducer(name, own.url);
    const { consumer } = await openConsumer(name, 'a', CALM, own.url);
    await producer.enqueue([jobOf(0)]);
    const held = await nextOf(consumer);
    const waiting = consumer.next();
    await own.kill();
    await errors.until(1);
    const before = reconnected.all.length;
    await own.start();
    await reconnected.until(before + 1, 30_000);
    await producer.enqueue([jobOf(1)]);
    expect(await within('the next job', waiting, 30_000)).toEqual({ id: jobId(jobOf(1)), job: jobOf(1) });
    // The lock of the first job went with the server.
    await consumer.complete(held.id);
  });
});

describe('checkRedis', () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  /** A TCP server that answers every command of a client with the same text, or with nothing. */
  async function fakeRedis(answer: string | null): Promise<string> {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => {
        // One answer for each command; commands are arrays, which begin with `*`.
        const numCommands = chunk.toString().split(/^\*\d+\r$/m).length - 1;
        if (answer !== null) socket.write(answer.repeat(numCommands));
      });
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `redis://user:s3cret@127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async function refusalOf(url: string): Promise<string> {
    const error: unknown = await within('an answer', checkRedis(url, 500)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'LockstepError', code: 'REDIS_UNAVAILABLE' });
    const { message } = error as Error;
    expect(message).not.toContain('\n');
    expect(message).not.toContain('s3cret');
    return message;
  }

  test('tells the version of a server that will do', async () => {
    expect((await checkRedis(redis.url, 2000)).version).toMatch(/^\d+\.\d+\.\d+$/);
  });

  test('says that nothing listens, where, and what to do', async () => {
    const port = await freePort();
    const message = await refusalOf(`redis://:s3cret@127.0.0.1:${port}`);
    expect(message).toContain(`redis://***@127.0.0.1:${port}`);
    expect(message).toContain('ECONNREFUSED');
    expect(message).toContain('start it, or name another with --redis');
  });

  test('gives a reason for a name with several addresses too', async () => {
    const message = await refusalOf(`redis://localhost:${await freePort()}`);
    expect(message).not.toContain('()');
  });

  test('says that the password is wrong, without saying it', async () => {
    const wrong = redis.url.replace(/:[^:@/]+@/, ':s3cret@');
    expect(await refusalOf(wrong)).toMatch(/WRONGPASS|invalid/i);
    expect(await refusalOf(redis.url.replace(/\/\/.*@/, '//'))).toMatch(/NOAUTH|authentication/i);
  });

  test('says that a server is too old', async () => {
    const info = '# Server\r\nredis_version:5.0.14\r\n';
    const url = await fakeRedis(`$${info.length}\r\n${info}\r\n`);
    expect(await refusalOf(url)).toContain('has version 5.0.14, older than 6.2.0: use a newer server');
  });

  test('does not wait for ever for a server that says nothing, or no Redis', async () => {
    await refusalOf(await fakeRedis(null));
    await refusalOf(await fakeRedis('HTTP/1.1 400 Bad Request\r\n\r\n'));
  });

  test('redact hides passwords of any letters, and nothing else', () => {
    expect(redact('redis://:s3cret@host:1')).toBe('redis://***@host:1');
    expect(redact('redis://user:p@ss/w0rd@host:1/2')).toBe('redis://***@host:1/2');
    expect(redact('redis://host:6379')).toBe('redis://host:6379');
  });
});

describe('awaitRedis', () => {
  test('waits for a server that starts again', { timeout: 30_000 }, async () => {
    const server = await RestartableRedis.start();
    await server.kill();
    let isThere = false;
    const awaited = awaitRedis(server.url, 20_000).then(() => {
      isThere = true;
    });
    // It has been refused once at least by then.
    await expect(checkRedis(server.url, 500)).rejects.toMatchObject({ code: 'REDIS_UNAVAILABLE' });
    expect(isThere).toBe(false);
    await server.start();
    await within('the server', awaited, 20_000);
    await server.kill();
  });

  test('says what is wrong when its time is over, or when nobody waits any more', async () => {
    const url = `redis://127.0.0.1:${await freePort()}`;
    const refusal = { code: 'REDIS_UNAVAILABLE', message: expect.stringContaining('ECONNREFUSED') };
    await expect(within('an answer', awaitRedis(url, 500))).rejects.toMatchObject(refusal);
    const left = new AbortController();
    const awaited = awaitRedis(url, 600_000, left.signal);
    left.abort();
    await expect(within('an answer', awaited)).rejects.toMatchObject(refusal);
  });
});

test('a private Redis takes no stranger in and is gone when it is stopped', async () => {
  const own = await startPrivateRedis();
  await expect(checkRedis(own.url.replace(/:[^:@/]+@/, ':guess@'), 1000)).rejects.toMatchObject({
    code: 'REDIS_UNAVAILABLE',
  });
  await own.stop();
  await own.ended;
  await own.stop();
  await expect(checkRedis(own.url, 1000)).rejects.toMatchObject({ code: 'REDIS_UNAVAILABLE' });
});
