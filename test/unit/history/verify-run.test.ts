/**
 * What `verify` makes of the checkpoints of a right log, of a log that ends in the middle of a record,
 * and of a run that goes on while it is looked at.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { cp, mkdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { LockstepError, layoutOf, layoutSize } from '../../../src/base/index.ts';
import { type CheckpointFacts, CheckpointStore } from '../../../src/checkpoint/index.ts';
import { type VerifiedRun, verifyRun } from '../../../src/cli/verify-run.ts';
import { bitDecidingPart, fingerprintOf } from '../../../src/config/index.ts';
import { CommitLog, verifyClaims, verifyLog } from '../../../src/history/index.ts';
import { BLOCK_FLOATS } from '../../../src/kernels/index.ts';
import { LAYOUT } from '../../support/checkpoint-fixtures.ts';
import { naiveLog } from '../../support/naive-history.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import {
  CHECKPOINT_STEPS,
  CONFIG,
  checkpointed,
  committed,
  factsOf,
  naiveDigest,
  runRecords,
  STEPS,
  storeCheckpoint,
  tokensUpTo,
  weightsSha256,
  writeCheckpoints,
  writeLog,
} from '../../support/verifiable-run.ts';

const RECORDS = runRecords();
let template: string;

beforeAll(async () => {
  template = await temporaryFolder();
  await writeLog(template, RECORDS);
  await writeCheckpoints(
    template,
    CHECKPOINT_STEPS.map((step) => ({ step })),
  );
});

/** A copy of the right run, to be spoiled. */
async function copied(): Promise<string> {
  const dir = await temporaryFolder();
  await cp(template, dir, { recursive: true });
  return dir;
}

const fileOf = (dir: string, step: number, name: string) =>
  join(dir, 'checkpoints', `step-0000000${step}`, name);

async function refusalOf(dir: string): Promise<LockstepError> {
  const error = await verifyRun(dir).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(LockstepError);
  return error as LockstepError;
}

/** Names, sizes, contents and times of all that is in a folder. */
function imageOf(dir: string): unknown[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const path = join(dir, name);
      const { mtimeMs, ino } = statSync(path);
      return [name, mtimeMs, ino, statSync(path).isFile() ? readFileSync(path, 'base64') : null];
    });
}

