/**
 * Preparation by real processes over a real Redis: the same bytes whoever did the work, who died meanwhile, and
 * however often it was interrupted (issue: one data set, any number of workers).
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, watch } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { dumpXml, sampleText, writeInto } from '../support/data-files.ts';
import { runInProcess } from '../support/in-process.ts';
import { processesMentioning, type Running, run, start } from '../support/lockstep-command.ts';
import { RestartableRedis } from '../support/redis-server.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { within } from '../support/waiting.ts';

const LIMIT_MS = 120_000;

/** A dump of `count` articles, each different from those of another `seed`. */
function dump(count: number, seed: number): string {
  const pages = Array.from({ length: count }, (_, index) => ({
    title: `Article ${seed}-${index}`,
    text: `${sampleText(seed * 10_000 + index, 25)} {{cite|x}}<ref>y</ref>\n\n== More ==\n[[A|B]] ends.`,
  }));
  return dumpXml([...pages, { title: 'Old', text: '#REDIRECT [[A]]', redirect: 'A' }]);
}

let folder = '';
let inputs: string[] = [];
let expected: Record<string, string> = {};

const flags = (out: string, ...more: string[]) => {
  const common = ['--vocab-size', '340', '--unit-bytes', '100000'];
  return ['prepare', ...inputs, '--out', join(folder, out), ...common, ...more];
};

/** The SHA-256 of every file in a data set; what is half done or under way would show too. */
function digests(out: string): Record<string, string> {
  const names = readdirSync(join(folder, out)).sort();
  return Object.fromEntries(
    names.map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, out, name)))
        .digest('hex'),
    ]),
  );
}

const workersOf = (out: string) =>
  processesMentioning('prepare-worker').filter((pid) => processesMentioning(join(folder, out)).includes(pid));

/** Resolves when a file whose name satisfies the test turns up in the work folder of `out`. */
function untilPart(out: string, running: Running, satisfies: (name: string) => boolean): Promise<void> {
  const work = join(folder, out, '.prepare');
  const seen = new Promise<void>((resolve) => {
    const look = () => existsSync(work) && readdirSync(work).some(satisfies);
    const watcher = watch(folder, { recursive: true }, () => {
      if (!look()) return;
      watcher.close();
      resolve();
    });
  });
  const ended = running.finished.then(({ stderr }) => {
    throw new Error(`the command ended before the part came: ${stderr}`);
  });
  return within('a part', Promise.race([seen, ended]), LIMIT_MS);
}

const isCleanPart = (name: string) => /^clean-\d+-\d+$/.test(name);
const isAttempt = (name: string) => /^clean-.*\.partial$/.test(name);

beforeAll(async () => {
  folder = await temporaryFolder();
  const lines = Array.from({ length: 150 }, (_, index) => ({
    id: index,
    text: sampleText(900_000 + index, 12),
  }));
  inputs = [
    writeInto(folder, 'first.xml', dump(300, 1)),
    writeInto(folder, 'second.xml.gz', gzipSync(dump(200, 2))),
    writeInto(folder, 'third.jsonl', lines.map((line) => `${JSON.stringify(line)}\n`).join('')),
    // A copy under another name: all of it is dropped as duplicates.
    writeInto(folder, 'copy.xml', dump(40, 1)),
  ];
  if (spawnSync('bzip2', ['--help'], { stdio: 'ignore' }).error === undefined) {
    const bz2 = spawnSync('bzip2', ['-1', '-c'], { input: dump(200, 3), maxBuffer: 1e9 }).stdout;
    inputs.push(writeInto(folder, 'fourth.xml.bz2', bz2));
  }
  const { code, stderr, stdout } = await run(flags('alone', '--processes', '1'));
  expect(stderr).toBe('');
  expect(code).toBe(0);
  expect(stdout).toMatch(/dropped .*40 duplicate/);
  expected = digests('alone');
}, LIMIT_MS);

