/**
 * The way there and back with real processes: a run is exported, imported, and started from; the weights keep
 * their bits, and the new run ends with the same ones however many workers it has and wherever it is killed.
 */
import { existsSync } from 'node:fs';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runInProcess, succeedInProcess } from '../../support/in-process.ts';
import {
  digestOf,
  isCommit,
  preparedFolder,
  recordsOf,
  start,
  succeed,
} from '../../support/lockstep-command.ts';

const LIMIT_MS = 600_000;

let dir = '';
let data = '';
let remove = () => {};
/** Of the run that the others start from. */
let sha256 = '';

const at = (name: string) => join(dir, name);

function trainArgs(name: string, ...more: string[]): string[] {
  return ['train', '--data', data, '--run', at(name), ...more];
}

const SETTINGS = [
  ...['--engine', 'wasm', '--steps', '4', '--micro-batches', '4', '--micro-batch-size', '1'],
  ...['--set', 'checkpoint.every=2', '--set', 'checkpoint.keepLast=1'],
];

async function complaintOf(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runInProcess(args);
  expect(code, `${stdout}\n${stderr}`).toBe(1);
  expect(stderr.trim().split('\n'), stderr).toHaveLength(1);
  return stderr.trim();
}

beforeAll(async () => {
  ({ dir, data, remove } = await preparedFolder());
  const short = ['--engine', 'wasm', '--steps', '1', '--micro-batches', '2', '--micro-batch-size', '2'];
  await succeed(trainArgs('origin', ...short, '--set', 'model.dropout=0.2'));
  [sha256 = ''] = (await digestOf(at('origin'))).split(' ');
  await succeedInProcess(['export', at('origin'), '--out', at('model')]);
}, LIMIT_MS);
afterAll(() => remove());

describe('weights that leave and come back', { timeout: LIMIT_MS }, () => {
  it('are exported and imported to the bit, from the run’s folder alone', async () => {
    expect(existsSync(at('origin/tokenizer.json'))).toBe(true);
    const stdout = await succeedInProcess(['import', at('model'), '--out', at('again')]);
    expect(stdout).toContain('model.safetensors: safetensors');
    expect(stdout).toContain(`${sha256}  ${at('again')}`);
    for (const name of ['model.safetensors', 'config.json', 'tokenizer.json', 'vocab.json', 'merges.txt']) {
      expect((await readFile(at(`again/${name}`))).equals(await readFile(at(`model/${name}`))), name).toBe(
        true,
      );
    }
  });

  it('start a run that ends with the same bits with one worker, and with two that are killed and resumed', async () => {
    await succeed(trainArgs('one', ...SETTINGS, '--from', at('model')));
    const [opened, checkpointed] = recordsOf(at('one'));
    expect(opened).toMatchObject({ config: { start: { weightsSha256: sha256 }, model: { dropout: 0.2 } } });
    expect(checkpointed).toMatchObject({ kind: 'checkpointed', step: 0, weightsSha256: sha256 });

    // Slow workers: the run must not be over before it is killed.
    const workers = ['--workers', '2', '--throttle-worker', '0:200', '1:200'];
    const training = start(trainArgs('two', ...SETTINGS, '--from', at('origin'), ...workers));
    await training.untilLogged(isCommit(1));
    training.kill('SIGKILL');
    await training.finished;
    await succeed(trainArgs('two', '--resume', '--workers', '1'));
    expect(await digestOf(at('two'))).toBe(await digestOf(at('one')));
    expect(await digestOf(at('two'))).not.toContain(sha256);
    expect(await succeedInProcess(['verify', at('two')])).toContain('step 4');
    expect(existsSync(at('two/checkpoints/step-00000000')), 'its first checkpoint is not kept for ever').toBe(
      false,
    );
  });
});

describe('what does not fit is refused in one line, and nothing is written', { timeout: LIMIT_MS }, () => {
  it('sizes that were asked for and are others', async () => {
    const asked = ['--from', at('model'), '--set', 'model.dModel=32', '--set', 'model.ffnDim=64'];
    const line = await complaintOf(trainArgs('none', ...asked));
    expect(line).toMatch(/CONFIG_MISMATCH: --from \S+: its model has other sizes/);
    expect(line).toContain('model.dModel: 32 asked for, 64 there; model.ffnDim: 64 asked for, 256 there');
    expect(existsSync(at('none'))).toBe(false);
  });

  it('a folder that is not empty, one that is cut short, and a configuration that cannot be honoured', async () => {
    expect(await complaintOf(['export', at('origin'), '--out', at('model')])).toMatch(
      /CONFIG_INVALID: --out \S+ is not empty/,
    );
    await cp(at('model'), at('spoilt'), { recursive: true });
    const weights = at('spoilt/model.safetensors');
    await writeFile(weights, (await readFile(weights)).subarray(0, -4));
    const cut = await complaintOf(['import', at('spoilt'), '--out', at('none')]);
    expect(cut).toMatch(/CHECKPOINT_INVALID: \S+model\.safetensors: is cut short/);
    const config = at('spoilt/config.json');
    await writeFile(config, (await readFile(config, 'utf8')).replace('"gelu"', '"relu"'));
    const refused = await complaintOf(['import', at('spoilt'), '--out', at('none')]);
    expect(refused).toMatch(/CHECKPOINT_INVALID: \S+config\.json: activation_function is "relu"/);
    expect(existsSync(at('none'))).toBe(false);
  });
});
