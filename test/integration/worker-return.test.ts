/** A worker process's way back: whenever its incarnation ends, the next one greets, whatever was under way. */
import { randomUUID } from 'node:crypto';
import { expect, it, onTestFinished } from 'vitest';
import { resolveConfig } from '../../src/config/index.ts';
import { ControlServer } from '../../src/net/index.ts';
import {
  deriveKey,
  PROTOCOL_VERSION,
  type WorkerMessage,
  workerMessageSchema,
} from '../../src/protocol/index.ts';
import { startPrivateRedis } from '../../src/queue/index.ts';
import type { RunningWorker, WorkerOptions } from '../../src/worker/index.ts';
import { Recorder } from '../support/waiting.ts';

const TOKEN = 'a-token-for-tests-of-some-length';
const RUN = 'r1';
/** Reached by a run that fails only. */
const LIMIT_MS = 25_000;
/** Built: its comm thread is a file of its own. */
const BUILT = new URL('../../dist/worker/index.js', import.meta.url).href;

it('comes back as new when it was evicted while it connects to the queue', {
  timeout: 2 * LIMIT_MS,
}, async () => {
  const redis = await startPrivateRedis();
  onTestFinished(() => redis.stop());
  const heard = new Recorder<WorkerMessage>();
  const server = await ControlServer.bind(
    'tcp://127.0.0.1:*',
    deriveKey(TOKEN, 'frame'),
    workerMessageSchema,
    10_000,
    {
      onMessage: heard.record,
      onRefused: () => {},
      onUnreachable: () => {},
      onMessagesLost: () => {},
      onDisconnect: () => {},
    },
  );
  onTestFinished(() => server.close());
  const envelope = { protocol: PROTOCOL_VERSION, run: RUN, incarnation: randomUUID() };
  const place = { generation: 0, step: 0, attempt: 0 };
  const { startWorker } = (await import(BUILT)) as { startWorker(options: WorkerOptions): RunningWorker };
  const worker = startWorker({
    coordinator: server.endpoint,
    token: TOKEN,
    name: 'worker-0',
    host: '127.0.0.1',
    port: 0,
    advertisedHost: '127.0.0.1',
    advertisedPort: null,
    redisVia: null,
    httpVia: null,
    data: { kind: 'folder', dir: 'nowhere' },
    engine: { name: null, device: null },
    throttleMs: 0,
    hostThreads: 2,
    log: { file: null, level: 'error' },
  });
  const first = await heard.next(LIMIT_MS);
  // As after both have been frozen: what it was told before and what it is told now come at once.
  const welcome = {
    type: 'welcome',
    worker: 'worker-0',
    config: resolveConfig({ flags: { model: { vocabSize: 300 } } }),
    fingerprint: '0'.repeat(64),
    dataset: '0'.repeat(64),
    redisUrl: redis.url,
    queueName: 'lockstep-r1',
    httpUrl: 'http://127.0.0.1:1',
  };
  server.send(first.incarnation, { ...envelope, ...place, ...welcome });
  server.send(first.incarnation, { ...envelope, ...place, type: 'evicted', reason: 'it was silent' });
  let next = await heard.next(LIMIT_MS);
  while (next.incarnation === first.incarnation) next = await heard.next(LIMIT_MS);
  expect(next).toMatchObject({ type: 'hello', formerly: first.incarnation, name: 'worker-0' });
  server.send(next.incarnation, { ...envelope, ...place, type: 'stop', reason: 'the test is over' });
  expect(await worker.outcome).toEqual({ kind: 'stopped', reason: 'the test is over' });
});
