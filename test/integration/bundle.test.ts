/** The portable archive: unpacked in an empty folder, with nothing on the PATH, it examines the host and works in a run. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isForTarget, isRunnable } from '../../src/cli/bundle/keep.ts';
import { startPrivateRedis } from '../../src/queue/index.ts';
import { runInProcess } from '../support/in-process.ts';
import { endpointOf, preparedFolder, slotOwners, start, succeed } from '../support/lockstep-command.ts';

const LIMIT_MS = 600_000;
const BYTES_MAX = 60e6;
const TOKEN = 'a-token-for-tests-of-some-length';

describe('what a bundle keeps of a package', () => {
  const linux = { platform: 'linux', arch: 'x64' };
  it.each([
    ['dist/linux-x64/dawn.node', true],
    ['dist/linux-arm64/dawn.node', false],
    ['dist/darwin-universal/dawn.node', false],
    ['build/linux/x64/node/115/addon.node', true],
    ['build/linux/arm64/node/115/addon.node', false],
    ['build/win32/x64/node/115/addon.node', false],
    ['build/linux/x64/node/glibc-115-Release/addon.node', true],
    ['build/linux/x64/node/glibc-127-Release/addon.node', true],
    ['lib/115/index.js', true],
    ['lib/arm-wrestling.js', true],
  ])('%s on Linux x64: %s', (path, kept) => expect(isForTarget(path, linux)).toBe(kept));

  it.each([
    ['zod', 'index.js', true],
    ['zod', 'index.d.ts', false],
    ['zod', 'LICENSE', true],
    ['zod', 'tests/index.js', false],
    ['@tensorflow/tfjs-core', 'dist/tf-core.node.js', true],
    ['@tensorflow/tfjs-core', 'dist/tf-core.min.js', false],
    ['@tensorflow/tfjs-core', 'package.json', true],
  ])('%s %s: %s', (name, path, kept) => {
    expect(isRunnable(name, path, 'dist/tf-core.node.js')).toBe(kept);
  });
});

describe('lockstep bundle', () => {
  let dir = '';
  let data = '';
  let remove = () => {};
  let folder = '';
  const archive = () => join(dir, 'lockstep.tar.gz');
  const bare = () => ({ PATH: '', HOME: join(dir, 'home'), LOCKSTEP_TOKEN: TOKEN });

  beforeAll(async () => {
    ({ dir, data, remove } = await preparedFolder());
    await succeed(['bundle', '--output', archive()]);
    const elsewhere = mkdtempSync(join(tmpdir(), 'lockstep-elsewhere-'));
    execFileSync('tar', ['xzf', archive(), '-C', elsewhere]);
    folder = join(elsewhere, readdirSync(elsewhere)[0]!);
    mkdirSync(bare().HOME);
  }, LIMIT_MS);
  afterAll(() => {
    remove();
    if (folder !== '') rmSync(join(folder, '..'), { recursive: true, force: true });
  }, LIMIT_MS);

  it('is below 60 MB, with checksums that hold', () => {
    expect(statSync(archive()).size).toBeLessThan(BYTES_MAX);
    execFileSync('sha256sum', ['--check', '--quiet', 'lockstep.tar.gz.sha256'], { cwd: dir });
    execFileSync('sha256sum', ['--check', '--quiet', 'SHA256SUMS'], { cwd: folder });
  });

  it('examines a host where nothing is on the PATH', { timeout: LIMIT_MS }, async () => {
    const stdout = await new Promise<string>((resolve) => {
      execFile(join(folder, 'lockstep'), ['doctor'], { env: bare(), cwd: '/' }, (_, text) => resolve(text));
    });
    expect(stdout).toMatch(/^ok +engine wasm/m);
    // TensorFlow is not in it.
    expect(stdout).toMatch(/^MISS +engine tensorflow/m);
  });

  it('works for a coordinator that was started elsewhere', { timeout: LIMIT_MS }, async () => {
    const redis = await startPrivateRedis();
    try {
      const runDir = join(dir, 'run');
      const places = [
        '--data',
        data,
        '--run',
        runDir,
        '--redis',
        redis.url,
        '--port',
        '0',
        '--http-port',
        '0',
      ];
      const settings = ['--preset', 'tiny', '--engine', 'wasm', '--steps', '2', '--micro-batches', '2'];
      const coordinator = start(['coordinator', ...places, ...settings], { env: { LOCKSTEP_TOKEN: TOKEN } });
      const endpoint = await endpointOf(coordinator);
      // Without --data: it fetches what it needs from the coordinator.
      const worker = new Promise<void>((resolve, reject) => {
        const args = ['worker', '--coordinator', endpoint, '--name', 'portable'];
        execFile(join(folder, 'lockstep'), args, { env: bare(), cwd: '/' }, (error, _, stderr) => {
          if (error === null) resolve();
          else reject(new Error(stderr));
        });
      });
      // Whichever ends badly says so at once: without its worker the coordinator would wait for ever.
      const [{ code, stderr }] = await Promise.all([coordinator.finished, worker]);
      expect(code, stderr).toBe(0);
      expect(slotOwners(runDir)).toEqual(Array(4).fill('portable'));
    } finally {
      await redis.stop();
    }
  });

  it('refuses a name that is no archive', async () => {
    const { code, stderr } = await runInProcess(['bundle', '--output', join(dir, 'lockstep.zip')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/CONFIG_INVALID: --output .*lockstep.zip: expected a name that ends in .tar.gz/);
  });
});