describe('a checkpoint that is not what the log says', () => {
  const otherData = { dataset: 'ef'.repeat(32), part: bitDecidingPart(CONFIG, 'ef'.repeat(32)) };
  it.each<[string, Partial<CheckpointFacts>, Record<string, unknown>]>([
    ['another run', { runId: 'run-2' }, { field: 'runId', recorded: 'run-2', line: 1 }],
    [
      'another configuration or data set',
      {
        fingerprint: fingerprintOf(otherData.part),
        bitDeciding: { ...otherData.part },
        datasetSha256: otherData.dataset,
      },
      { field: 'fingerprint', line: 1 },
    ],
    ['another data set by its hash alone', { datasetSha256: otherData.dataset }, { field: 'datasetSha256' }],
    [
      'tokens of another step',
      { tokensSeen: tokensUpTo(3) },
      { field: 'tokensSeen', recorded: tokensUpTo(3), expected: tokensUpTo(4), line: 6 },
    ],
    [
      'the commit of another step',
      { commit: factsOf(2).commit },
      { field: 'commit.gradientDigest', line: 6 },
    ],
    ['no commit', { commit: null }, { field: 'commit.gradientDigest', recorded: null }],
    [
      'the gradient of its step from other parameters',
      { commit: { ...factsOf(4).commit!, parametersDigest: factsOf(2).commit!.parametersDigest } },
      { field: 'commit.parametersDigest', expected: committed(4).parametersDigest, line: 6 },
    ],
  ])('%s', async (_, facts, context) => {
    const dir = await copied();
    await writeCheckpoints(dir, [{ step: 4, facts: { ...factsOf(4), ...facts } }]);
    const { code, message, context: found } = await refusalOf(dir);
    expect(code).toBe('CHECKPOINT_INVALID');
    expect(message).toMatch(
      /step-00000004: step 4: \S+: \S+ recorded, \S+ expected \(line \d+ of .*\); take/,
    );
    expect(found).toMatchObject({ step: 4, ...context });
  });

  it('other weights than were announced, whole in themselves', async () => {
    const dir = await copied();
    const records = runRecords().with(6, { ...checkpointed(4), weightsSha256: weightsSha256(2) } as never);
    await writeLog(dir, records);
    expect((await refusalOf(dir)).context).toMatchObject({
      line: 7,
      step: 4,
      field: 'weightsSha256',
      recorded: weightsSha256(4),
      expected: weightsSha256(2),
    });
  });

  it('one of a step that the log does not reach', async () => {
    const dir = await copied();
    await writeLog(dir, RECORDS.slice(0, 7));
    const { message, context } = await refusalOf(dir);
    expect(message).toMatch(/step-00000006: step 6 is committed nowhere in .*, which ends with step 4/);
    expect(context).toMatchObject({ step: 6, expected: 4 });
    await writeLog(dir, []);
    expect((await refusalOf(dir)).message).toMatch(/step-00000002: step 2 is committed nowhere/);
  });

  it('the oldest of several is named', async () => {
    const dir = await copied();
    const facts = (step: number) => ({ ...factsOf(step), tokensSeen: 1 });
    await writeCheckpoints(dir, [
      { step: 6, facts: facts(6) },
      { step: 4, facts: facts(4) },
    ]);
    expect((await refusalOf(dir)).context).toMatchObject({ step: 4 });
  });

  it('a claim of step 0 has no commit and no tokens', async () => {
    const log = await verifyLog({
      path: join(template, 'commits.log'),
      learningRateAt: () => committed(1).learningRate,
      checkpointSteps: new Set([0]),
    }).catch((error: unknown) => error);
    // The made-up schedule fits step 1 only, and the mistake is found there and then.
    expect(log).toMatchObject({ context: { step: 2, field: 'learningRate' } });
    const dir = await temporaryFolder();
    await writeLog(dir, RECORDS.slice(0, 2));
    const short = await verifyLog({
      path: join(dir, 'commits.log'),
      learningRateAt: () => committed(1).learningRate,
      checkpointSteps: new Set([0]),
    });
    const start = {
      ...factsOf(1),
      dir,
      step: 0,
      commit: null,
      tokensSeen: 0,
      weightsSha256: weightsSha256(0),
      parametersDigest: committed(1).parametersDigest,
    };
    expect(() => verifyClaims(short, start)).not.toThrow();
    expect(() => verifyClaims(short, { ...start, tokensSeen: 1 })).toThrow(/tokensSeen: 1 recorded, 0 expec/);
    expect(() => verifyClaims(short, { ...start, parametersDigest: 'ff' })).toThrow(/line 2 of/);
  });
});

describe('a checkpoint that is damaged', () => {
  it.each(['model.safetensors', 'optimizer.safetensors', 'manifest.json'])(
    'in %s: any byte',
    async (name) => {
      const dir = await copied();
      const path = fileOf(dir, 4, name);
      const whole = readFileSync(path);
      for (const at of [0, 9, whole.length >>> 1, whole.length - 1]) {
        const damaged = Buffer.from(whole);
        damaged[at]! ^= 0x10;
        await writeFile(path, damaged);
        const { code, message } = await refusalOf(dir);
        expect(code).toBe('CHECKPOINT_INVALID');
        expect(message).toContain('step-00000004');
      }
    },
  );

  it('in that a file is short or gone, or stands under another step', async () => {
    const short = await copied();
    await truncate(fileOf(short, 2, 'optimizer.safetensors'), 100);
    expect((await refusalOf(short)).message).toMatch(/step-00000002.*optimizer\.safetensors/);
    const gone = await copied();
    await rm(fileOf(gone, 6, 'manifest.json'));
    expect((await refusalOf(gone)).message).toMatch(/step-00000006.*manifest\.json.*not finished/);
    const moved = await copied();
    await rm(fileOf(moved, 4, ''), { recursive: true });
    await rename(fileOf(moved, 6, ''), fileOf(moved, 4, ''));
    expect((await refusalOf(moved)).message).toMatch(/step: 6 recorded in a folder of step 4/);
  });
});

