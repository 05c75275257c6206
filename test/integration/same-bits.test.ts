/**
 * The promise, with real processes: the final weights do not depend on how many workers took part,
 * how fast each was, who died, or where the run was interrupted; each step is committed once.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  committedSteps,
  digestOf,
  isCommit,
  preparedFolder,
  processesMentioning,
  recordsOf,
  run,
  slotOwners,
  start,
} from '../support/lockstep-command.ts';

const STEPS = 8;
const ALL_STEPS = Array.from({ length: STEPS }, (_, index) => index + 1);
const LIMIT_MS = 180_000;

let dir = '';
let data = '';
let remove = () => {};
/** `<sha256>  step 8` of an undisturbed run with one worker. */
let undisturbed = '';

function trainArgs(name: string, ...more: string[]): string[] {
  return ['train', '--data', data, '--run', join(dir, name), ...more];
}

const FRESH = [
  '--preset',
  'tiny',
  '--steps',
  String(STEPS),
  '--micro-batches',
  '8',
  '--micro-batch-size',
  '1',
  '--set',
  'checkpoint.every=4',
];

/**
 * So many workers, each slow: a run must not be over before what is to happen to it has happened, nor some have done
 * all before another is there, however late a loaded machine is.
 */
function unhurried(workers: number): string[] {
  const throttles = Array.from({ length: workers }, (_, index) => `${index}:200`);
  return ['--workers', String(workers), '--throttle-worker', ...throttles];
}

async function expectSameBits(name: string): Promise<void> {
  expect(await digestOf(join(dir, name))).toBe(undisturbed);
  expect(committedSteps(join(dir, name))).toEqual(ALL_STEPS);
}

beforeAll(async () => {
  ({ dir, data, remove } = await preparedFolder());
  const { code, stderr } = await run(trainArgs('one', ...FRESH, '--workers', '1'));
  expect(code, stderr).toBe(0);
  undisturbed = await digestOf(join(dir, 'one'));
}, LIMIT_MS);

afterAll(() => remove());

