/**
 * What a person gets wrong: each case ends with one line that names the thing, its value and the
 * remedy, a non-zero exit, and nothing lost.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runInProcess } from '../support/in-process.ts';
import {
  CORPUS,
  digestOf,
  type Finished,
  isCommit,
  preparedFolder,
  run,
  start,
  succeed,
} from '../support/lockstep-command.ts';

const LIMIT_MS = 120_000;
const TOKEN = { LOCKSTEP_TOKEN: 'a-token-for-tests-of-some-length' };

let dir = '';
let data = '';
let remove = () => {};

beforeAll(async () => {
  ({ dir, data, remove } = await preparedFolder());
}, LIMIT_MS);
afterAll(() => remove());

/** The one line of a command that must fail, in this process. */
async function complaintOf(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  return lineOf(await runInProcess(args, { env }));
}

/** The same of a real process. */
async function complaintOfProcess(args: readonly string[]): Promise<string> {
  return lineOf(await run(args));
}

function lineOf({ code, stdout, stderr }: Finished): string {
  expect(code, `${stdout}\n${stderr}`).toBe(1);
  const lines = stderr
    .trim()
    .split('\n')
    // Log lines, and the notice of a machine without TensorFlow, are no complaints.
    .filter((line) => !line.startsWith('{') && !line.startsWith('lockstep: engine wasm, because'));
  expect(lines, stderr).toHaveLength(1);
  return lines[0]!;
}

const train = (...more: string[]) => [
  'train',
  '--data',
  data,
  '--run',
  join(dir, 'run'),
  '--steps',
  '2',
  ...more,
];

function writeConfig(text: string): string {
  const path = join(dir, 'config.json');
  writeFileSync(path, text);
  return path;
}

describe('flags and configuration', () => {
  it.each([
    ['--advertise', 'a:b:c', /--advertise.*expected HOST or HOST:PORT/],
    ['--advertise', 'head:70000', /--advertise.*expected a port number of 0 to 65535/],
    ['--redis-via', 'head', /--redis-via.*expected HOST:PORT/],
    ['--http-via', 'http://head:7701', /--http-via.*expected HOST or HOST:PORT/],
    ['--host-threads', '0', /--host-threads.*'0' is invalid. expected 1 or more/],
    ['--host-threads', '1.5', /--host-threads.*'1.5' is invalid. expected a whole number/],
  ])('a worker with %s %s', async (flag, value, said) => {
    const place = ['--coordinator', 'tcp://127.0.0.1:7700', '--data', data];
    expect(await complaintOf(['worker', ...place, flag, value])).toMatch(said);
  });

  it.each([
    [
      'an unknown preset',
      ['--preset', 'gigantic'],
      /--preset is "gigantic": expected one of tiny, small, base/,
    ],
    ['no workers', ['--workers', '0'], /--workers.*'0' is invalid. expected 1 or more/],
    ['too many threads', ['--host-threads', '65'], /--host-threads.*'65' is invalid. expected at most 64/],
    ['no steps', ['--steps', '0'], /steps is 0/],
    ['no micro-batches', ['--micro-batches', '0'], /step\.microBatches is 0/],
    [
      'an unknown setting',
      ['--set', 'optimizer.learningrate=1'],
      /optimizer\.learningrate; did you mean learningRate\?/,
    ],
    ['heads that do not divide', ['--set', 'model.heads=7'], /model\.heads is 7: must divide dModel evenly/],
    [
      'a batch that does not fit',
      ['--set', 'data.sequenceLength=65'],
      /data\.sequenceLength is 65: expected at most model\.maxPositions \(64\)/,
    ],
    ['an unknown engine', ['--engine', 'abacus'], /engine is "abacus".*tensorflow/],
    [
      'products in float16 on the CPU',
      ['--engine', 'wasm', '--set', 'matmulPrecision=float16'],
      /matmulPrecision is float16: engine wasm multiplies in float32 only; .*choose --engine webgpu/,
    ],
    ['a wrong throttle', ['--throttle-worker', '5:10'], /--throttle-worker 5:10: there are only 1 workers/],
  ])('%s', async (_what, flags, message) => {
    expect(await complaintOf(train(...flags))).toMatch(message);
  });

  it('names a misspelt key of a file and the key that was meant', async () => {
    const path = writeConfig('{"optimizer": {"warmupStep": 3}}');
    const line = await complaintOfProcess(train('--config', path));
    expect(line).toContain(`${path}: unknown setting optimizer.warmupStep; did you mean warmupSteps?`);
  });

  it('names a file that is not JSON', async () => {
    expect(await complaintOf(train('--config', writeConfig('{')))).toMatch(/config\.json is not valid JSON/);
  });

  it('asks for the token', async () => {
    const worker = ['worker', '--coordinator', 'tcp://127.0.0.1:1', '--data', data];
    expect(await complaintOf(worker, { LOCKSTEP_TOKEN: '' })).toMatch(/LOCKSTEP_TOKEN is not set/);
    expect(await complaintOf(worker, { LOCKSTEP_TOKEN: 'short' })).toMatch(/shorter than 16 characters/);
  });
});

