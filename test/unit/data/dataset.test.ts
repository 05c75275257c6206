import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { cleanWikitext, countLeftovers } from '../../../src/data/clean/index.ts';
import { type Dataset, openDataset, type PrepareOptions, prepareDataset } from '../../../src/data/index.ts';
import { recordsOfWhole } from '../../../src/data/input/index.ts';
import { filesOf } from '../../../src/data/manifest.ts';
import {
  collect,
  dumpXml,
  errorOf,
  SHARED_DATA,
  sampleText,
  temporaryFolder,
  writeInto,
} from '../../support/data-files.ts';

const PAGES = [
  ...Array.from({ length: 30 }, (_, index) => ({ title: `Article ${index}`, text: sampleText(index, 20) })),
  { title: 'Stub', text: 'Too short.' },
  { title: 'Old name', text: '#REDIRECT [[Article 1]]', redirect: 'Article 1' },
  { title: 'Which (disambiguation)', text: 'Which may refer to: {{disambiguation}}' },
];

/** A prepared data set of several shards in a folder of its own. */
async function prepared(options: Partial<PrepareOptions> = {}) {
  const folder = temporaryFolder();
  const input = writeInto(folder, 'dump.xml', dumpXml(PAGES));
  const outDir = join(folder, 'set');
  const result = await prepareDataset({
    inputs: [input],
    outDir,
    vocabSize: 340,
    tokenShardBytes: 3000,
    ...options,
  });
  return { ...result, input, outDir };
}

const bytesOf = (folder: string) =>
  readdirSync(folder)
    .sort()
    .map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]);

async function withDataset<T>(dataset: Dataset, use: (dataset: Dataset) => T | Promise<T>): Promise<T> {
  try {
    return await use(dataset);
  } finally {
    dataset.close();
  }
}

describe('prepareDataset', () => {
  it('reports every page once', async () => {
    const { manifest, input } = await prepared();
    expect(manifest.report).toMatchObject({
      articlesRead: 33,
      articlesKept: 30,
      dropped: { namespace: 0, redirect: 1, disambiguation: 1, tooShort: 1, unparsable: 0 },
      warnings: [],
    });
    expect(manifest.documents).toBe(30);
    expect(manifest.shards.length).toBeGreaterThan(2);
    expect(manifest.source).toEqual([
      {
        file: basename(input),
        format: 'mediawiki',
        bytes: readFileSync(input).length,
        sha256: createHash('sha256').update(readFileSync(input)).digest('hex'),
      },
    ]);
  });

  it('gives the same bytes for the same input, wherever and however often', async () => {
    const first = await prepared();
    const second = await prepared();
    expect(second.sha256).toBe(first.sha256);
    expect(bytesOf(second.outDir)).toEqual(bytesOf(first.outDir));
    const again = await prepareDataset({
      inputs: [first.input],
      outDir: first.outDir,
      vocabSize: 340,
      tokenShardBytes: 3000,
      force: true,
    });
    expect(again.sha256).toBe(first.sha256);
    expect(bytesOf(first.outDir)).toEqual(bytesOf(second.outDir));
  });

  it('holds each article as one document, in order', async () => {
    const { outDir } = await prepared();
    await withDataset(await openDataset(outDir), async (dataset) => {
      const documents = await collect(dataset.documents());
      const texts = documents.map(({ ids }) => dataset.tokenizer.decode(ids));
      expect(texts).toEqual(PAGES.slice(0, 30).map(({ text }) => text));
      const all = await dataset.readTokens(0, dataset.manifest.tokens);
      expect([...all]).toEqual(documents.flatMap(({ ids }) => [...ids]));
      // A range that begins in one shard and ends in another.
      const border = dataset.manifest.shards[0]!.tokens;
      expect(await dataset.readTokens(border - 5, 10)).toEqual(all.slice(border - 5, border + 5));
    });
  });

  it('gives the same tokens with its own tokenizer loaded', async () => {
    const { outDir, manifest } = await prepared();
    const second = await prepared({ vocabSize: undefined, tokenizerPath: outDir });
    expect(second.manifest.shards).toEqual(manifest.shards);
    expect(second.manifest.tokenizer).toEqual(manifest.tokenizer);
  });

  it('leaves no file of a larger data set it replaces', async () => {
    const { outDir, input, manifest } = await prepared();
    const second = await prepareDataset({ inputs: [input], outDir, vocabSize: 340, force: true });
    expect(second.manifest.shards).toHaveLength(1);
    expect(manifest.shards.length).toBeGreaterThan(1);
    expect(readdirSync(outDir).sort()).toEqual([
      'articles.json',
      'document-hashes.bin',
      'documents.bin',
      'manifest.json',
      'tokenizer.json',
      'tokens-00000.bin',
    ]);
  });

  it('says when the text yields a smaller vocabulary than asked', async () => {
    const warnings: string[] = [];
    const { manifest } = await prepared({
      vocabSize: 50_000,
      onWarning: (message) => warnings.push(message),
    });
    expect(manifest.vocabSize).toBeLessThan(2000);
    expect(warnings).toEqual(manifest.report.warnings);
    expect(warnings[0]).toContain('vocabSize 50000');
  });

  it('keeps the old data set when it fails, and leaves nothing behind', async () => {
    const { outDir, sha256 } = await prepared();
    const cut = writeInto(temporaryFolder(), 'cut.xml', dumpXml(PAGES).slice(0, 5000));
    const error = await errorOf(() => prepareDataset({ inputs: [cut], outDir, vocabSize: 340, force: true }));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(readdirSync(outDir).filter((name) => name.endsWith('.partial'))).toEqual([]);
    await withDataset(await openDataset(outDir), (dataset) => expect(dataset.sha256).toBe(sha256));
  });

  it.each<[string, Partial<PrepareOptions>, string]>([
    ['a vocabulary below the bytes', { vocabSize: 260 }, 'vocabSize 260 is not a whole number of 261 ..'],
    ['both a size and a tokenizer', { tokenizerPath: 'x' }, 'give one of the two'],
    ['neither', { vocabSize: undefined }, 'give one of the two'],
    ['no input', { inputs: [] }, 'inputs: none is named'],
    ['half a byte', { unitBytes: 0.5 }, 'unitBytes 0.5'],
    ['no article left', { minCharacters: 100_000 }, 'no article is left'],
  ])('refuses %s', async (_, options, message) => {
    const error = await errorOf(() => prepared(options));
    expect(error.message).toContain(message);
  });

  it('refuses a folder that holds a data set, or is a file', async () => {
    const { outDir, input } = await prepared();
    const options = { inputs: [input], vocabSize: 340 };
    expect((await errorOf(() => prepareDataset({ ...options, outDir }))).message).toContain('pass --force');
    expect((await errorOf(() => prepareDataset({ ...options, outDir: input }))).message).toContain(
      'is a file',
    );
  });
});