describe('the same weights to the bit', () => {
  it('has a digest line of the documented form', () => {
    expect(undisturbed).toMatch(/^[0-9a-f]{64} {2}step 8$/);
  });

  it.each([2, 4])('with %i workers', { timeout: LIMIT_MS }, async (workers) => {
    const name = `${workers}-workers`;
    const { code, stderr } = await run(trainArgs(name, ...FRESH, ...unhurried(workers)));
    expect(code, stderr).toBe(0);
    await expectSameBits(name);
    expect(new Set(slotOwners(join(dir, name))).size, 'every worker computed something').toBe(workers);
  });

  it('with the wasm engine as well', { timeout: LIMIT_MS }, async () => {
    const short = ['--preset', 'tiny', '--engine', 'wasm', '--steps', '2', '--micro-batches', '4'];
    const digests: string[] = [];
    for (const workers of ['1', '2']) {
      const { code, stderr } = await run(trainArgs(`wasm-${workers}`, ...short, '--workers', workers));
      expect(code, stderr).toBe(0);
      digests.push(await digestOf(join(dir, `wasm-${workers}`)));
    }
    expect(digests[1]).toBe(digests[0]);
  });

  it('where gradients are summed in bfloat16', { timeout: LIMIT_MS }, async () => {
    const digests: string[] = [];
    for (const workers of ['1', '3']) {
      const name = `bfloat16-${workers}`;
      const args = [...FRESH, '--steps', '3', '--set', 'gradientPrecision=bfloat16', '--workers', workers];
      const { code, stderr } = await run(trainArgs(name, ...args));
      expect(code, stderr).toBe(0);
      digests.push(await digestOf(join(dir, name)));
    }
    expect(digests[1]).toBe(digests[0]);
    const stepsOf = (name: string) =>
      recordsOf(join(dir, name)).filter(({ kind, step }) => kind === 'committed' && Number(step) <= 3);
    const [rounded, whole] = [stepsOf('bfloat16-1'), stepsOf('one')];
    expect(rounded).toHaveLength(3);
    for (const [index, { gradientDigest, lossSum, tokens }] of rounded.entries()) {
      expect(gradientDigest).not.toBe(whole[index]!.gradientDigest);
      // Nats per token: it learns the same.
      const gap = (Number(lossSum) - Number(whole[index]!.lossSum)) / Number(tokens);
      expect(Math.abs(gap)).toBeLessThan(1e-3);
    }
  });

  it('however many threads add up in a worker', { timeout: LIMIT_MS }, async () => {
    // Wide enough that a worker's whole gradient, and each half of it that two workers add up, is shared.
    const wide = [...FRESH, '--steps', '3', '--set', 'model.ffnDim=2048'];
    const digests: string[] = [];
    for (const [workers, threads] of ['1', '2'].entries()) {
      const name = `threads-${threads}`;
      const args = [...wide, '--workers', String(workers + 1), '--host-threads', threads];
      const { code, stderr } = await run(trainArgs(name, ...args));
      expect(code, stderr).toBe(0);
      digests.push(await digestOf(join(dir, name)));
      const log = readFileSync(join(dir, name, 'logs', 'worker-0.log'), 'utf8');
      expect(log).toContain(`"count":${threads},"asked":${threads}`);
      expect(log).not.toContain('helperLost');
    }
    expect(digests[1]).toBe(digests[0]);
  });

  it('with one of three workers slowed down', { timeout: LIMIT_MS }, async () => {
    const slow = ['--workers', '3', '--throttle-worker', '1:400'];
    const { code, stderr } = await run(trainArgs('slow', ...FRESH, ...slow));
    expect(code, stderr).toBe(0);
    await expectSameBits('slow');
  });

  it('when one of three workers is killed in the middle of a step', { timeout: LIMIT_MS }, async () => {
    const training = start(trainArgs('killed', ...FRESH, ...unhurried(3)));
    const joined = await training.untilLogged(
      (line) => line.event === 'workerJoined' && line.worker === 'worker-1',
    );
    await training.untilLogged(isCommit(3));
    process.kill(Number(joined.pid), 'SIGKILL');
    const lost = await training.untilLogged((line) => line.event === 'workerLost');
    expect(lost.worker).toBe('worker-1');
    const { code, stderr } = await training.finished;
    expect(code, stderr).toBe(0);
    await expectSameBits('killed');
  });

  it('when a worker is frozen until it is declared lost, and wakes up', { timeout: LIMIT_MS }, async () => {
    const training = start(
      trainArgs('frozen', ...FRESH, ...unhurried(2), '--set', 'network.heartbeatLimitMs=1000'),
    );
    const joined = await training.untilLogged(
      (line) => line.event === 'workerJoined' && line.worker === 'worker-1',
    );
    await training.untilLogged(isCommit(2));
    process.kill(Number(joined.pid), 'SIGSTOP');
    await training.untilLogged((line) => line.event === 'workerLost' && line.worker === 'worker-1');
    process.kill(Number(joined.pid), 'SIGCONT');
    const { code, stderr } = await training.finished;
    expect(code, stderr).toBe(0);
    await expectSameBits('frozen');
  });

  it('when it is stopped with a signal and resumed with other workers', { timeout: LIMIT_MS }, async () => {
    const training = start(trainArgs('stopped', ...FRESH, ...unhurried(2)));
    await training.untilLogged(isCommit(3));
    training.kill('SIGINT');
    const first = await training.finished;
    expect(first.code, first.stderr).toBe(0);
    expect(first.stdout).toMatch(/stopped at step \d+; go on with --resume/);
    const second = await run(trainArgs('stopped', '--workers', '3', '--resume'));
    expect(second.code, second.stderr).toBe(0);
    await expectSameBits('stopped');
  });

  it('when everything is killed after the checkpoint of step 4 and resumed', {
    timeout: LIMIT_MS,
  }, async () => {
    const training = start(trainArgs('crashed', ...FRESH, ...unhurried(2)));
    await training.untilLogged((line) => line.event === 'checkpointStored' && line.step === 4);
    await training.untilLogged(isCommit(6));
    training.kill('SIGKILL');
    await training.finished;
    const resumed = start(trainArgs('crashed', '--workers', '1', '--resume'));
    const repeated = await resumed.untilLogged(isCommit(5));
    expect(repeated.repeated, 'steps after the checkpoint are repeated and compared with the log').toBe(true);
    const { code, stderr } = await resumed.finished;
    expect(code, stderr).toBe(0);
    await expectSameBits('crashed');
    expect(processesMentioning(join(dir, 'crashed')), 'no process is left behind').toEqual([]);
  });
});
