/**
 * Workers without the data set: over the coordinator's real HTTP server, and as processes that know nothing but its
 * address and the token. The weights are those of a worker that has the files.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { PRESETS } from '../../src/config/index.ts';
import type { DataBlocks } from '../../src/coordinator/data-routes.ts';
import { StateServer } from '../../src/coordinator/state-server.ts';
import { openDataset, ServedDataset } from '../../src/data/index.ts';
import { SEAL_HEADER } from '../../src/protocol/index.ts';
import { type PrivateRedis, startPrivateRedis } from '../../src/queue/index.ts';
import { CoordinatorBlocks } from '../../src/worker/data-transfer.ts';
import { errorOf } from '../support/data-files.ts';
import {
  digestOf,
  endpointOf,
  preparedFolder,
  type Running,
  start,
  succeed,
} from '../support/lockstep-command.ts';

const LIMIT_MS = 240_000;
const TOKEN = 'a-token-for-tests-of-some-length';
const KEY = Buffer.alloc(32, 7);

let dir = '';
let data = '';
let remove = () => {};
let redis: PrivateRedis;

beforeAll(async () => {
  ({ dir, data, remove } = await preparedFolder());
  redis = await startPrivateRedis();
}, LIMIT_MS);
afterAll(async () => {
  await redis.stop();
  remove();
});

async function served(): Promise<ServedDataset> {
  const dataset = await openDataset(data);
  dataset.close();
  const files = new ServedDataset(data, dataset.sha256, PRESETS.tiny.data);
  onTestFinished(() => files.close());
  return files;
}

/** A server of run `r1` and what a worker with `key` sees of it. */
async function connected(source: DataBlocks, key: Buffer = KEY, run = 'r1') {
  const server = await StateServer.listen('127.0.0.1', 0, 'r1', KEY, {
    data: source,
    writerOf: () => null,
    readerOf: () => null,
    onWriteFailed: () => {},
  });
  const httpUrl = `http://127.0.0.1:${server.port}`;
  const closing = new AbortController();
  onTestFinished(async () => {
    closing.abort();
    await server.close();
  });
  return {
    server,
    httpUrl,
    blocks: new CoordinatorBlocks({ httpUrl, run, pieceLimitMs: 2000, key }, closing.signal),
  };
}

describe('the data routes', () => {
  it('give the digests and blocks of the files', async () => {
    const files = await served();
    const { blocks } = await connected(files);
    for (const file of ['manifest.json', 'tokens-00000.bin', 'samples-48-documents-0-train.bin']) {
      const digests = await blocks.digests(file);
      expect(Buffer.from(digests)).toEqual(Buffer.from(await files.digests(file)));
      for (let index = 0; index < digests.length / 32; index += 1) {
        expect(Buffer.from(await blocks.block(file, index))).toEqual(
          Buffer.from(await files.block(file, index)),
        );
      }
    }
  });

  it('are closed to another key, another run, and all but the data set', async () => {
    const files = await served();
    const stranger = await connected(files, Buffer.alloc(32, 8));
    expect((await errorOf(() => stranger.blocks.digests('manifest.json'))).code).toBe('CONNECTION_REFUSED');
    const elsewhere = await connected(files, KEY, 'r2');
    expect((await errorOf(() => elsewhere.blocks.block('manifest.json', 0))).message).toContain(
      'this is run r1',
    );
    const { blocks } = await connected(files);
    for (const file of ['..%2Fcommits.log', '%2Fetc%2Fpasswd', 'nothing.bin']) {
      const { code, message } = await errorOf(() => blocks.block(file, 0));
      expect(code, message).toBe('DATA_MISSING');
    }
  });

  it('seal the digests: those of another file, passed off by someone in between, are refused', async () => {
    const { httpUrl } = await connected(await served());
    const between = createServer((request, response) => {
      const url = `${httpUrl}${request.url}`.replace('tokens-00000.bin', 'tokenizer.json');
      const headers = { authorization: request.headers.authorization ?? '' };
      void fetch(url, { headers }).then(async (answer) => {
        response.writeHead(answer.status, { [SEAL_HEADER]: answer.headers.get(SEAL_HEADER) ?? '' });
        response.end(Buffer.from(await answer.arrayBuffer()));
      });
    });
    await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => {
      between.closeAllConnections();
      between.close();
    });
    const address = between.address() as AddressInfo;
    const target = { httpUrl: `http://127.0.0.1:${address.port}`, run: 'r1', pieceLimitMs: 2000, key: KEY };
    const blocks = new CoordinatorBlocks(target, new AbortController().signal);
    expect((await blocks.digests('tokenizer.json')).length).toBeGreaterThan(0);
    const error = await errorOf(() => blocks.digests('tokens-00000.bin'));
    expect(error.code).toBe('CONNECTION_REFUSED');
    expect(error.message).toContain('not sealed');
  });

  it('say that a file is still being read, and the worker waits', async () => {
    let answers = 0;
    let finish = (_digests: Uint8Array) => {};
    const slow = new Promise<Uint8Array>((resolve) => {
      finish = resolve;
    });
    const { blocks } = await connected({
      digests: () => {
        answers += 1;
        if (answers === 2) finish(new Uint8Array(32).fill(5));
        return slow;
      },
      block: async () => new Uint8Array(1),
    });
    expect(await blocks.digests('tokens-00000.bin')).toEqual(new Uint8Array(32).fill(5));
    expect(answers).toBe(2);
  });

  it('are asked again while nobody answers, for as long as workers wait', async () => {
    const { server, blocks } = await connected(await served());
    await server.close();
    const error = await errorOf(() => blocks.block('manifest.json', 0));
    expect(error.code).toBe('COORDINATOR_LOST');
  });
});

