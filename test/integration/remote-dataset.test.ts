/**
 * A data set read block by block from whoever has its files: the same micro-batches as from the folder, each block
 * fetched once, whatever the cache, the source or the disk does wrong noticed.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { PRESETS } from '../../src/config/index.ts';
import {
  type BlockSource,
  DATA_BLOCK_BYTES,
  type Dataset,
  microBatch,
  openDataset,
  openRemoteDataset,
  prepareDataset,
  ServedDataset,
  sampleSpecOf,
  type TrainingData,
  validationBatch,
} from '../../src/data/index.ts';
import { errorOf, sampleText, temporaryFolder, writeInto } from '../support/data-files.ts';
import { smallFileSystem } from '../support/temporary-folder.ts';

const { data: DATA, step: STEP } = PRESETS.tiny;
const CONFIG = { ...DATA, validationShare: 0.2 };

async function prepared(): Promise<{ dir: string; local: Dataset; served: ServedDataset }> {
  const folder = temporaryFolder();
  const lines = Array.from({ length: 400 }, (_, seed) =>
    JSON.stringify({ title: `Article ${seed}`, text: sampleText(seed, 10 + (seed % 30)) }),
  );
  const dir = join(folder, 'set');
  const input = writeInto(folder, 'a.jsonl', lines.join('\n'));
  await prepareDataset({ inputs: [input], outDir: dir, vocabSize: 340, tokenShardBytes: 100_000 });
  const local = await openDataset(dir);
  const served = new ServedDataset(dir, local.sha256, CONFIG);
  onTestFinished(async () => {
    local.close();
    await served.close();
  });
  return { dir, local, served };
}

/** Notes what was asked for, and passes it on unless `change` has something else. */
class WatchedSource implements BlockSource {
  readonly blocks: string[] = [];
  readonly #source: BlockSource;
  readonly #change: (file: string, index: number, block: Uint8Array, nth: number) => Uint8Array;

  constructor(
    source: BlockSource,
    change: (file: string, index: number, block: Uint8Array, nth: number) => Uint8Array = (_f, _i, block) =>
      block,
  ) {
    this.#source = source;
    this.#change = change;
  }

  digests(file: string): Promise<Uint8Array> {
    return this.#source.digests(file);
  }

  async block(file: string, index: number): Promise<Uint8Array> {
    this.blocks.push(`${file} ${index}`);
    return this.#change(file, index, await this.#source.block(file, index), this.blocks.length);
  }
}

async function openRemotely(
  source: BlockSource,
  sha256: string,
  cacheDir: string,
  onCacheTrouble: (reason: string) => void = (reason) => expect.fail(reason),
): Promise<TrainingData> {
  const remote = await openRemoteDataset({
    source,
    place: 'http://elsewhere',
    sha256,
    cacheDir,
    onCacheTrouble,
  });
  onTestFinished(() => remote.close());
  return remote;
}

const damaged = (block: Uint8Array) =>
  block.map((byte, index) => (index === block.length >> 1 ? byte ^ 1 : byte));

