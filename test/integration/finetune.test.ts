/**
 * Fine-tuning with real processes: pairs become a data set, given weights are trained on it, and the result does not
 * depend on the number of workers. What a person gets wrong ends with one line that names it.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { savedConfig } from '../../src/coordinator/index.ts';
import { loadTokenizer, MANIFEST_FILE } from '../../src/data/index.ts';
import { parseManifest } from '../../src/data/manifest.ts';
import { sampleText } from '../support/data-files.ts';
import { runInProcess, succeedInProcess } from '../support/in-process.ts';
import { committedSteps, digestOf, succeed } from '../support/lockstep-command.ts';

const LIMIT_MS = 300_000;
const PAIRS = 30;

let dir = '';
const at = (name: string) => join(dir, name);
const lines = (texts: readonly string[]) => texts.map((text) => `${text}\n`).join('');

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lockstep-finetune-'));
  const numbers = Array.from({ length: PAIRS }, (_, seed) => seed);
  writeFileSync(at('train.src'), lines(numbers.map((seed) => sampleText(seed, 1 + (seed % 9)))));
  writeFileSync(at('train.tgt'), lines(numbers.map((seed) => sampleText(100 + seed, 1))));
  await succeedInProcess([
    ...['prepare', '--pairs', at('train.src'), at('train.tgt'), '--out', at('first'), '--vocab-size', '340'],
  ]);
  // The weights to start from; what they have learned does not matter here.
  const short = ['--steps', '1', '--micro-batches', '2', '--micro-batch-size', '2'];
  await succeed(['train', '--data', at('first'), '--run', at('weights'), ...short]);
}, LIMIT_MS);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const finetune = (name: string, ...more: string[]) => [
  ...['finetune', '--from', at('weights'), '--run', at(name), '--data', at('pairs')],
  ...['--source', at('train.src'), '--target', at('train.tgt'), '--task', 'question-generation'],
  ...['--micro-batches', '4', '--micro-batch-size', '2', '--set', 'data.validationShare=0', ...more],
];

describe('fine-tuning', () => {
  it('gives the same bits for one worker and two, and takes the data set that is there', {
    timeout: LIMIT_MS,
  }, async () => {
    const said = await succeed(finetune('one', '--path', 'soft', '--steps', '2'));
    expect(said).toContain(`${at('pairs')}: ${PAIRS} pairs`);
    expect(said).toContain(`an epoch of ${PAIRS} pairs is 4 steps`);
    const again = await succeed(finetune('two', '--path', 'soft', '--steps', '2', '--workers', '2'));
    expect(again).toContain(`${at('pairs')} is there and equal`);
    expect(await digestOf(at('two'))).toBe(await digestOf(at('one')));
    expect(await digestOf(at('one'))).not.toBe(await digestOf(at('weights')));

    const config = (await savedConfig(at('one')))!;
    expect([config.objective.kind, config.model.concatHead]).toEqual(['soft', true]);
    expect(config.start?.weightsSha256).toMatch(/^[0-9a-f]{64}$/);
    // Of the published 512, what the position table holds; of targets, what they need.
    expect(config.data).toMatchObject({ sequenceLength: 64, targetSlots: 'full' });
    const path = join(at('pairs'), MANIFEST_FILE);
    const { pairs, tokenizer } = parseManifest(readFileSync(path, 'utf8'), path);
    expect(config.data.targetLength).toBe(4 * Math.ceil((pairs!.target.percentile99 + 1) / 4));
    // The tokenizer is that of the weights, not a new one.
    expect(tokenizer.sha256).toBe(
      parseManifest(readFileSync(join(at('first'), MANIFEST_FILE), 'utf8'), path).tokenizer.sha256,
    );
    expect(loadTokenizer(at('one')).vocabSize).toBe(340);
  });

  it('counts epochs, and goes on from where it stopped', { timeout: LIMIT_MS }, async () => {
    await succeed(finetune('hard', '--path', 'hard', '--epochs', '0.5'));
    expect(committedSteps(at('hard'))).toEqual([1, 2]);
    await succeed(['finetune', '--run', at('hard'), '--data', at('pairs'), '--resume', '--steps', '3']);
    expect(committedSteps(at('hard'))).toEqual([1, 2, 3]);
  });
});

describe('one line for', () => {
  async function complaintOf(args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await runInProcess(args);
    expect(code, `${stdout}\n${stderr}`).toBe(1);
    const said = stderr.trim().split('\n');
    expect(
      said.filter((line) => /^lockstep: [A-Z_]+: /.test(line)),
      stderr,
    ).toHaveLength(1);
    return said.at(-1)!;
  }
  const prepare = (sources: readonly string[], targets: readonly string[], ...more: string[]) => {
    const folder = mkdtempSync(at('bad-'));
    const [source, target] = [join(folder, 'a.src'), join(folder, 'a.tgt')];
    writeFileSync(source, lines(sources));
    writeFileSync(target, lines(targets));
    return [
      'prepare',
      '--pairs',
      source,
      target,
      '--out',
      join(folder, 'set'),
      '--vocab-size',
      '340',
      ...more,
    ];
  };

  it.each([
    ['an empty line', prepare.bind(null, ['a', '', 'c'], ['x', 'y', 'z']), /a\.src: line 2 is empty/],
    [
      'unequal files',
      prepare.bind(null, ['a', 'b'], ['x']),
      /a\.src: has a line 2, but .*a\.tgt ends after 1/,
    ],
    [
      'a flag of texts',
      prepare.bind(null, ['a'], ['x'], '--keep', 'lists'),
      /--keep does not apply to --pairs/,
    ],
    ['no weights', () => ['finetune', '--run', at('none'), '--task', 'dialogue'], /--from is missing/],
    ['two configurations', () => finetune('none', '--config', 'x.json'), /--task .* and --config x\.json/],
    ['packed pairs', () => finetune('none', '--set', 'data.packing=packed'), /data\.packing is "packed"/],
    ['two lengths', () => finetune('none', '--epochs', '1', '--steps', '1'), /--epochs and --steps/],
  ])('%s', { timeout: LIMIT_MS }, async (_what, args, message) => {
    expect(await complaintOf(args())).toMatch(message);
    expect(existsSync(at('none'))).toBe(false);
  });

  it('another data set in the way', { timeout: LIMIT_MS }, async () => {
    mkdirSync(at('other'));
    writeFileSync(at('other/train.src'), lines(['only one']));
    writeFileSync(at('other/train.tgt'), lines(['pair']));
    const before = readFileSync(join(at('first'), MANIFEST_FILE), 'utf8');
    const args = ['finetune', '--from', at('weights'), '--run', at('none'), '--data', at('first')];
    const files = [
      '--source',
      at('other/train.src'),
      '--target',
      at('other/train.tgt'),
      '--task',
      'dialogue',
    ];
    expect(await complaintOf([...args, ...files])).toMatch(/first holds a data set of other pairs/);
    expect(readFileSync(join(at('first'), MANIFEST_FILE), 'utf8')).toBe(before);
  });
});
