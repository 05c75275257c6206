/** The validation split in use: training leaves the held-out documents alone, `lockstep evaluate` measures on them. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestOf, preparedFolder, run, succeed } from '../support/lockstep-command.ts';

const LIMIT_MS = 240_000;
const SETTINGS = [
  '--preset',
  'tiny',
  '--steps',
  '16',
  '--set',
  'checkpoint.every=4',
  '--set',
  'checkpoint.keepLast=4',
];

let dir = '';
let data = '';
let remove = () => {};

beforeAll(async () => {
  ({ dir, data, remove } = await preparedFolder());
  const held = ['--set', 'data.validationShare=0.1', '--set', 'data.packing=packed'];
  await succeed(['train', '--data', data, '--run', join(dir, 'held'), ...SETTINGS, ...held]);
}, LIMIT_MS);
afterAll(() => remove());

const evaluate = (name: string, ...more: string[]) => ['evaluate', join(dir, name), '--data', data, ...more];

describe('lockstep evaluate', () => {
  it('says the loss of every checkpoint, which falls, and the same again', {
    timeout: LIMIT_MS,
  }, async () => {
    const before = await digestOf(join(dir, 'held'));
    const text = await succeed(evaluate('held', '--all'));
    const steps = [
      ...text.matchAll(/^step (\d+) {2}loss ([\d.]+) {2}perplexity [\d.]+ {2}([\d,]+) tokens/gm),
    ];
    expect(steps.map(([, step]) => Number(step))).toEqual([4, 8, 12, 16]);
    const losses = steps.map(([, , loss]) => Number(loss));
    expect(losses[3]).toBeLessThan(losses[0]! - 0.05);
    expect(await succeed(evaluate('held', '--all'))).toBe(text);
    expect(await succeed(evaluate('held'))).toBe(`${text.trimEnd().split('\n').at(-1)}\n`);
    expect(await digestOf(join(dir, 'held')), 'nothing in the run has changed').toBe(before);
    const few = await succeed(evaluate('held', '--samples', '2'));
    expect(few).toContain('in 2 samples');
  });

  it('passes a damaged checkpoint over and says so', { timeout: LIMIT_MS }, async () => {
    const checkpoints = join(dir, 'held', 'checkpoints');
    const [oldest] = readdirSync(checkpoints).sort();
    const path = join(checkpoints, oldest!, 'model.safetensors');
    const bytes = readFileSync(path);
    bytes[bytes.length - 100]! ^= 1;
    writeFileSync(path, bytes);
    const { code, stdout, stderr } = await run(evaluate('held', '--all', '--samples', '2'));
    expect(code).toBe(0);
    expect(stdout.trimEnd().split('\n')).toHaveLength(3);
    expect(stderr).toContain('checkpoint of step 4 passed over');
  });

  it('names a run that holds nothing out, and a folder without a run', { timeout: LIMIT_MS }, async () => {
    const plain = ['--preset', 'tiny', '--steps', '1'];
    await succeed(['train', '--data', data, '--run', join(dir, 'plain'), ...plain]);
    const none = await run(evaluate('plain'));
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(
      /CONFIG_INVALID: data\.validationShare is 0: it leaves no document for validation/,
    );
    expect((await run(evaluate('nowhere'))).stderr).toContain('CHECKPOINT_INVALID');
  });
});
