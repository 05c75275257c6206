/**
 * `lockstep evaluate RUN`: the loss on what training left alone, and the texts that the run's model generates.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runInProcess, succeedInProcess } from '../support/in-process.ts';
import { digestOf, preparedFolder, succeed } from '../support/lockstep-command.ts';

const LIMIT_MS = 240_000;
const SETTINGS = [
  '--preset',
  'tiny',
  '--steps',
  '12',
  '--micro-batches',
  '4',
  '--set',
  'checkpoint.every=3',
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
    expect(steps.map(([, step]) => Number(step))).toEqual([3, 6, 9, 12]);
    const losses = steps.map(([, , loss]) => Number(loss));
    expect(losses[3]).toBeLessThan(losses[0]! - 0.05);
    expect(await succeedInProcess(evaluate('held', '--all'))).toBe(text);
    expect(await succeedInProcess(evaluate('held'))).toBe(`${text.trimEnd().split('\n').at(-1)}\n`);
    expect(await digestOf(join(dir, 'held')), 'nothing in the run has changed').toBe(before);
    const few = await succeedInProcess(evaluate('held', '--samples', '2'));
    expect(few).toContain('in 2 samples');
  });

  it('is what training itself recorded of its last checkpoint, beside the curves', {
    timeout: LIMIT_MS,
  }, async () => {
    const records = readFileSync(join(dir, 'held', 'metrics.jsonl'), 'utf8')
      .trimEnd()
      .split('\n');
    const validated = records
      .map(
        (line) =>
          JSON.parse(line) as { event?: string; fields?: { step: number; loss: number; samples: number } },
      )
      .filter(({ event }) => event === 'validated');
    const { step, loss, samples } = validated.at(-1)!.fields!;
    expect(step).toBe(12);
    const text = await succeedInProcess(evaluate('held', '--samples', String(samples)));
    expect(text).toContain(`loss ${loss.toFixed(4)}`);
  });

  it('passes a damaged checkpoint over and says so', { timeout: LIMIT_MS }, async () => {
    const checkpoints = join(dir, 'held', 'checkpoints');
    const [oldest] = readdirSync(checkpoints).sort();
    const path = join(checkpoints, oldest!, 'model.safetensors');
    const bytes = readFileSync(path);
    bytes[bytes.length - 100]! ^= 1;
    writeFileSync(path, bytes);
    const { code, stdout, stderr } = await runInProcess(evaluate('held', '--all', '--samples', '2'));
    expect(code).toBe(0);
    expect(stdout.trimEnd().split('\n')).toHaveLength(3);
    expect(stderr).toContain('checkpoint of step 3 passed over');
  });

  it('scores and times what the run generates, at each threshold', { timeout: LIMIT_MS }, async () => {
    const lines = Array.from(
      { length: 5 },
      (_, index) => `The ${['river', 'engine'][index % 2]} moves slowly.\n`,
    );
    const [source, target] = ['source.txt', 'target.txt'].map((name) => join(dir, name));
    writeFileSync(source!, lines.join(''));
    writeFileSync(target!, lines.join(''));
    const [json, output] = ['figures.json', 'generated.txt'].map((name) => join(dir, name));
    const files = ['--source', source!, '--target', target!];
    const few = ['--target-length', '12', '--batch-size', '2', '--latency-texts', '2'];
    const text = await succeedInProcess(
      evaluate('held', ...files, ...few, '--threshold', '0,99', '--json', json!),
    );
    const report = JSON.parse(readFileSync(json!, 'utf8'));
    expect(report.source).toBe(source);
    const [late, early] = report.rows;
    expect([late, early].map(({ generation }) => generation.options.threshold)).toEqual([0, 99]);
    expect(late.generation).toMatchObject({
      kind: 'lplm',
      step: 12,
      meanLayer: late.generation.decoderLayers,
    });
    expect(early.generation.meanLayer, 'every entropy is below 99').toBe(1);
    for (const { generation, scores } of report.rows) {
      expect(scores.texts).toBe(5);
      expect(generation.latency.texts).toBe(2);
      expect(generation.latency.medianMs).toBeGreaterThan(0);
      expect(generation.throughput.textsPerSecond).toBeGreaterThan(0);
    }
    expect(text).toMatch(/held +hard 99 +1\.00 of \d+ /);

    // What it writes down scores the same from elsewhere.
    const again = join(dir, 'again.json');
    await succeedInProcess(
      evaluate('held', ...files, ...few, '--threshold', '0', '--output', output!, '--json', json!),
    );
    await succeedInProcess(['evaluate', '--hypotheses', output!, '--target', target!, '--json', again]);
    const [written] = JSON.parse(readFileSync(again, 'utf8')).rows;
    expect(written.scores).toEqual(late.scores);
    const twice = await runInProcess(evaluate('held', ...files, '--threshold', '0,99', '--output', output!));
    expect(twice.stderr).toMatch(
      /CONFIG_INVALID: --output takes the texts of one model at one threshold; these are 2/,
    );
  });

  it('names a run that holds nothing out, and a folder without a run', { timeout: LIMIT_MS }, async () => {
    const plain = ['--preset', 'tiny', '--steps', '1', '--micro-batches', '1'];
    await succeed(['train', '--data', data, '--run', join(dir, 'plain'), ...plain]);
    const none = await runInProcess(evaluate('plain'));
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(
      /CONFIG_INVALID: data\.validationShare is 0: it leaves no document for validation/,
    );
    expect((await runInProcess(evaluate('nowhere'))).stderr).toContain('CHECKPOINT_INVALID');
  });
});
