import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvariantError, SECTIONS } from '../../../src/base/index.ts';
import {
  CheckpointStore,
  findNewestValid,
  listCheckpoints,
  openCheckpoint,
  TensorFile,
} from '../../../src/checkpoint/index.ts';
import {
  FACTS,
  KEEP_ALL,
  LAYOUT,
  SIZE,
  sectionBytes,
  writeCheckpoint,
  writeSections,
} from '../../support/checkpoint-fixtures.ts';
import { naiveSafetensors } from '../../support/naive-checkpoint.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

async function openStore(config = KEEP_ALL) {
  return CheckpointStore.open(join(await temporaryFolder(), 'run', 'checkpoints'), config);
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('a checkpoint', () => {
  it('is read back as it was written, section by section and range by range', async () => {
    const store = await openStore();
    const manifest = await writeCheckpoint(store, 12);
    const reader = await openCheckpoint(join(store.dir, 'step-00000012'));
    expect(reader.step).toBe(12);
    expect(reader.layout).toEqual(LAYOUT);
    expect(reader.manifest).toEqual(manifest);
    for (const section of SECTIONS) {
      const whole = new Uint8Array(4 * SIZE);
      await reader.read(section, 0, whole);
      expect(whole).toEqual(sectionBytes(section, 12));
      const part = new Uint8Array(12);
      await reader.read(section, 5, part);
      expect(part).toEqual(sectionBytes(section, 12).subarray(20, 32));
      await expect(reader.read(section, SIZE - 2, part)).rejects.toThrow(InvariantError);
      await expect(reader.read(section, -1, part)).rejects.toThrow(InvariantError);
    }
    await reader.verify();
    await reader.close();
    await reader.close();
  });

  it('digests the flat parameter vector alone', async () => {
    const store = await openStore();
    const { weightsSha256 } = await writeCheckpoint(store, 3);
    expect(weightsSha256).toBe(sha256(sectionBytes('parameters', 3)));
    const reader = await openCheckpoint(join(store.dir, 'step-00000003'));
    expect(await reader.weightsSha256()).toBe(weightsSha256);
    await reader.close();
  });

  it('is the same to the byte however its ranges arrive', async () => {
    const store = await openStore();
    const expected = await writeCheckpoint(store, 1);
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: SIZE - 1 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(cuts, fc.infiniteStream(fc.nat()), async (inner, order) => {
        const bounds = [0, ...inner.sort((a, b) => a - b), SIZE];
        const pieces = SECTIONS.flatMap((section) =>
          bounds
            .slice(1)
            .map((end, index) => ({ section, first: bounds[index]!, end, key: order.next().value })),
        ).sort((a, b) => a.key - b.key);
        const writer = await store.begin({ step: 1, layout: LAYOUT });
        await Promise.all(
          pieces.map(({ section, first, end }) =>
            writer.write(section, first, sectionBytes(section, 1).subarray(4 * first, 4 * end)),
          ),
        );
        const manifest = await writer.commit(FACTS);
        expect(manifest).toEqual(expected);
      }),
      { numRuns: 25 },
    );
  });

  it('is a plain safetensors file, padded so that its data is aligned', async () => {
    const store = await openStore();
    await writeCheckpoint(store, 2);
    const path = join(store.dir, 'step-00000002', 'model.safetensors');
    const file = await TensorFile.open(path);
    expect(file.metadata).toEqual({ format: 'pt' });
    await file.close();
    const bytes = new Uint8Array(await readFile(path));
    const naive = naiveSafetensors(LAYOUT, sectionBytes('parameters', 2));
    expect(bytes.subarray(-4 * SIZE)).toEqual(naive.subarray(-4 * SIZE));
    expect((bytes.length - 4 * SIZE) % 8).toBe(0);
  });

  it('takes ranges of shared memory as they are', async () => {
    const store = await openStore();
    const writer = await store.begin({ step: 1, layout: LAYOUT });
    for (const section of SECTIONS) {
      const shared = new Uint8Array(new SharedArrayBuffer(4 * SIZE + 16), 16);
      shared.set(sectionBytes(section, 1));
      await writer.write(section, 0, shared);
    }
    expect(await writer.commit(FACTS)).toMatchObject({ step: 1 });
  });
});