describe('lockstep prepare', () => {
  it(
    'gives the same bytes with four processes, and in jobs of another size',
    async () => {
      const four = await run(flags('four', '--processes', '4'));
      expect([four.stderr, four.code]).toEqual(['', 0]);
      expect(digests('four')).toEqual(expected);
      const other = await run(flags('other', '--processes', '2', '--unit-bytes', '37000'));
      expect(other.code).toBe(0);
      expect(digests('other')).toEqual(expected);
    },
    LIMIT_MS,
  );

  it(
    'does the jobs of killed workers again',
    async () => {
      const running = start(flags('killed', '--processes', '2'));
      await untilPart('killed', running, isAttempt);
      for (const victim of workersOf('killed')) process.kill(victim, 'SIGKILL');
      const { code, stderr } = await running.finished;
      expect(stderr).toMatch(/worker-\d \(process \d+\) was killed: another takes its place/);
      expect(code).toBe(0);
      expect(digests('killed')).toEqual(expected);
    },
    LIMIT_MS,
  );

  it(
    'goes on where it was killed, and leaves no process behind',
    async () => {
      const first = start(flags('resumed', '--processes', '2'));
      await untilPart('resumed', first, isCleanPart);
      const workers = workersOf('resumed');
      first.kill('SIGKILL');
      await first.finished;
      expect(existsSync(join(folder, 'resumed', 'manifest.json'))).toBe(false);
      const { code } = await run(flags('resumed', '--processes', '3'));
      expect(code).toBe(0);
      expect(digests('resumed')).toEqual(expected);
      expect(workers.length).toBeGreaterThan(0);
      expect(workersOf('resumed')).toEqual([]);
    },
    LIMIT_MS,
  );

  it(
    'stops at Ctrl-C with a word on how to go on, and goes on',
    async () => {
      const first = start(flags('stopped', '--processes', '2'));
      await untilPart('stopped', first, isCleanPart);
      first.kill('SIGINT');
      const { code, stderr } = await first.finished;
      expect([code, stderr.includes('the same command goes on')]).toEqual([130, true]);
      expect((await run(flags('stopped', '--processes', '1'))).code).toBe(0);
      expect(digests('stopped')).toEqual(expected);
    },
    LIMIT_MS,
  );

  it(
    'leaves the work to workers of other hosts, who end when it does',
    async () => {
      const redis = await RestartableRedis.start();
      try {
        const running = start(flags('shared', '--processes', '0', '--redis', redis.url));
        await untilPart('shared', running, (name) => name === 'plan.json');
        const helpers = ['one', 'two'].map(() =>
          start(['prepare-worker', '--out', join(folder, 'shared')], { env: { LOCKSTEP_REDIS: redis.url } }),
        );
        const { code, stderr } = await running.finished;
        expect([stderr, code]).toEqual(['', 0]);
        expect(digests('shared')).toEqual(expected);
        const ends = await Promise.all(helpers.map(({ finished }) => finished));
        expect(ends.map((end) => [end.stderr, end.code])).toEqual([
          ['', 0],
          ['', 0],
        ]);
      } finally {
        await redis.kill();
      }
    },
    LIMIT_MS,
  );

  it(
    'goes on when Redis comes back empty',
    async () => {
      const redis = await RestartableRedis.start();
      try {
        const running = start(flags('restarted', '--processes', '2', '--redis', redis.url));
        await untilPart('restarted', running, isCleanPart);
        await redis.kill();
        await redis.start();
        const { code } = await running.finished;
        expect(code).toBe(0);
        expect(digests('restarted')).toEqual(expected);
      } finally {
        await redis.kill();
      }
    },
    LIMIT_MS,
  );

  it(
    'says in one line what a worker met in a damaged input',
    async () => {
      const cut = writeInto(folder, 'cut.xml', dump(300, 5).slice(0, 400_000));
      const common = ['--processes', '2', '--unit-bytes', '50000'];
      const { code, stderr } = await run(['prepare', cut, '--out', join(folder, 'cut'), ...common]);
      expect(code).toBe(1);
      expect(stderr).toMatch(
        /^lockstep: DATA_CORRUPT: .*cut\.xml: a page is cut inside; it begins at byte \d+: .*--allow-truncated.*\n$/,
      );
      const lenient = await run([
        'prepare',
        cut,
        '--out',
        join(folder, 'cut'),
        ...common,
        '--allow-truncated',
      ]);
      expect(lenient.code).toBe(0);
      expect(lenient.stdout).toMatch(/1 damaged/);
    },
    LIMIT_MS,
  );

  it.each([
    [
      ['prepare', 'x.xml', '--out', 'd', '--processes', '0'],
      /CONFIG_INVALID: --processes 0: without --redis/,
    ],
    [['prepare-worker', '--out', 'd'], /CONFIG_INVALID: --redis is missing/],
    [['prepare-worker', '--out', 'd', '--redis', 'redis://127.0.0.1:1'], /DATA_MISSING: d: no preparation/],
  ])('refuses %j', async (args, message) => {
    const { code, stderr } = await runInProcess(args, { env: { LOCKSTEP_REDIS: undefined } });
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
  });
});