describe('what is no error', () => {
  it('checkpoints that are no longer kept; the loss of the newest is said', async () => {
    const dir = await copied();
    await rm(fileOf(dir, 2, ''), { recursive: true });
    expect(await verifyRun(dir)).toMatchObject({ checkpoints: [{ step: 4 }, { step: 6 }], notes: [] });
    await rm(fileOf(dir, 6, ''), { recursive: true });
    expect(await verifyRun(dir)).toMatchObject({
      checkpoints: [{ step: 4 }],
      notes: [expect.stringMatching(/newest checkpoint .* of step 6, was not in the folder/)],
    });
    await rm(join(dir, 'checkpoints'), { recursive: true });
    expect(await verifyRun(dir)).toMatchObject({ checkpoints: [], notes: [expect.any(String)] });
  });

  it('a checkpoint that the run did not live to announce', async () => {
    const dir = await copied();
    await writeLog(dir, RECORDS.slice(0, -2));
    const { checkpoints, notes } = await verifyRun(dir);
    expect(checkpoints.map(({ step }) => step)).toEqual(CHECKPOINT_STEPS);
    expect(notes).toEqual([expect.stringMatching(/step 6 is not announced/)]);
  });

  it('a last record that was cut anywhere: said, and the rest proven', async () => {
    const dir = await copied();
    const whole = Buffer.from(naiveLog(RECORDS));
    const last =
      whole.length -
      Buffer.from(naiveLog(RECORDS))
        .toString()
        .match(/[^\n]*\n$/)![0].length;
    for (let length = last + 1; length < whole.length; length += 1) {
      await writeFile(join(dir, 'commits.log'), whole.subarray(0, length));
      const { log, notes } = await verifyRun(dir);
      expect(log.tail).toMatchObject({ line: RECORDS.length, offset: last, length: length - last });
      expect(notes).toEqual([
        expect.stringMatching(`its last ${length - last} bytes are no whole record .line ${RECORDS.length},`),
      ]);
    }
  });

  it('a folder without a run is: it is named', async () => {
    const dir = await temporaryFolder();
    await mkdir(join(dir, 'checkpoints'));
    expect(await refusalOf(dir)).toMatchObject({
      code: 'DATA_MISSING',
      context: { path: join(dir, 'commits.log') },
    });
    expect((await refusalOf(join(dir, 'nowhere'))).code).toBe('DATA_MISSING');
  });
});

describe('looking', () => {
  it('changes nothing, whether the run is right or wrong', async () => {
    const dir = await copied();
    const before = imageOf(dir);
    await verifyRun(dir);
    expect(imageOf(dir)).toEqual(before);
    await writeCheckpoints(dir, [{ step: 4, facts: { ...factsOf(4), tokensSeen: 1 } }]);
    const wrong = imageOf(dir);
    await refusalOf(dir);
    expect(imageOf(dir)).toEqual(wrong);
  });

  it('digests parameters that come in several pieces, the last of them short', async () => {
    const layout = layoutOf([{ name: 'large', shape: [65 * BLOCK_FLOATS + 5] }]);
    const size = layoutSize(layout);
    const dir = await temporaryFolder();
    const records = [RECORDS[0]!, committed(1), committed(2), checkpointed(2, size), committed(3, size)];
    await writeLog(dir, records);
    await writeCheckpoints(dir, [{ step: 2, layout }]);
    const { checkpoints } = await verifyRun(dir);
    expect(checkpoints).toEqual([
      {
        step: 2,
        weightsSha256: weightsSha256(2, size),
        parametersDigest: committed(3, size).parametersDigest,
        chained: true,
      },
    ]);
    expect(naiveDigest(new Float32Array(1))).not.toBe(checkpoints[0]!.parametersDigest);
  });

  it('at a run that goes on, appends, stores and removes: every look proves what there is', async () => {
    const dir = await temporaryFolder();
    const log = await CommitLog.open(join(dir, 'commits.log'));
    const store = await CheckpointStore.open(join(dir, 'checkpoints'), {
      every: 2,
      keepLast: 1,
      keepEvery: null,
    });
    const seen: VerifiedRun[] = [];
    let isRunning = true;
    const run = async () => {
      for (const record of RECORDS) {
        // As the coordinator does: the checkpoint first, then the record that announces it.
        if (record.kind === 'checkpointed')
          await storeCheckpoint(store, { step: record.step, layout: LAYOUT });
        await log.append(record);
      }
      isRunning = false;
    };
    const look = async () => {
      while (isRunning) seen.push(await verifyRun(dir));
    };
    await Promise.all([run(), look()]);
    await log.close();
    const steps = seen.map((each) => each.log.history.lastStep);
    expect(steps).toEqual([...steps].sort((a, b) => a - b));
    expect(existsSync(fileOf(dir, 2, ''))).toBe(false);
    expect(await verifyRun(dir)).toMatchObject({
      log: { history: { lastStep: STEPS, finished: true } },
      checkpoints: [{ step: STEPS }],
      notes: [],
    });
  });
});
