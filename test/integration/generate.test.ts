/** `lockstep generate` and `lockstep serve` on a short run: real processes, files and sockets. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runInProcess, succeedInProcess } from '../support/in-process.ts';
import { MAIN, preparedFolder, type Running, run, start, succeed } from '../support/lockstep-command.ts';

const LIMIT_MS = 240_000;

let dir = '';
let data = '';
let remove = () => {};
let place: string[] = [];

beforeAll(async () => {
  ({ dir, data, remove } = await preparedFolder());
  const settings = ['--preset', 'tiny', '--steps', '2', '--micro-batches', '2'];
  await succeed(['train', '--data', data, '--run', join(dir, 'run'), ...settings]);
  // An engine that loads quickly; what is asked here depends on none.
  place = [join(dir, 'run'), '--engine', 'wasm'];
}, LIMIT_MS);
afterAll(() => remove());

interface Line {
  readonly text: string;
  readonly tokens: readonly { layer: number; entropy: number; probability: number }[];
  readonly cutTo: number | null;
  readonly sourceTokens: number;
}

describe('lockstep generate', { timeout: LIMIT_MS }, () => {
  it('answers a file line by line, in order, the same however it is batched', async () => {
    const input = join(dir, 'sources.txt');
    const sources = ['The old town', `A long one ${'and on '.repeat(80)}`, 'On the river', 'A', 'Last'];
    writeFileSync(input, `${sources.join('\n')}\n`);
    const output = join(dir, 'outputs.jsonl');
    const { code, stderr } = await run([
      'generate',
      ...place,
      '--input',
      input,
      '--output',
      output,
      '--json',
    ]);
    expect(code).toBe(0);
    expect(stderr).toContain('1 sources were longer than the model reads and were cut to 48 tokens');
    const lines = readFileSync(output, 'utf8').trimEnd().split('\n');
    const parsed = lines.map((line) => JSON.parse(line) as Line);
    expect(parsed.map(({ cutTo }) => cutTo)).toEqual([null, 48, null, null, null]);
    for (const { tokens } of parsed) {
      expect(tokens.length).toBeLessThanOrEqual(48);
      expect(tokens.every(({ layer }) => layer === 1 || layer === 2)).toBe(true);
      expect(tokens.every(({ probability }) => probability > 0 && probability <= 1)).toBe(true);
      expect(tokens.every(({ entropy }) => entropy >= 0 && entropy <= Math.log(1000))).toBe(true);
    }
    const again = join(dir, 'again.txt');
    const alone = ['--batch-size', '2', '--output', again];
    await succeedInProcess(['generate', ...place, '--input', input, ...alone]);
    const texts = readFileSync(again, 'utf8').split('\n').slice(0, -1);
    expect(texts).toEqual(parsed.map(({ text }) => text.replace(/\s+/g, ' ').trim()));
  });

  it('leaves at the first layer when every entropy is below the threshold', async () => {
    const threshold = ['--threshold', '100', '--target-length', '5', '--json'];
    const text = await succeedInProcess([
      'generate',
      ...place,
      '--text',
      'one',
      '--text',
      'two',
      ...threshold,
    ]);
    const lines = text.trimEnd().split('\n');
    expect(lines).toHaveLength(2);
    const layers = lines.flatMap((line) => (JSON.parse(line) as Line).tokens.map(({ layer }) => layer));
    expect(new Set(layers)).toEqual(new Set([1]));
  });

  it('says in one line what is wrong with its input, and keeps what it has written', async () => {
    const input = join(dir, 'bad.txt');
    const output = join(dir, 'bad.out');
    const problem = async (...more: string[]) => {
      const { code, stderr } = await runInProcess(['generate', ...place, ...more]);
      expect(code).toBe(1);
      return stderr.split('\n').find((line) => line.startsWith('lockstep: '));
    };
    writeFileSync(input, Buffer.from('good\nba\xffd\n', 'latin1'));
    expect(await problem('--input', input, '--output', output)).toMatch(
      /DATA_CORRUPT: line 2 of .*bad\.txt: .* is not UTF-8/,
    );
    expect(existsSync(output)).toBe(false);
    expect(readFileSync(`${output}.partial`, 'utf8').split('\n')).toHaveLength(2);
    writeFileSync(input, 'good\n\ngood\n');
    expect(await problem('--input', input)).toMatch(/DATA_CORRUPT: .*bad\.txt: line 2 is empty/);
    expect(await problem('--text', 'a', '--exit', 'soft')).toContain('the model has no concat_head');
    const nowhere = await runInProcess(['generate', join(dir, 'nowhere'), '--text', 'a']);
    expect(nowhere.code).toBe(1);
    expect(nowhere.stderr).toMatch(/DATA_MISSING: .*nowhere does not exist/);
  });
});

describe('a reader that goes away', { timeout: LIMIT_MS }, () => {
  it.each([
    ['generate', () => [...place, '--text', 'The old town']],
    ['inspect', () => [data]],
    ['status', () => [join(dir, 'run')]],
    ['verify', () => [join(dir, 'run')]],
    ['config', () => []],
  ])('ends lockstep %s without a word', async (command, args) => {
    // `true` has ended long before anything is written.
    const script = 'set -o pipefail; "$@" | true; echo $?';
    const words = ['-c', script, 'bash', process.execPath, MAIN, command, ...args()];
    const { stdout, stderr } = await promisify(execFile)('bash', words);
    const said = stderr.split('\n').filter((line) => line.startsWith('lockstep: ') || line.includes('EPIPE'));
    expect([stdout, said]).toEqual(['141\n', []]);
  });

  it('is not what a full disk is', async () => {
    const words = ['-c', '"$@" > /dev/full', 'bash', process.execPath, MAIN, 'config'];
    const { code, stderr } = await promisify(execFile)('bash', words).catch((error) => error);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^lockstep: DISK_FULL: standard output could not be written \(ENOSPC.*\): .*\n$/);
  });
});

describe('lockstep serve', { timeout: LIMIT_MS }, () => {
  it('answers over HTTP, refuses what it cannot follow, and ends when told to', async () => {
    const server = start(['serve', ...place, '--port', '0', '--waiting', '1']);
    const url = await urlOf(server);
    const ask = (body: unknown) =>
      fetch(new URL('generate', url), {
        ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
        body: JSON.stringify(body),
      });
    expect(await (await fetch(new URL('healthz', url))).json()).toEqual({ status: 'ok' });
    const options = { targetLength: 4, threshold: 100 };
    const answer = await ask({ texts: ['The old town', 'A'], options });
    expect(answer.status).toBe(200);
    const { results } = (await answer.json()) as { results: Line[] };
    expect(results).toHaveLength(2);
    expect(results.every(({ tokens }) => tokens.every(({ layer }) => layer === 1))).toBe(true);
    expect((await ask({ texts: [' '] })).status).toBe(400);
    expect((await ask({ texts: ['a'], options: { beams: 2 } })).status).toBe(400);
    expect((await ask({ texts: ['a'], options: { sampling: 1 } })).status).toBe(400);
    expect((await ask({ texts: ['a'.repeat(2 ** 20)] })).status).toBe(413);
    // One is under way and one waits: of four at once at least one finds the line full.
    const many = await Promise.all([1, 2, 3, 4].map(() => ask({ texts: Array(64).fill('The town') })));
    const full = many.filter(({ status }) => status === 503);
    expect(full.length).toBeGreaterThan(0);
    expect(full.length).toBeLessThan(4);
    expect(full[0]!.headers.get('retry-after')).toBe('1');
    server.kill('SIGTERM');
    expect((await server.finished).code).toBe(0);
  });

  it('asks for the token beyond loopback, and does not start without one', async () => {
    const open = ['serve', ...place, '--port', '0', '--host', '0.0.0.0'];
    const refused = await runInProcess(open, { env: { LOCKSTEP_TOKEN: '' } });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('LOCKSTEP_TOKEN is not set');
    const token = 'a secret of some length';
    const server = start(open, { env: { LOCKSTEP_TOKEN: token } });
    const { port } = new URL(await urlOf(server));
    const ask = (authorization: string) =>
      fetch(`http://127.0.0.1:${port}/generate`, {
        ...{ method: 'POST', headers: { 'content-type': 'application/json', authorization } },
        body: JSON.stringify({ texts: ['a'], options: { targetLength: 2 } }),
      });
    expect((await ask('')).status).toBe(401);
    expect((await ask('Bearer something else')).status).toBe(401);
    expect((await ask(`Bearer ${token}`)).status).toBe(200);
    server.kill('SIGTERM');
    expect((await server.finished).code).toBe(0);
  });
});

function urlOf({ child, finished }: Running): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const found = /serving: (\S+)/.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    void finished.then(({ stderr }) => reject(new Error(stderr)));
  });
}
