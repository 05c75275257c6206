/**
 * `lockstep verify` on a real run of four steps: the proof, its JSON, and what it says after one
 * record was changed in a way that no checksum shows.
 */
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HistoryRecord } from '../../src/history/index.ts';
import { runInProcess, succeedInProcess } from '../support/in-process.ts';
import { digestOf, preparedFolder, recordsOf, run, succeed } from '../support/lockstep-command.ts';
import { naiveLog } from '../support/naive-history.ts';

const LIMIT_MS = 180_000;
const SETTINGS = ['--preset', 'tiny', '--steps', '4', '--micro-batches', '4', '--set', 'checkpoint.every=2'];

let dir = '';
let runDir = '';
let remove = () => {};

beforeAll(async () => {
  let data = '';
  ({ dir, data, remove } = await preparedFolder());
  runDir = join(dir, 'run');
  await succeed(['train', '--data', data, '--run', runDir, ...SETTINGS, '--workers', '2']);
}, LIMIT_MS);

afterAll(() => remove());

/** A copy of the run whose records are changed and chained anew. */
function forged(name: string, change: (record: Record<string, unknown>) => Record<string, unknown>): string {
  const copy = join(dir, name);
  cpSync(runDir, copy, { recursive: true });
  // What the log held, but for the change.
  const records = recordsOf(copy).map(change) as unknown as HistoryRecord[];
  writeFileSync(join(copy, 'commits.log'), naiveLog(records));
  return copy;
}

describe('lockstep verify', () => {
  it('proves the run, one line for each thing', async () => {
    const { code, stdout, stderr } = await run(['verify', runDir]);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^records {6}8 of run [0-9a-f]{12}, /m);
    expect(stdout).toMatch(/^steps {8}4, /m);
    expect(stdout).toMatch(/^slots {8}16, /m);
    expect(stdout).toMatch(/^tokens {7}[\d,]+$/m);
    expect(stdout).toMatch(/^checkpoints {2}2, .*; 1 with the digest that the next step started from$/m);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe(`weights      ${await digestOf(runDir)}`);
  });

  it('says the same as JSON', async () => {
    const verdict = JSON.parse(await succeedInProcess(['verify', runDir, '--json'])) as Record<
      string,
      unknown
    >;
    const commits = recordsOf(runDir).filter(({ kind }) => kind === 'committed');
    expect(verdict).toMatchObject({
      ok: true,
      records: 8,
      steps: 4,
      slots: 16,
      tokens: commits.reduce((sum, { tokens }) => sum + Number(tokens), 0),
      finished: true,
      checkpoints: [
        { step: 2, chained: true, parametersDigest: commits[2]!.parametersDigest },
        { step: 4, chained: false },
      ],
      weights: { step: 4, sha256: (await digestOf(runDir)).slice(0, 64) },
      notes: [],
    });
  });

  it('names the record that was changed, and ends with 1', async () => {
    const copy = forged('rate', (record) =>
      record.step === 3 && 'learningRate' in record ? { ...record, learningRate: 1 } : record,
    );
    const { code, stdout, stderr } = await runInProcess(['verify', copy]);
    expect(code).toBe(1);
    expect(stdout).toBe('');
    // The checkpoint of step 2 is on record before or after this one, as soon as it is stored.
    const line = 1 + recordsOf(runDir).findIndex(({ kind, step }) => kind === 'committed' && step === 3);
    expect(stderr).toMatch(
      new RegExp(
        `^lockstep: HISTORY_CORRUPT: .*commits\\.log: line ${line}, step 3: learningRate: 1 recorded, 0\\.\\d+ expected .*\\n$`,
      ),
    );
    const asJson = await runInProcess(['verify', copy, '--json']);
    expect(asJson.code).toBe(1);
    expect(asJson.stderr).toBe('');
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      ok: false,
      code: 'HISTORY_CORRUPT',
      line,
      step: 3,
      field: 'learningRate',
      recorded: 1,
    });
  });

  it('finds parameters that are not those the next step started from', async () => {
    const copy = forged('digest', (record) =>
      record.step === 3 && 'parametersDigest' in record ? { ...record, parametersDigest: '00' } : record,
    );
    const { code, stderr } = await runInProcess(['verify', copy]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /CHECKPOINT_INVALID: .*step 2: digest of its parameters: [0-9a-f]{32} recorded, 00 exp/,
    );
  });

  it('tells a folder without a run from a wrong one', async () => {
    const { code, stdout, stderr } = await runInProcess(['verify', join(dir, 'nowhere')]);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^lockstep: DATA_MISSING: .*nowhere.*commits\.log: cannot be opened/);
  });
});
