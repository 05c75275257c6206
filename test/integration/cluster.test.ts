/**
 * A cluster as it runs on several hosts: coordinator and workers started on their own, one shared
 * token, a Redis that is nobody's child. Workers come late, leave, and are turned away.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LinkProxy } from '../../src/cli/chaos/link-proxy.ts';
import {
  checkRedis,
  findRedisServer,
  freePort,
  type PrivateRedis,
  startPrivateRedis,
} from '../../src/queue/index.ts';
import { succeedInProcess } from '../support/in-process.ts';
import {
  CORPUS,
  committedSteps,
  digestOf,
  endpointOf,
  isCommit,
  MAIN,
  preparedFolder,
  type Running,
  run,
  slotOwners,
  start,
  succeed,
} from '../support/lockstep-command.ts';

const LIMIT_MS = 180_000;
const TOKEN = 'a-token-for-tests-of-some-length';
const STEPS = 10;

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

/**
 * Milliseconds added to each micro-batch of a worker: its run must not be over before what is to happen to it has
 * happened, nor one worker have done all before another is there, however late a loaded machine is.
 */
const UNHURRIED = 300;
const settings = ['--preset', 'tiny', '--steps', String(STEPS), '--set', 'checkpoint.every=5'];

interface Cluster {
  readonly coordinator: Running;
  readonly endpoint: string;
}

async function startCoordinator(name: string, ...more: string[]): Promise<Cluster> {
  return startCoordinatorOn(redis.url, name, ...more);
}

async function startCoordinatorOn(redisUrl: string, name: string, ...more: string[]): Promise<Cluster> {
  const ports = more.includes('--port') ? [] : ['--port', '0'];
  const coordinator = start(
    [
      ...['coordinator', '--data', data, '--run', join(dir, name), '--redis', redisUrl],
      ...[...ports, '--http-port', '0', ...more],
    ],
    { env: { LOCKSTEP_TOKEN: TOKEN } },
  );
  return { coordinator, endpoint: await endpointOf(coordinator) };
}

function startWorker(
  { endpoint }: Cluster,
  options: { token?: string; data?: string; name?: string; throttle?: number } = {},
): Running {
  const name = options.name === undefined ? [] : ['--name', options.name];
  const flags = ['--data', options.data ?? data, '--throttle', String(options.throttle ?? 0), ...name];
  return start(['worker', '--coordinator', endpoint, ...flags], {
    env: { LOCKSTEP_TOKEN: options.token ?? TOKEN },
  });
}

/**
 * Two workers as if on another host: in a user namespace of their own, from which no memory outside can be reached.
 * Returns what ends them if they have not ended by themselves.
 */
function startOtherHost({ endpoint }: Cluster, name: string): () => void {
  const both = '"$@" --name "$0-1" & "$@" --name "$0-2" & wait';
  const flags = ['--coordinator', endpoint, '--data', data, '--throttle', String(UNHURRIED)];
  const worker = [process.execPath, MAIN, 'worker', ...flags];
  const host = spawn('unshare', ['--user', '--map-root-user', 'sh', '-c', both, name, ...worker], {
    stdio: 'ignore',
    env: { ...process.env, LOCKSTEP_TOKEN: TOKEN },
    detached: true,
  });
  return () => {
    if (host.exitCode === null) process.kill(-host.pid!, 'SIGKILL');
  };
}

const canUnshare = spawnSync('unshare', ['--user', '--map-root-user', 'true']).status === 0;
if (!canUnshare) console.log('skipped: a run on two hosts, as this system lets nobody make user namespaces');

/** A Redis without persistence on a port of our choice, so that it can come back there. */
async function startRedis(port: number): Promise<ChildProcess> {
  const binary = findRedisServer();
  expect(binary, 'a Redis server is installed').not.toBeNull();
  const flags = ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no'];
  const server = spawn(binary!, flags, { stdio: 'ignore' });
  for (;;) {
    try {
      await checkRedis(`redis://127.0.0.1:${port}`, 1000);
      return server;
    } catch (error) {
      if (server.exitCode !== null) throw error;
    }
  }
}