describe('a data set read from elsewhere', () => {
  it.each(['documents', 'packed'] as const)('gives the same micro-batches, %s', async (packing) => {
    const { dir, local } = await prepared();
    const config = { ...CONFIG, packing };
    const served = new ServedDataset(dir, local.sha256, config);
    onTestFinished(() => served.close());
    const remote = await openRemotely(served, local.sha256, temporaryFolder());
    expect(remote.manifest).toEqual(local.manifest);
    for (const step of [1, 2, 90]) {
      for (const slot of [0, 7]) {
        const key = { seed: 5, step, slot };
        expect(await microBatch(remote, key, config, STEP)).toEqual(
          await microBatch(local, key, config, STEP),
        );
      }
    }
    expect(await validationBatch(remote, 3, 4, 5, config)).toEqual(
      await validationBatch(local, 3, 4, 5, config),
    );
  });

  it('fetches only what a sample needs, once, and finds it in the cache the next time', async () => {
    const { local, served } = await prepared();
    const cacheDir = temporaryFolder();
    const source = new WatchedSource(served);
    const remote = await openRemotely(source, local.sha256, cacheDir);
    const before = source.blocks.length;
    await (await remote.samples(sampleSpecOf(CONFIG, 'train'))).read(17);
    // The head of the table, the sample's row, and one or two blocks of tokens.
    expect(source.blocks.length - before).toBeLessThanOrEqual(4);
    for (let slot = 0; slot < 8; slot += 1)
      await microBatch(remote, { seed: 1, step: 1, slot }, CONFIG, STEP);
    expect(new Set(source.blocks).size).toBe(source.blocks.length);
    const tokenBytes = local.manifest.tokens * local.manifest.idBytes;
    expect(tokenBytes, 'the data set has many blocks').toBeGreaterThan(10 * DATA_BLOCK_BYTES);

    const again = new WatchedSource(served);
    const reopened = await openRemotely(again, local.sha256, cacheDir);
    await microBatch(reopened, { seed: 1, step: 1, slot: 3 }, CONFIG, STEP);
    expect(again.blocks).toEqual([]);
  });

  it('fetches again what the cache has lost or spoilt', async () => {
    const { local, served } = await prepared();
    const cacheDir = temporaryFolder();
    const key = { seed: 2, step: 4, slot: 1 };
    const expected = await microBatch(local, key, CONFIG, STEP);
    await microBatch(await openRemotely(served, local.sha256, cacheDir), key, CONFIG, STEP);
    const folder = join(cacheDir, local.sha256);
    for (const [place, name] of readdirSync(folder).entries()) {
      const path = join(folder, name);
      const bytes = readFileSync(path);
      if (place % 2 === 0) writeFileSync(path, bytes.subarray(0, bytes.length >> 1));
      else writeFileSync(path, damaged(bytes));
    }
    const source = new WatchedSource(served);
    expect(await microBatch(await openRemotely(source, local.sha256, cacheDir), key, CONFIG, STEP)).toEqual(
      expected,
    );
    expect(source.blocks.length).toBeGreaterThan(0);
  });

  it('asks again for a block that arrives damaged, and names it when it stays so', async () => {
    const { local, served } = await prepared();
    const key = { seed: 1, step: 1, slot: 0 };
    const once = new WatchedSource(served, (_f, _i, block, nth) => (nth % 2 === 1 ? damaged(block) : block));
    const remote = await openRemotely(once, local.sha256, temporaryFolder());
    expect(await microBatch(remote, key, CONFIG, STEP)).toEqual(await microBatch(local, key, CONFIG, STEP));

    const always = new WatchedSource(served, (file, _i, block) =>
      file.startsWith('tokens-') ? damaged(block) : block,
    );
    const spoilt = await openRemotely(always, local.sha256, temporaryFolder());
    const error = await errorOf(() => microBatch(spoilt, key, CONFIG, STEP));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toMatch(
      /^http:\/\/elsewhere: block \d+ of tokens-0000\d\.bin does not match its SHA-256/,
    );
  });

  it('refuses another data set than the one of the run', async () => {
    const { served } = await prepared();
    const error = await errorOf(() => openRemotely(served, 'f'.repeat(64), temporaryFolder()));
    expect(error.code).toBe('CONFIG_MISMATCH');
  });

  it('goes on without a cache where the disk is full, and says so once', async ({ skip }) => {
    const cacheDir = await smallFileSystem(64 * 1024);
    if (cacheDir === null) skip('may not mount a file system here');
    const { local, served } = await prepared();
    const said: string[] = [];
    const remote = await openRemotely(served, local.sha256, cacheDir!, (reason) => said.push(reason));
    for (let slot = 0; slot < 8; slot += 1) {
      const key = { seed: 1, step: 1, slot };
      expect(await microBatch(remote, key, CONFIG, STEP)).toEqual(await microBatch(local, key, CONFIG, STEP));
    }
    expect(said).toHaveLength(1);
    expect(said[0]).toContain('ENOSPC');
    remote.close();
  });
});

describe('the side that has the files', () => {
  it('names a file that is not what the manifest says before it gives out a digest of it', async () => {
    const { dir, served } = await prepared();
    const path = join(dir, 'tokens-00001.bin');
    writeFileSync(path, damaged(readFileSync(path)));
    const error = await errorOf(() => served.digests('tokens-00001.bin'));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toContain(path);
    expect((await served.digests('tokens-00000.bin')).length).toBeGreaterThan(0);
  });

  it('gives out nothing but the data set', async () => {
    const { dir, served } = await prepared();
    writeInto(dir, 'secret.txt', 'not for others');
    for (const file of ['secret.txt', '../set/manifest.json', 'samples-9-packed-0-train.bin', '']) {
      expect((await errorOf(() => served.digests(file))).code).toBe('DATA_MISSING');
      expect((await errorOf(() => served.block(file, 0))).code).toBe('DATA_MISSING');
    }
    expect((await errorOf(() => served.block('manifest.json', 99))).message).toContain('has no block 99');
  });

  it('serves a file again once it is back', async () => {
    const { dir, served } = await prepared();
    const path = join(dir, 'tokens-00000.bin');
    const bytes = readFileSync(path);
    rmSync(path);
    expect((await errorOf(() => served.digests('tokens-00000.bin'))).code).toBe('DATA_MISSING');
    writeFileSync(path, bytes);
    expect((await served.digests('tokens-00000.bin')).length).toBeGreaterThan(0);
  });
});
