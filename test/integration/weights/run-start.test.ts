/** A run's folder that begins from given weights: what it holds, and that it never falls back on its seed. */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { layoutSize } from '../../../src/base/index.ts';
import { checkpointName, listCheckpoints } from '../../../src/checkpoint/index.ts';
import { verifyRun } from '../../../src/cli/verify-run.ts';
import { PRESETS, type RunConfig } from '../../../src/config/index.ts';
import {
  openRun,
  type RunFolder,
  runTokenizerFile,
  type StartWeights,
} from '../../../src/coordinator/index.ts';
import { parameterLayout } from '../../../src/model/index.ts';
import { openWeights, sha256OfWeights } from '../../../src/weights/index.ts';
import { sectionBytes } from '../../support/checkpoint-fixtures.ts';
import { recordsOf } from '../../support/lockstep-command.ts';
import { SMALL_BART } from '../../support/model-folders.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const LAYOUT = parameterLayout(SMALL_BART);
const SIZE = layoutSize(LAYOUT);
const BYTES = sectionBytes('parameters', 9, SIZE);
const SHA256 = createHash('sha256').update(BYTES).digest('hex');
const WEIGHTS: StartWeights = {
  layout: LAYOUT,
  version: '0.1.0',
  read: async (first, target) => target.set(BYTES.subarray(first * 4, first * 4 + target.length)),
};
const CONFIG: RunConfig = {
  ...PRESETS.tiny,
  engine: 'wasm',
  model: SMALL_BART,
  start: { weightsSha256: SHA256 },
  checkpoint: { every: 1, keepLast: 1, keepEvery: null },
};

async function open(
  dir: string,
  start: StartWeights | null,
  changes: Partial<RunConfig> = {},
): Promise<RunFolder> {
  const config = { ...CONFIG, ...changes };
  const run = await openRun({
    dir,
    config,
    datasetSha256: 'ab'.repeat(32),
    tokenizerJson: '{}\n',
    resume: true,
    start,
  });
  await run.log.close();
  await run.checkpoint?.close();
  return run;
}

const kindsOf = (dir: string) =>
  recordsOf(dir).map(({ kind, step, fromStep }) => [kind, step ?? fromStep ?? null]);

describe('a run from given weights', () => {
  it('begins with a checkpoint of step 0 on record, which is theirs, and keeps the tokenizer', async () => {
    const dir = await temporaryFolder();
    const { checkpoint, startStep } = await open(dir, WEIGHTS);
    expect(startStep).toBe(0);
    expect(checkpoint?.manifest).toMatchObject({
      step: 0,
      weightsSha256: SHA256,
      commit: null,
      tokensSeen: 0,
    });
    expect(kindsOf(dir)).toEqual([
      ['opened', null],
      ['checkpointed', 0],
    ]);
    expect(await readFile(runTokenizerFile(dir)!, 'utf8')).toBe('{}\n');
    const { checkpoints } = await verifyRun(dir);
    expect(checkpoints).toMatchObject([{ step: 0, weightsSha256: SHA256 }]);
    const source = await openWeights(join(dir, 'checkpoints', checkpointName(0))).catch(
      (error: Error) => error.message,
    );
    expect(source, 'its tokenizer is looked for, and is none here').toMatch(/tokenizer\.json: field/);
  });

  it('goes on from there without the weights being named again', async () => {
    const dir = await temporaryFolder();
    await open(dir, WEIGHTS);
    await rm(join(dir, 'tokenizer.json'));
    const { checkpoint } = await open(dir, null);
    expect(runTokenizerFile(dir), 'a run of an older version gets its tokenizer').not.toBeNull();
    expect(checkpoint?.manifest.weightsSha256).toBe(SHA256);
    expect(kindsOf(dir).at(-1)).toEqual(['resumed', 0]);
  });

  it('whose checkpoints are gone asks for the weights, and takes no others', async () => {
    const dir = await temporaryFolder();
    await open(dir, WEIGHTS);
    await rm(join(dir, 'checkpoints'), { recursive: true });
    await expect(open(dir, null)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID', message: /--from/ });
    const changed = BYTES.slice();
    changed[4 * SIZE - 1]! ^= 1;
    const others = {
      ...WEIGHTS,
      read: async (first: number, target: Uint8Array) =>
        target.set(changed.subarray(first * 4, first * 4 + target.length)),
    };
    await expect(open(dir, others)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: /have SHA-256/,
    });
    await rm(join(dir, 'checkpoints'), { recursive: true });
    const { checkpoint } = await open(dir, WEIGHTS);
    expect(checkpoint?.manifest.weightsSha256).toBe(SHA256);
    await verifyRun(dir);
  });

  it('is not started without its weights, and is another run than one from its seed', async () => {
    const dir = await temporaryFolder();
    await expect(open(dir, null)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID', message: /--from/ });
    await open(dir, WEIGHTS);
    await expect(open(dir, null, { start: null })).rejects.toMatchObject({
      code: 'CONFIG_MISMATCH',
      message: /start/,
    });
  });

  it('lets its first checkpoint go as the settings say', async () => {
    const dir = await temporaryFolder();
    const run = await open(dir, WEIGHTS);
    const writer = await run.store.begin({ step: 1, layout: LAYOUT });
    for (const section of ['parameters', 'firstMoment', 'secondMoment'] as const) {
      await writer.write(section, 0, sectionBytes(section, 1, SIZE));
    }
    const { runId, bitDeciding, fingerprint, datasetSha256, lockstepVersion, createdAt } =
      run.checkpoint!.manifest;
    const facts = { runId, bitDeciding, fingerprint, datasetSha256, lockstepVersion, createdAt };
    await writer.commit({
      ...facts,
      commit: { gradientDigest: '0a', parametersDigest: '0b' },
      tokensSeen: 5,
    });
    expect((await listCheckpoints(run.checkpointsDir)).map(({ step }) => step)).toEqual([1]);
  });
});

describe('weights to start from', () => {
  it('of a run are those of its newest checkpoint', async () => {
    const dir = await temporaryFolder();
    await open(dir, WEIGHTS);
    await rm(join(dir, 'tokenizer.json'));
    const source = await openWeights(dir);
    expect(source.model).toEqual(SMALL_BART);
    expect(source.tokenizer).toBeNull();
    expect(await sha256OfWeights(source.weights)).toBe(SHA256);
    await source.close();
    await expect(openWeights(dir, 7)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: /no checkpoint of step 7/,
    });
  });

  it('are not anything else', async () => {
    await expect(openWeights(await temporaryFolder())).rejects.toMatchObject({
      code: 'DATA_MISSING',
      message: /holds no weights/,
    });
  });
});