describe('data', () => {
  it('names a dump that is not there', async () => {
    expect(await complaintOf(['prepare', 'no.xml', '--out', join(dir, 'd')])).toMatch(
      /no\.xml does not exist/,
    );
  });

  it('names a dump that is cut inside a page, and where', async () => {
    const cut = join(dir, 'cut.xml');
    copyFileSync(CORPUS, cut);
    truncateSync(cut, 100_000);
    const line = await complaintOfProcess(['prepare', cut, '--out', join(dir, 'd')]);
    expect(line).toMatch(/cut\.xml.*byte \d+/);
    expect(line).toContain('--allow-truncated');
  });

  it('names a data set that is not there', async () => {
    const line = await complaintOf(['train', '--data', join(dir, 'none'), '--run', join(dir, 'run')]);
    expect(line).toMatch(/none.manifest\.json does not exist: run `lockstep prepare`/);
  });

  it('names a token shard that is cut short or altered', { timeout: LIMIT_MS }, async () => {
    const damaged = join(dir, 'damaged');
    cpSync(data, damaged, { recursive: true });
    const shard = join(damaged, 'tokens-00000.bin');
    const bytes = readFileSync(shard);
    const args = ['train', '--data', damaged, '--run', join(dir, 'run-damaged'), '--steps', '2'];
    truncateSync(shard, bytes.length - 10);
    expect(await complaintOfProcess(args)).toMatch(/tokens-00000\.bin/);
    bytes[100] = bytes[100]! ^ 1;
    writeFileSync(shard, bytes);
    // Sizes are right: the workers, which read the shard, find its hash wrong.
    expect(await complaintOfProcess(args)).toMatch(/WORKER_LOST.*tokens-00000\.bin.*SHA-256/);
  });
});

describe('a run', () => {
  beforeAll(async () => {
    await succeed([
      'train',
      '--data',
      data,
      '--run',
      join(dir, 'run'),
      '--steps',
      '4',
      '--set',
      'checkpoint.every=2',
    ]);
  }, LIMIT_MS);

  it('is not started over', async () => {
    expect(await complaintOf(train())).toMatch(/holds a run already \(step 4\): add --resume/);
  });

  it('is not resumed when it is complete', async () => {
    const line = await complaintOf(['train', '--data', data, '--run', join(dir, 'run'), '--resume']);
    expect(line).toMatch(/is complete: it has reached step 4 of 4; raise --steps/);
  });

  it('is not resumed with another configuration; what differs is listed', async () => {
    const line = await complaintOf(train('--resume', '--seed', '9', '--set', 'optimizer.clipNorm=null'));
    expect(line).toContain('optimizer.clipNorm: 1 -> null; seed: 1 -> 9');
  });

  it('is not resumed with other data', async () => {
    const other = join(dir, 'other');
    await succeed(['prepare', CORPUS, '--out', other, '--vocab-size', '900']);
    const line = await complaintOf(['train', '--data', other, '--run', join(dir, 'run'), '--resume']);
    expect(line).toMatch(/model\.vocabSize is 1000, but the data set .* has 900/);
  });

  it('that is missing is not resumed', async () => {
    const line = await complaintOf(['train', '--data', data, '--run', join(dir, 'no'), '--resume']);
    expect(line).toMatch(/--resume: .*no holds no run/);
    expect(await complaintOf(['digest', join(dir, 'no')])).toMatch(/holds no valid checkpoint/);
  });

  it('takes the checkpoint before one that is cut short, and says so', { timeout: LIMIT_MS }, async () => {
    const copy = join(dir, 'cut-checkpoint');
    cpSync(join(dir, 'run'), copy, { recursive: true });
    const model = join(copy, 'checkpoints', 'step-00000004', 'model.safetensors');
    truncateSync(model, 1000);
    const { code, stderr } = await run(['train', '--data', data, '--run', copy, '--resume', '--steps', '5']);
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(
      /checkpoint of step 4 passed over: .*model\.safetensors.*; the one of step 2 is used/,
    );
    expect(await digestOf(copy)).toMatch(/step 5$/);
  });

  it('with a damaged commit log is refused, with line and byte', async () => {
    const copy = join(dir, 'bad-log');
    cpSync(join(dir, 'run'), copy, { recursive: true });
    const path = join(copy, 'commits.log');
    const bytes = readFileSync(path);
    const second = bytes.indexOf(10) + 30;
    bytes[second] = bytes[second]! ^ 1;
    writeFileSync(path, bytes);
    const line = await complaintOfProcess([
      'train',
      '--data',
      data,
      '--run',
      copy,
      '--resume',
      '--steps',
      '5',
    ]);
    expect(line).toMatch(/HISTORY_CORRUPT.*commits\.log.*line 2.*byte \d+/);
    expect(createHash('sha256').update(readFileSync(path)).digest('hex'), 'nothing was changed').toBe(
      createHash('sha256').update(bytes).digest('hex'),
    );
  });

  it('is open in one process at a time', { timeout: LIMIT_MS }, async () => {
    const args = ['train', '--data', data, '--run', join(dir, 'busy'), '--steps', '200'];
    const first = start(args);
    await first.untilLogged(isCommit(1));
    expect(await complaintOfProcess([...args, '--resume'])).toMatch(/RUN_IN_USE.*process/);
    first.kill('SIGINT');
    expect((await first.finished).code).toBe(0);
  });
});