describe('openDataset', () => {
  const shardOne = 'tokens-00001.bin';

  it('names a folder without a data set', async () => {
    const error = await errorOf(() => openDataset(temporaryFolder()));
    expect([error.code, error.message.includes('manifest.json')]).toEqual(['DATA_MISSING', true]);
  });

  it('names a missing shard', async () => {
    const { outDir } = await prepared();
    rmSync(join(outDir, shardOne));
    const error = await errorOf(() => openDataset(outDir));
    expect(error.code).toBe('DATA_MISSING');
    expect(error.message).toContain(shardOne);
  });

  it('names a shard cut short, and the byte, even without hashing', async () => {
    const { outDir, manifest } = await prepared();
    truncateSync(join(outDir, shardOne), 1234);
    const error = await errorOf(() => openDataset(outDir, { verifyHashes: false }));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toContain(
      `${shardOne} is cut short: it ends at byte 1234 of ${manifest.shards[1]!.bytes}`,
    );
  });

  it('finds a flipped bit in any file', async () => {
    const { outDir, manifest } = await prepared();
    for (const { file } of filesOf(manifest)) {
      const path = join(outDir, file);
      const bytes = readFileSync(path);
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(path, bytes);
      const error = await errorOf(() => openDataset(outDir));
      expect(error.code).toBe('DATA_CORRUPT');
      expect(error.message).toContain(file);
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(path, bytes);
    }
    (await openDataset(outDir)).close();
  });

  it('names an id outside the vocabulary, and its byte, where hashes were skipped', async () => {
    const { outDir } = await prepared();
    const path = join(outDir, 'tokens-00000.bin');
    const bytes = readFileSync(path);
    bytes.writeUInt16LE(60_000, 20);
    writeFileSync(path, bytes);
    const dataset = await openDataset(outDir, { verifyHashes: false });
    const error = await errorOf(() => withDataset(dataset, () => dataset.readTokens(0, 50)));
    expect(error.message).toContain('has id 60000 at byte 20');
  });

  it('refuses a data set other than the expected one', async () => {
    const { outDir, sha256 } = await prepared();
    (await openDataset(outDir, { expectedSha256: sha256 })).close();
    const error = await errorOf(() => openDataset(outDir, { expectedSha256: 'f'.repeat(64) }));
    expect(error.code).toBe('CONFIG_MISMATCH');
  });

  it.each([
    ['"version": 2', '"version": 1', 'field "version"'],
    ['"documents": 30', '"documents": 31', 'field "documents" is 31, but the shards hold 30'],
    ['"file": "tokens-00000.bin"', '"file": "../../tokens.bin"', 'plain file name'],
    ['"format": "lockstep-dataset"', '"format": "lockstep-dataset', 'is not JSON'],
  ])('names the field when the manifest has %s as %s', async (before, after, message) => {
    const { outDir } = await prepared();
    const path = join(outDir, 'manifest.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace(before, after));
    const error = await errorOf(() => openDataset(outDir));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toContain(message);
  });
});

describe('the corpus that comes with the project', () => {
  it('yields every article without left-over markup', async () => {
    const outDir = join(temporaryFolder(), 'set');
    const corpus = fileURLToPath(new URL('../../../corpus/encyclopedia.xml', import.meta.url));
    const { manifest } = await prepareDataset({ inputs: [corpus], outDir, vocabSize: 1000 });
    expect(manifest.report).toMatchObject({
      articlesRead: 164,
      articlesKept: 132,
      dropped: { namespace: 4, redirect: 24, disambiguation: 4, tooShort: 0, unparsable: 0 },
      warnings: [],
    });
    await withDataset(await openDataset(outDir), async (dataset) => {
      const documents = await collect(dataset.documents());
      const texts = documents.map(({ ids }) => dataset.tokenizer.decode(ids));
      expect(texts.filter((text) => countLeftovers(text) > 0)).toEqual([]);
    });
  });

  const slice = join(SHARED_DATA, 'enwiki-2022-slice', 'testdata_en.bz2');
  it.skipIf(!existsSync(slice))(
    'reads the head of a real dump (skipped: shared data are absent)',
    async () => {
      const { records } = recordsOfWhole({ file: slice, allowTruncated: false, warn: () => {} }, 'mediawiki');
      const texts: string[] = [];
      for await (const record of records) {
        if (record.kind !== 'article') continue;
        const result = cleanWikitext(record.article);
        if (result.kind === 'article') texts.push(result.paragraphs.join('\n'));
        if (texts.length === 12) break;
      }
      expect(texts.every((text) => text.length > 500 && countLeftovers(text) === 0)).toBe(true);
    },
  );
});