describe('a cluster', () => {
  let alone = '';

  beforeAll(async () => {
    await succeed(['train', '--data', data, '--run', join(dir, 'alone'), ...settings]);
    alone = await digestOf(join(dir, 'alone'));
  }, LIMIT_MS);

  it('takes a worker that comes late and lets one go, with the same weights', {
    timeout: LIMIT_MS,
  }, async () => {
    // Nobody is to be lost, however long a loaded machine keeps one from saying that it lives.
    const cluster = await startCoordinator('late', ...settings, '--set', 'network.heartbeatLimitMs=20000');
    const first = startWorker(cluster, { name: 'first', throttle: UNHURRIED });
    await cluster.coordinator.untilLogged(isCommit(2));
    const second = startWorker(cluster, { name: 'second' });
    const entered = await cluster.coordinator.untilLogged(
      (line) => line.event === 'workerEntered' && line.worker === 'second',
    );
    const step = Number(entered.step);
    expect(step, 'it entered with the state of a committed step').toBeGreaterThanOrEqual(2);
    await cluster.coordinator.untilLogged(isCommit(step + 1));
    first.kill('SIGTERM');
    const left = await cluster.coordinator.untilLogged((line) => line.event === 'workerLeft');
    expect(left.worker).toBe('first');
    expect((await first.finished).code, 'a worker that is asked to leave ends well').toBe(0);
    expect(cluster.coordinator.logged('workerLost'), 'nobody was lost').toEqual([]);
    const { code, stderr } = await cluster.coordinator.finished;
    expect(code, stderr).toBe(0);
    expect((await second.finished).code).toBe(0);
    expect(await digestOf(join(dir, 'late'))).toBe(alone);
    expect(committedSteps(join(dir, 'late'))).toEqual(Array.from({ length: STEPS }, (_, index) => index + 1));
  });

  it.skipIf(!canUnshare)(
    'spans two hosts of two workers, and goes on when one dies, with the same weights',
    {
      timeout: LIMIT_MS,
    },
    async () => {
      const cluster = await startCoordinator('hosts', ...settings, '--min-workers', '4');
      const here = ['here-1', 'here-2'].map((name) => startWorker(cluster, { name, throttle: UNHURRIED }));
      const endOther = startOtherHost(cluster, 'there');
      try {
        const joined = await cluster.coordinator.untilLogged(
          (line) => line.event === 'workerJoined' && line.worker === 'there-2',
        );
        for (let step = 1; new Set(slotOwners(join(dir, 'hosts'))).size < 4; step += 1) {
          await cluster.coordinator.untilLogged(isCommit(step));
        }
        process.kill(Number(joined.pid), 'SIGKILL');
        const { code, stderr } = await cluster.coordinator.finished;
        expect(code, stderr).toBe(0);
        for (const worker of here) expect((await worker.finished).code).toBe(0);
      } finally {
        endOther();
      }
      expect(await digestOf(join(dir, 'hosts'))).toBe(alone);
      expect(committedSteps(join(dir, 'hosts'))).toHaveLength(STEPS);
      expect(new Set(slotOwners(join(dir, 'hosts')))).toEqual(
        new Set(['here-1', 'here-2', 'there-1', 'there-2']),
      );
    },
  );

  it('turns away a wrong token, a taken name and other data, and goes on', {
    timeout: LIMIT_MS,
  }, async () => {
    const other = join(dir, 'other-data');
    await succeedInProcess(['prepare', CORPUS, '--out', other, '--vocab-size', '700']);
    const cluster = await startCoordinator('guarded', ...settings, '--min-workers', '1');
    const strangers = [
      startWorker(cluster, { token: 'some-other-token-of-some-length' }),
      startWorker(cluster, { data: other, name: 'other' }),
    ];
    const otherData = await strangers[1]!.finished;
    expect(otherData.code).toBe(1);
    expect(otherData.stderr).toMatch(/CONFIG_MISMATCH: .*manifest\.json has SHA-256 .* is expected/);
    await cluster.coordinator.untilLogged(
      (line) => line.event === 'frameRefused' && String(line.reason).includes('token'),
    );
    const good = startWorker(cluster, { name: 'good' });
    await cluster.coordinator.untilLogged(isCommit(1));
    const namesake = await startWorker(cluster, { name: 'good' }).finished;
    expect(namesake.code).toBe(1);
    expect(namesake.stderr).toMatch(/CONNECTION_REFUSED: a worker named good is in the run already/);
    const { code, stderr } = await cluster.coordinator.finished;
    expect(code, stderr).toBe(0);
    expect((await good.finished).code).toBe(0);
    const lost = await strangers[0]!.finished;
    expect(lost.stderr).toMatch(/COORDINATOR_LOST: the coordinator has not answered for \d+ s/);
    expect(await digestOf(join(dir, 'guarded'))).toBe(alone);
  });

  it('goes back to the checkpoint when its last worker dies, and repeats the steps after it', {
    timeout: LIMIT_MS,
  }, async () => {
    const cluster = await startCoordinator('orphaned', ...settings);
    const first = startWorker(cluster, { name: 'first', throttle: UNHURRIED });
    await cluster.coordinator.untilLogged((line) => line.event === 'checkpointStored' && line.step === 5);
    await cluster.coordinator.untilLogged(isCommit(7));
    first.kill('SIGKILL');
    await cluster.coordinator.untilLogged((line) => line.event === 'workerLost');
    startWorker(cluster, { name: 'second' });
    await cluster.coordinator.untilLogged((line) => line.event === 'rewound' && line.to === 5);
    const { code, stderr } = await cluster.coordinator.finished;
    expect(code, stderr).toBe(0);
    expect(await digestOf(join(dir, 'orphaned'))).toBe(alone);
    expect(committedSteps(join(dir, 'orphaned'))).toEqual(
      Array.from({ length: STEPS }, (_, index) => index + 1),
    );
  });

  it('goes on without a worker that is heard but hears nothing', { timeout: LIMIT_MS }, async () => {
    const cluster = await startCoordinator('deaf', ...settings, '--min-workers', '2');
    const proxy = await LinkProxy.listen(Number(new URL(cluster.endpoint).port));
    const near = startWorker(cluster, { name: 'near', throttle: UNHURRIED });
    const deaf = startWorker({ ...cluster, endpoint: `tcp://127.0.0.1:${proxy.port}` }, { name: 'deaf' });
    try {
      await cluster.coordinator.untilLogged(isCommit(3));
      const heal = proxy.cut('inward', 'near');
      const lost = await cluster.coordinator.untilLogged(
        (line) => line.event === 'workerLost' && line.worker === 'deaf',
      );
      expect(lost.reason).toMatch(/silent for \d+ ms/);
      heal();
      await cluster.coordinator.untilLogged(
        (line) =>
          line.event === 'workerJoined' && line.worker === 'deaf' && String(line.time) > String(lost.time),
      );
      const { code, stderr } = await cluster.coordinator.finished;
      expect(code, stderr).toBe(0);
      expect((await near.finished).code).toBe(0);
      expect(await digestOf(join(dir, 'deaf'))).toBe(alone);
    } finally {
      deaf.kill('SIGKILL');
      await proxy.close();
    }
  });

  it('goes on when Redis is killed and comes back empty', { timeout: LIMIT_MS }, async () => {
    const port = await freePort();
    const url = `redis://127.0.0.1:${port}`;
    let server = await startRedis(port);
    const cluster = await startCoordinatorOn(url, 'queueless', ...settings, '--min-workers', '2');
    const workers = [0, 1].map(() => startWorker(cluster, { throttle: UNHURRIED }));
    await cluster.coordinator.untilLogged(isCommit(3));
    server.kill('SIGKILL');
    await cluster.coordinator.untilLogged((line) => line.event === 'queueTrouble');
    server = await startRedis(port);
    const { code, stderr } = await cluster.coordinator.finished;
    expect(code, stderr).toBe(0);
    for (const worker of workers) {
      const { code: end, signal, stderr: said } = await worker.finished;
      expect(end, `${signal}: ${said}`).toBe(0);
    }
    expect(await digestOf(join(dir, 'queueless'))).toBe(alone);
    server.kill('SIGKILL');
  });

  it('goes on when the coordinator is killed and started again; workers need no restart', {
    timeout: LIMIT_MS,
  }, async () => {
    const port = String(await freePort());
    const first = await startCoordinator('headless', ...settings, '--port', port, '--min-workers', '2');
    const workers = [0, 1].map(() => startWorker(first, { throttle: UNHURRIED }));
    await first.coordinator.untilLogged((line) => line.event === 'checkpointStored' && line.step === 5);
    await first.coordinator.untilLogged(isCommit(7));
    first.coordinator.kill('SIGKILL');
    await first.coordinator.finished;
    const second = await startCoordinator('headless', '--resume', '--port', port, '--min-workers', '2');
    const { code, stderr } = await second.coordinator.finished;
    expect(code, stderr).toBe(0);
    for (const worker of workers) {
      const ended = await worker.finished;
      expect(ended.code, ended.stderr).toBe(0);
      expect(ended.stderr).toContain('"event":"comingBack"');
    }
    // They brought the state along: nothing that was committed had to be done again.
    const kept = second.coordinator.logged('stateKept');
    expect(kept).toEqual([expect.objectContaining({ stored: 5 })]);
    expect(Number(kept[0]!.step)).toBeGreaterThanOrEqual(7);
    expect(second.coordinator.logged('rewound')).toEqual([]);
    expect(await digestOf(join(dir, 'headless'))).toBe(alone);
    expect(committedSteps(join(dir, 'headless'))).toEqual(
      Array.from({ length: STEPS }, (_, index) => index + 1),
    );
  });

  it('takes slots back from a worker that is ten times slower, and names it', {
    timeout: LIMIT_MS,
  }, async () => {
    const cluster = await startCoordinator('slow', ...settings, '--min-workers', '2');
    startWorker(cluster, { name: 'quick' });
    startWorker(cluster, { name: 'slow', throttle: 3000 });
    const named = await cluster.coordinator.untilLogged((line) => line.event === 'straggler');
    expect(named.worker).toBe('slow');
    const { code, stderr } = await cluster.coordinator.finished;
    expect(code, stderr).toBe(0);
    expect(await digestOf(join(dir, 'slow'))).toBe(alone);
  });

  it('does the quickstart', { timeout: LIMIT_MS }, async () => {
    const { code, stdout, stderr } = await run(['quickstart', '--dir', join(dir, 'quick'), '--steps', '2']);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(
      /2 workers {2}([0-9a-f]{64}) {2}step 2\n {2}1 worker {3}\1 {2}step 2\n {2}the same to the bit/,
    );
    expect(stdout).toMatch(/noised {4}\S.*\n {2}original {2}\S.*\n {2}model/);
  });
});
