/**
 * The webgpu engine in runs, on a software driver of graphics cards: the same bits for one worker and two,
 * a fleet of two engines, a device that is taken away in the middle. As small as it can be: a gradient
 * takes seconds there.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PrivateRedis, startPrivateRedis } from '../../src/queue/index.ts';
import { BUILT, runInProcess } from '../support/in-process.ts';
import {
  committedSteps,
  digestOf,
  endpointOf,
  isCommit,
  preparedFolder,
  run,
  slotOwners,
  start,
} from '../support/lockstep-command.ts';
import { softwareVulkan, softwareVulkanLacks } from '../support/software-vulkan.ts';

const LIMIT_MS = 600_000;
const TOKEN = 'a-token-for-tests-of-some-length';
const SETTINGS = [
  ...['--preset', 'tiny', '--micro-batches', '2', '--micro-batch-size', '1'],
  ...['data.sequenceLength=8', 'model.dModel=8', 'model.heads=1', 'model.ffnDim=8', 'model.dropout=0']
    // It takes all cores; a worker that is late with its heartbeat is not lost.
    .concat(['model.encoderLayers=1', 'model.decoderLayers=1', 'network.heartbeatLimitMs=20000'])
    .flatMap((setting) => ['--set', setting]),
];
const lacking = softwareVulkanLacks === null ? '' : ` (${softwareVulkanLacks})`;

describe.skipIf(softwareVulkanLacks !== null)(`engine webgpu in a run${lacking}`, () => {
  let dir = '';
  let data = '';
  let remove = () => {};

  beforeAll(async () => {
    ({ dir, data, remove } = await preparedFolder());
  }, LIMIT_MS);
  afterAll(() => remove());

  it('gives the same bits with one worker and with two', { timeout: LIMIT_MS }, async () => {
    const digests: string[] = [];
    for (const workers of ['1', '2']) {
      const runDir = join(dir, `webgpu-${workers}`);
      const flags = ['--engine', 'webgpu', '--steps', '1', '--workers', workers];
      const { code, stderr } = await run(['train', '--data', data, '--run', runDir, ...SETTINGS, ...flags], {
        env: softwareVulkan,
      });
      expect(code, stderr).toBe(0);
      digests.push(await digestOf(runDir));
    }
    expect(digests[1]).toBe(digests[0]);
  });

  it('shares a run with tensorflow where that is allowed, and is turned away where it is not', {
    timeout: LIMIT_MS,
  }, async () => {
    const redis: PrivateRedis = await startPrivateRedis();
    const begin = async (name: string, ...more: string[]) => {
      const places = ['--data', data, '--run', join(dir, name), '--redis', redis.url];
      const ports = ['--port', '0', '--http-port', '0'];
      const flags = ['--engine', 'tensorflow', '--steps', '5', ...more];
      const coordinator = start(['coordinator', ...places, ...ports, ...SETTINGS, ...flags], {
        env: { LOCKSTEP_TOKEN: TOKEN },
      });
      const endpoint = await endpointOf(coordinator);
      const join_ = (worker: string, ...own: string[]) =>
        start(['worker', '--coordinator', endpoint, '--data', data, '--name', worker, ...own], {
          env: { LOCKSTEP_TOKEN: TOKEN, ...softwareVulkan },
        });
      return { coordinator, join: join_ };
    };
    try {
      const strict = await begin('strict');
      const refused = await strict.join('other', '--engine', 'webgpu').finished;
      expect(refused.code).toBe(1);
      expect(refused.stderr).toMatch(
        /CONFIG_MISMATCH: --engine webgpu: the run computes with tensorflow; .*mixedEngines=true/,
      );
      strict.coordinator.kill('SIGKILL');
      await strict.coordinator.finished;

      // The first step is the slow one's alone. It stays slow, or it might be done before the other is there.
      const mixed = await begin('mixed', '--set', 'mixedEngines=true');
      const workers = [mixed.join('gpu', '--engine', 'webgpu', '--throttle', '2000')];
      await mixed.coordinator.untilLogged(isCommit(1));
      workers.push(mixed.join('cpu'));
      const { code, stderr } = await mixed.coordinator.finished;
      expect(code, stderr).toBe(0);
      for (const worker of workers) expect((await worker.finished).code).toBe(0);
      // A step commits when both have voted the same digests of parameters and gradient.
      expect(committedSteps(join(dir, 'mixed'))).toEqual([1, 2, 3, 4, 5]);
      expect(new Set(slotOwners(join(dir, 'mixed')))).toEqual(new Set(['gpu', 'cpu']));
    } finally {
      await redis.stop();
    }
  });

  it('computes the same bits after its device was taken away, and says what fits one that is full', {
    timeout: LIMIT_MS,
  }, async () => {
    const child = join(import.meta.dirname, '..', 'support', 'children', 'webgpu-trouble.mjs');
    const { stdout } = await promisify(execFile)(process.execPath, [child, BUILT], {
      env: { ...process.env, ...softwareVulkan },
    });
    const { before, after, restarts, error } = JSON.parse(stdout.trim().split('\n').at(-1)!);
    expect(after).toBe(before);
    expect(restarts).toEqual(['lost', 'outOfMemory']);
    expect(error.code).toBe('DEVICE_FAILED');
    expect(error.message).toMatch(/too little memory for step.microBatchSize 2; 1 fit here when tried/);
  });

  it('refuses products in float16 on a device without it, in one line', { timeout: LIMIT_MS }, async () => {
    const train = ['train', '--data', data, '--run', join(dir, 'float16'), ...SETTINGS];
    const flags = ['--engine', 'webgpu', '--set', 'matmulPrecision=float16'];
    const { code, stderr } = await runInProcess([...train, ...flags], { env: softwareVulkan });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /CONFIG_INVALID: matmulPrecision is float16: SwiftShader.* lacks the feature shader-f16; leave it at float32/,
    );
  });

  it.each([
    ['7', /CONFIG_INVALID: --device 7: no such WebGPU adapter; this machine has: 0 SwiftShader/],
    ['all', /CONFIG_INVALID: --devices all: engine webgpu finds no graphics card here/],
  ])('refuses --devices %s in one line', { timeout: LIMIT_MS }, async (devices, line) => {
    const train = ['train', '--data', data, '--run', join(dir, `on-${devices}`), ...SETTINGS];
    const flags = ['--engine', 'webgpu', '--devices', devices];
    const { code, stderr } = await runInProcess([...train, ...flags], { env: softwareVulkan });
    expect(code).toBe(1);
    expect(stderr).toMatch(line);
  });
});
