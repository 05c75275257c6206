import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { layoutOf, SECTIONS } from '../../../src/base/index.ts';
import { CheckpointStore, findNewestValid } from '../../../src/checkpoint/index.ts';
import { FACTS, sectionBytes, writeSections } from '../../support/checkpoint-fixtures.ts';
import { smallFileSystem } from '../../support/temporary-folder.ts';

const MIB = 1024 * 1024;
/** Three sections of this take 384 KiB. */
const PARAMETERS = 32_768;
const LAYOUT = layoutOf([{ name: 'weight', shape: [PARAMETERS] }]);
const CONFIG = { every: 1, keepLast: 9, keepEvery: null };

describe('a disk that is full', () => {
  it('stops the checkpoint with one clear error and keeps the earlier ones', async ({ skip }) => {
    const disk = await smallFileSystem(MIB);
    if (disk === null) return skip('needs the right to mount a tmpfs');
    const store = await CheckpointStore.open(join(disk, 'checkpoints'), CONFIG);
    const begin = (step: number) => store.begin({ step, layout: LAYOUT });
    const first = await begin(1);
    await writeSections(first, PARAMETERS);
    await first.commit(FACTS);
    await writeFile(join(disk, 'ballast'), new Uint8Array(MIB / 2));

    const second = await begin(2);
    const outcome = await Promise.allSettled(
      SECTIONS.map((section) => second.write(section, 0, sectionBytes(section, 2, PARAMETERS))),
    );
    const failure = outcome.find(({ status }) => status === 'rejected');
    expect(failure).toMatchObject({
      reason: {
        code: 'DISK_FULL',
        context: { systemCode: 'ENOSPC' },
        message: expect.stringMatching(/safetensors: cannot be written: no space left .* free space/),
      },
    });
    await expect(second.commit(FACTS)).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect(await readdir(store.dir)).toEqual(['step-00000001']);

    const { checkpoint, rejected } = await findNewestValid(store.dir);
    expect(checkpoint?.step).toBe(1);
    expect(rejected).toEqual([]);
    await checkpoint?.close();
  });

  it('may also be full for the manifest alone, or for the first byte', async ({ skip }) => {
    const disk = await smallFileSystem(MIB);
    if (disk === null) return skip('needs the right to mount a tmpfs');
    const store = await CheckpointStore.open(join(disk, 'checkpoints'), CONFIG);
    const writer = await store.begin({ step: 1, layout: LAYOUT });
    await writeSections(writer, PARAMETERS);
    await writeFile(join(disk, 'ballast'), new Uint8Array(MIB)).catch(() => {});
    await expect(writer.commit(FACTS)).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect(await readdir(store.dir)).toEqual([]);
    await writeFile(join(disk, 'more'), new Uint8Array(MIB)).catch(() => {});
    await expect(store.begin({ step: 2, layout: LAYOUT })).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect(await readdir(store.dir)).toEqual([]);
  });
});