describe('a writer', () => {
  it('refuses what overlaps, lies outside or is no float, and goes on', async () => {
    const store = await openStore();
    const writer = await store.begin({ step: 1, layout: LAYOUT });
    await writeSections(writer);
    const two = new Uint8Array(8);
    for (const [first, bytes] of [
      [0, two],
      [SIZE - 1, two],
      [SIZE, two],
      [-1, two],
      [0, new Uint8Array(6)],
      [0, new Uint8Array(0)],
    ] as const) {
      for (const section of SECTIONS) {
        await expect(writer.write(section, first, bytes)).rejects.toThrow(InvariantError);
      }
    }
    const manifest = await writer.commit(FACTS);
    expect(manifest.weightsSha256).toBe(sha256(sectionBytes('parameters', 1)));
  });

  it('does not let the first moment run on into the second', async () => {
    const store = await openStore();
    const writer = await store.begin({ step: 1, layout: LAYOUT });
    await expect(writer.write('firstMoment', SIZE - 1, new Uint8Array(8))).rejects.toThrow(/firstMoment/);
    await writer.abort();
  });

  it('commits nothing while a float is missing, and leaves nothing behind', async () => {
    const store = await openStore();
    const writer = await store.begin({ step: 1, layout: LAYOUT });
    await writer.write('parameters', 0, sectionBytes('parameters', 1));
    await writer.write('secondMoment', 0, sectionBytes('secondMoment', 1));
    await writer.write('firstMoment', 1, sectionBytes('firstMoment', 1).subarray(4));
    await expect(writer.commit(FACTS)).rejects.toThrow(/optimizer\.safetensors: floats 0 to 1 never arrived/);
    expect(await readdir(store.dir)).toEqual([]);
    await expect(writer.commit(FACTS)).rejects.toThrow(InvariantError);
    await expect(writer.write('parameters', 0, new Uint8Array(4))).rejects.toThrow(InvariantError);
  });

  it.each(['model.safetensors', 'optimizer.safetensors'])(
    'notices that the disk changed %s',
    async (file) => {
      const store = await openStore();
      for (const position of [0, 20, -1]) {
        const writer = await store.begin({ step: 1, layout: LAYOUT });
        await writeSections(writer);
        const [temporary] = await readdir(store.dir);
        const path = join(store.dir, temporary!, file);
        const bytes = await readFile(path);
        bytes[position < 0 ? bytes.length + position : position]! ^= 1;
        await writeFile(path, bytes);
        await expect(writer.commit(FACTS)).rejects.toMatchObject({
          code: 'CHECKPOINT_INVALID',
          message: expect.stringMatching(/read back differ/),
        });
        expect(await readdir(store.dir)).toEqual([]);
      }
    },
  );

  it('gives its space back when aborted, twice if need be, with writes under way', async () => {
    const store = await openStore();
    const writer = await store.begin({ step: 1, layout: LAYOUT });
    const write = writer.write('parameters', 0, sectionBytes('parameters', 1));
    await Promise.all([writer.abort(), writer.abort(), write]);
    expect(await readdir(store.dir)).toEqual([]);
  });

  it('refuses facts that the manifest could not vouch for', async () => {
    const store = await openStore();
    const writer = await store.begin({ step: 1, layout: LAYOUT });
    await writeSections(writer);
    await expect(writer.commit({ ...FACTS, fingerprint: '00'.repeat(32) })).rejects.toThrow(/fingerprint/);
    expect(await readdir(store.dir)).toEqual([]);
  });
});

describe('a store', () => {
  it('keeps the newest and the multiples', async () => {
    const store = await openStore({ every: 1, keepLast: 2, keepEvery: 3 });
    for (let step = 1; step <= 7; step += 1) await writeCheckpoint(store, step);
    expect(await readdir(store.dir)).toEqual(['step-00000003', 'step-00000006', 'step-00000007']);
  });

  it('replaces the checkpoint of a step that is computed again', async () => {
    const store = await openStore({ ...KEEP_ALL, keepLast: 1 });
    await writeCheckpoint(store, 1);
    const again = await writeCheckpoint(store, 1);
    expect(await readdir(store.dir)).toEqual(['step-00000001']);
    const { checkpoint } = await findNewestValid(store.dir);
    expect(checkpoint?.manifest).toEqual(again);
    await checkpoint?.close();
  });

  it('writes checkpoints of several steps side by side', async () => {
    const store = await openStore({ ...KEEP_ALL, keepLast: 2 });
    const manifests = await Promise.all([3, 1, 2].map((step) => writeCheckpoint(store, step)));
    expect(manifests.map(({ step }) => step)).toEqual([3, 1, 2]);
    const listed = await listCheckpoints(store.dir);
    expect(listed.every(({ state }) => state === 'complete')).toBe(true);
    expect(listed.at(-1)?.step).toBe(3);
  });

  it('has no checkpoint where there is no folder', async () => {
    const dir = join(await temporaryFolder(), 'none');
    expect(await listCheckpoints(dir)).toEqual([]);
    expect(await findNewestValid(dir)).toEqual({ checkpoint: null, rejected: [] });
    expect(existsSync(dir)).toBe(false);
  });
});