describe('a worker with neither folder nor cache', () => {
  const settings = [
    '--preset',
    'tiny',
    '--steps',
    '4',
    '--micro-batches',
    '4',
    '--set',
    'checkpoint.every=2',
  ];

  async function startCoordinator(
    name: string,
    dataDir = data,
  ): Promise<{ coordinator: Running; endpoint: string }> {
    const coordinator = start(
      [
        ...['coordinator', '--data', dataDir, '--run', join(dir, name), '--redis', redis.url],
        ...['--port', '0', '--http-port', '0', '--min-workers', '2', ...settings],
      ],
      { env: { LOCKSTEP_TOKEN: TOKEN } },
    );
    return { coordinator, endpoint: await endpointOf(coordinator) };
  }

  /** In a folder of its own, as on another host: an address and the token are all it is given. */
  function startWorker(endpoint: string, cache: string): Running {
    const cwd = mkdtempSync(join(dir, 'elsewhere-'));
    return start(['worker', '--coordinator', endpoint], {
      cwd,
      env: { LOCKSTEP_TOKEN: TOKEN, XDG_CACHE_HOME: cache },
    });
  }

  it('trains to the same weights, twice over one cache that was spoilt in between', {
    timeout: LIMIT_MS,
  }, async () => {
    await succeed(['train', '--data', data, '--run', join(dir, 'alone'), ...settings]);
    const alone = await digestOf(join(dir, 'alone'));
    const cache = mkdtempSync(join(dir, 'cache-'));
    for (const name of ['first', 'second']) {
      const { coordinator, endpoint } = await startCoordinator(name);
      const workers = [startWorker(endpoint, cache), startWorker(endpoint, cache)];
      const { code, stderr } = await coordinator.finished;
      expect(code, stderr).toBe(0);
      for (const worker of workers) expect((await worker.finished).code).toBe(0);
      expect(await digestOf(join(dir, name))).toBe(alone);
      const kept = join(cache, 'lockstep', 'data');
      const [set] = readdirSync(kept);
      const shard = join(kept, set!, 'tokens-00000.bin');
      writeFileSync(shard, readFileSync(shard).fill(0, 1000, 40_000));
    }
  });

  it("ends with one line that names a damaged shard on the coordinator's host", {
    timeout: LIMIT_MS,
  }, async () => {
    const broken = join(dir, 'broken');
    cpSync(data, broken, { recursive: true });
    const path = join(broken, 'tokens-00000.bin');
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
    const { coordinator, endpoint } = await startCoordinator('of-broken', broken);
    const workers = [
      startWorker(endpoint, join(dir, 'cache-a')),
      startWorker(endpoint, join(dir, 'cache-b')),
    ];
    for (const worker of workers) {
      const { code, stderr } = await worker.finished;
      expect(code).toBe(1);
      const said = stderr.split('\n').filter((line) => line.startsWith('lockstep:'));
      expect(said).toHaveLength(1);
      expect(said[0]).toContain('DATA_CORRUPT');
      expect(said[0]).toContain(path);
    }
    coordinator.kill('SIGINT');
    coordinator.kill('SIGINT');
    await coordinator.finished;
  });
});