describe('servers', () => {
  it('says that Redis cannot be reached, without its password', async () => {
    const line = await complaintOf(train('--redis', 'redis://:secret@127.0.0.1:1'));
    expect(line).toMatch(
      /REDIS_UNAVAILABLE: Redis at redis:\/\/\*\*\*@127\.0\.0\.1:1 cannot be reached .*ECONNREFUSED/,
    );
    expect(line).not.toContain('secret');
  });

  it('says that a port is taken', { timeout: LIMIT_MS }, async () => {
    const { startPrivateRedis } = await import('../../src/queue/index.ts');
    const redis = await startPrivateRedis();
    const blocker = createServer();
    const port = await new Promise<number>((resolve) => {
      blocker.listen(0, '127.0.0.1', () => {
        const address = blocker.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
    try {
      const common = ['coordinator', '--data', data, '--run', join(dir, 'ports'), '--redis', redis.url];
      const control = await complaintOf([...common, '--port', String(port), '--http-port', '0'], TOKEN);
      expect(control).toMatch(
        new RegExp(`ADDRESS_IN_USE: cannot listen on tcp://127\\.0\\.0\\.1:${port}.*taken`),
      );
      const http = await complaintOf([...common, '--port', '0', '--http-port', String(port)], TOKEN);
      expect(http).toMatch(new RegExp(`ADDRESS_IN_USE: cannot serve checkpoints on 127\\.0\\.0\\.1:${port}`));
    } finally {
      blocker.close();
      await redis.stop();
    }
  });
});

describe('a full disk', () => {
  const canMount = (() => {
    try {
      return process.getuid?.() === 0 && execFileSync('mount', ['--version']).length > 0;
    } catch {
      return false;
    }
  })();

  it.skipIf(!canMount)('ends the run; the last checkpoint stays whole', { timeout: LIMIT_MS }, async () => {
    const disk = join(dir, 'disk');
    mkdirSync(disk);
    // A checkpoint of this model takes about 3 MB, and two are kept: the third does not fit.
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', disk]);
    try {
      const runDir = join(disk, 'run');
      const line = await complaintOfProcess([
        ...['train', '--data', data, '--run', runDir, '--steps', '40'],
        ...['--set', 'checkpoint.every=2', '--set', 'checkpoint.keepLast=100'],
      ]);
      expect(line).toMatch(/DISK_FULL: .*checkpoints.*/);
      expect(await digestOf(runDir)).toMatch(/^[0-9a-f]{64} {2}step [24]$/);
    } finally {
      execFileSync('umount', [disk]);
      rmSync(disk, { recursive: true, force: true });
    }
  });
});
