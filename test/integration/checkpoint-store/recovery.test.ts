import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CheckpointStore, findNewestValid, listCheckpoints } from '../../../src/checkpoint/index.ts';
import {
  FACTS,
  KEEP_ALL,
  LAYOUT,
  sectionBytes,
  writeCheckpoint,
  writeSections,
} from '../../support/checkpoint-fixtures.ts';
import { BUILT } from '../../support/in-process.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const FILES = ['manifest.json', 'model.safetensors', 'optimizer.safetensors'];

async function storeWith(...steps: number[]): Promise<CheckpointStore> {
  const store = await CheckpointStore.open(await temporaryFolder(), KEEP_ALL);
  for (const step of steps) await writeCheckpoint(store, step);
  return store;
}

/** The step that a resume would take, and what it passes over. */
async function newest(dir: string) {
  const { checkpoint, rejected } = await findNewestValid(dir);
  await checkpoint?.close();
  return { step: checkpoint?.step ?? null, rejected };
}

describe('the newest valid checkpoint', () => {
  it.each(FILES)('is the one before when %s is missing, and says so', async (file) => {
    const store = await storeWith(1, 2);
    await rm(join(store.dir, 'step-00000002', file));
    const { step, rejected } = await newest(store.dir);
    expect(step).toBe(1);
    expect(rejected).toEqual([{ step: 2, reason: expect.stringContaining(`${file}: `) }]);
    expect(rejected[0]!.reason).not.toContain('\n');
    expect(await listCheckpoints(store.dir)).toMatchObject([{ state: 'complete' }, { state: 'invalid' }]);
  });

  it.each(FILES)('is the one before when any byte of %s is damaged', async (file) => {
    const store = await storeWith(1, 2);
    const path = join(store.dir, 'step-00000002', file);
    const whole = await readFile(path);
    const meaning = JSON.stringify;
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const damaged = Buffer.from(whole);
        damaged[at]! ^= flip;
        // A manifest of other white space says the same.
        let harmless = false;
        try {
          harmless =
            file === 'manifest.json' && meaning(JSON.parse(`${damaged}`)) === meaning(JSON.parse(`${whole}`));
        } catch {}
        writeFileSync(path, damaged);
        expect((await newest(store.dir)).step).toBe(harmless ? 2 : 1);
      }),
      { numRuns: 60 },
    );
  });

  it.each(FILES)('is the one before when %s is cut anywhere', async (file) => {
    const store = await storeWith(1, 2);
    const path = join(store.dir, 'step-00000002', file);
    const whole = readFileSync(path);
    for (let length = 0; length < whole.length - 1; length += 13) {
      writeFileSync(path, whole);
      await truncate(path, length);
      expect((await newest(store.dir)).step).toBe(1);
    }
  });

  it('passes over several, newest first, and over whatever else bears the name', async () => {
    const store = await storeWith(1, 2, 3);
    await rm(join(store.dir, 'step-00000003', 'model.safetensors'));
    await mkdir(join(store.dir, 'step-00000003', 'model.safetensors'));
    await rm(join(store.dir, 'step-00000002', 'manifest.json'));
    await writeFile(join(store.dir, 'step-00000004'), 'a file');
    await cp(join(store.dir, 'step-00000001'), join(store.dir, 'step-00000005'), { recursive: true });
    const { step, rejected } = await newest(store.dir);
    expect(step).toBe(1);
    expect(rejected.map((passed) => passed.step)).toEqual([5, 4, 3, 2]);
    expect(rejected[0]!.reason).toMatch(/step: 1 recorded in a folder of step 5/);
  });

  it('is none when the only one is damaged', async () => {
    const store = await storeWith(1);
    await truncate(join(store.dir, 'step-00000001', 'optimizer.safetensors'), 100);
    expect(await newest(store.dir)).toMatchObject({ step: null, rejected: [{ step: 1 }] });
  });
});

describe('opening a store after a death', () => {
  it('removes what was not finished and names its steps', async () => {
    const store = await storeWith(1);
    const abandoned = await store.begin({ step: 2, layout: LAYOUT });
    await abandoned.write('parameters', 0, sectionBytes('parameters', 2));
    const untouched = await store.begin({ step: 3, layout: LAYOUT });
    const reopened = await CheckpointStore.open(store.dir, KEEP_ALL);
    expect(reopened.cutShortSteps).toEqual([2, 3]);
    expect(await readdir(store.dir)).toEqual(['step-00000001']);
    expect((await CheckpointStore.open(store.dir, KEEP_ALL)).cutShortSteps).toEqual([]);
    await Promise.all([abandoned.abort(), untouched.abort()]);
    expect(await readdir(store.dir)).toEqual(['step-00000001']);
  });

  it('puts a checkpoint back whose replacement never came', async () => {
    const store = await storeWith(1);
    await rename(join(store.dir, 'step-00000001'), join(store.dir, '.replaced-step-00000001'));
    await mkdir(join(store.dir, '.removed-step-00000000'));
    await CheckpointStore.open(store.dir, KEEP_ALL);
    expect(await readdir(store.dir)).toEqual(['step-00000001']);
    expect((await newest(store.dir)).step).toBe(1);
  });

  it('drops the old one when its replacement did come', async () => {
    const store = await storeWith(1);
    await mkdir(join(store.dir, '.replaced-step-00000001'));
    await CheckpointStore.open(store.dir, KEEP_ALL);
    expect(await readdir(store.dir)).toEqual(['step-00000001']);
  });

  it('replaces a damaged checkpoint when the run gets there again', async () => {
    const store = await storeWith(1, 2);
    await truncate(join(store.dir, 'step-00000002', 'model.safetensors'), 9);
    const reopened = await CheckpointStore.open(store.dir, KEEP_ALL);
    const writer = await reopened.begin({ step: 2, layout: LAYOUT });
    await writeSections(writer);
    await writer.commit(FACTS);
    expect(await newest(store.dir)).toEqual({ step: 2, rejected: [] });
  });
});

describe('kill -9 of the process that writes', () => {
  it('leaves the newest announced checkpoint, or a newer one, valid', { timeout: 120_000 }, async () => {
    const child = join(import.meta.dirname, '..', '..', 'support', 'children', 'write-checkpoint.mjs');
    // Kills fall at different places of the writing: counted in file system events, not in time.
    for (const events of [1, 7, 40]) {
      const dir = await temporaryFolder();
      const writer = spawn(process.execPath, [child, BUILT, dir, '300000'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exited = once(writer, 'exit');
      const lines = createInterface({ input: writer.stdout });
      let announced = 0;
      for await (const line of lines) {
        announced = Number(line);
        if (announced < 2) continue;
        let seen = '';
        for (let turn = 0; turn < events; turn += 1) seen = (await readdir(dir)).join();
        expect(seen).not.toBe('');
        break;
      }
      writer.kill('SIGKILL');
      expect((await exited)[1]).toBe('SIGKILL');
      const { step, rejected } = await newest(dir);
      expect(rejected).toEqual([]);
      expect(step).toBeGreaterThanOrEqual(announced);
      const reopened = await CheckpointStore.open(dir, KEEP_ALL);
      expect((await readdir(dir)).every((name) => name.startsWith('step-'))).toBe(true);
      expect(reopened.cutShortSteps.every((cut) => cut > announced)).toBe(true);
      expect((await newest(dir)).step).toBe(step);
    }
  });
});
