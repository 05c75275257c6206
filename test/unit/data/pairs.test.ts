import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { quantile } from '../../../src/base/index.ts';
import { type DataConfig, PRESETS } from '../../../src/config/index.ts';
import {
  countCuts,
  type Dataset,
  loadTokenizer,
  MANIFEST_FILE,
  microBatch,
  openDataset,
  openRemoteDataset,
  PAIR_FIELDS,
  type PreparePairsOptions,
  preparePairs,
  ServedDataset,
  sampleSpecOf,
  settledDataConfig,
  splitOf,
  validationBatch,
} from '../../../src/data/index.ts';
import {
  collect,
  errorOf,
  SHARED_DATA,
  sampleText,
  temporaryFolder,
  writeInto,
} from '../../support/data-files.ts';

const { data: DATA } = PRESETS.tiny;
const STEP = { microBatches: 4, microBatchSize: 5 };
const COUNT = 40;
const SOURCES = Array.from({ length: COUNT }, (_, seed) => sampleText(seed, 1 + (seed % 7)));
const TARGETS = Array.from({ length: COUNT }, (_, seed) => sampleText(1000 + seed, 1 + (seed % 2)));

function textFiles(sources: readonly string[] = SOURCES, targets: readonly string[] = TARGETS): string[] {
  const folder = temporaryFolder();
  const file = (name: string, lines: readonly string[]) =>
    writeInto(folder, name, lines.map((line) => `${line}\n`).join(''));
  return [file('train.src', sources), file('train.tgt', targets)];
}

function prepare(inputs: readonly string[], options: Partial<PreparePairsOptions> = {}) {
  const outDir = join(temporaryFolder(), 'set');
  return preparePairs({ inputs, outDir, fields: PAIR_FIELDS, tokenizer: { vocabSize: 340 }, ...options });
}

async function dataset(inputs: readonly string[] = textFiles()): Promise<Dataset> {
  const outDir = join(temporaryFolder(), 'set');
  await prepare(inputs, { outDir });
  const opened = await openDataset(outDir);
  onTestFinished(() => opened.close());
  return opened;
}

describe('a data set of pairs', () => {
  it('has sources and targets in turn, a pair of one hash, and says how long they are', async () => {
    const set = await dataset();
    const documents = await collect(set.documents());
    const texts = documents.map(({ ids }) => set.tokenizer.decode(ids));
    expect(texts).toEqual(SOURCES.flatMap((source, index) => [source, TARGETS[index]]));
    documents.forEach(({ hash }, index) => {
      expect(hash).toBe(documents[index - (index % 2)]!.hash);
    });
    const targets = [...set.documentLengths].filter((_, index) => index % 2 === 1);
    expect(set.manifest.pairs).toMatchObject({ count: COUNT, fields: null });
    expect(set.manifest.pairs?.target).toEqual({
      median: quantile(targets, 0.5),
      percentile99: quantile(targets, 0.99),
      longest: Math.max(...targets),
    });
  });

  it('is the same bytes for the same pairs, from text, compressed text and JSON lines', async () => {
    const [sources = '', targets = ''] = textFiles();
    const { tokenizer } = await dataset();
    const folder = temporaryFolder();
    const gzipped = [sources, targets].map((file, index) =>
      writeInto(folder, `${index}.txt.gz`, gzipSync(readFileSync(file))),
    );
    const lines = SOURCES.map((passage, index) => JSON.stringify({ passage, question: TARGETS[index] }));
    const jsonLines = writeInto(folder, 'train.jsonl', `${lines.join('\n\n')}\n`);
    const fields = { ...PAIR_FIELDS, source: 'passage', target: 'question' };
    const given = { tokenizer, fields };
    const made = [
      await prepare([sources, targets], given),
      await prepare(gzipped, given),
      await prepare([jsonLines], given),
    ];
    const contents = made.map(({ manifest }) => [
      manifest.shards.map(({ sha256 }) => sha256),
      manifest.documentIndex.sha256,
      manifest.documentHashes.sha256,
      manifest.tokenizer.sha256,
    ]);
    expect(contents[1]).toEqual(contents[0]);
    expect(contents[2]).toEqual(contents[0]);
    expect((await prepare([sources, targets], given)).sha256).toBe(made[0]!.sha256);
    expect(made[2]!.manifest.pairs?.fields).toEqual(fields);
  });

  it('takes several files one after another', async () => {
    const [first, second] = [textFiles(SOURCES.slice(0, 9), TARGETS.slice(0, 9)), textFiles()];
    const lines = writeInto(temporaryFolder(), 'more.jsonl', '{"source": "a b", "target": "c"}');
    const { manifest } = await prepare([...first, lines, ...second]);
    expect(manifest.pairs?.count).toBe(9 + 1 + COUNT);
    expect(manifest.source.map(({ format }) => format)).toEqual([
      ...['text', 'text', 'json-lines', 'text', 'text'],
    ]);
  });

  it('keeps pairs of one source, or of one group, on one side of the split', async () => {
    const lines = Array.from({ length: 60 }, (_, index) =>
      JSON.stringify({ source: `turn ${index} of a talk`, target: 'yes', group: `talk ${index % 6}` }),
    );
    const set = await dataset([writeInto(temporaryFolder(), 'talks.jsonl', lines.join('\n'))]);
    const sides = [...set.documentHashes].map((hash) => splitOf(hash, 0.5));
    sides.forEach((side, document) => {
      expect(side).toBe(sides[document % 12]);
    });
    expect(new Set(sides).size).toBe(2);
    const same = await dataset(textFiles(['one passage', 'one passage'], ['what ?', 'who ?']));
    expect(new Set(same.documentHashes).size).toBe(1);
  });

  it('takes dialogues as CSV', async () => {
    const talk = 'user 1 personas,user 2 personas,Best Generated Conversation\na,b,"User 1: x\nUser 2: y"\n';
    const { manifest } = await prepare([writeInto(temporaryFolder(), 'talk.csv', talk)]);
    expect(manifest.source.map(({ format }) => format)).toEqual(['persona-chat']);
    expect(manifest.pairs?.count).toBe(1);
  });

  const squad = ['src-dev.txt', 'tgt-dev.txt'].map((name) => join(SHARED_DATA, 'squad-qg-du2017', name));
  it.skipIf(!existsSync(squad[0]!))(
    'takes SQuAD as Du et al. split it (skipped: shared data are absent)',
    async () => {
      const { manifest } = await prepare(squad);
      expect(manifest.pairs?.count).toBe(10_570);
    },
  );

  it('refuses a manifest that contradicts itself', async () => {
    const set = await dataset();
    const path = join(set.directory, MANIFEST_FILE);
    writeInto(set.directory, MANIFEST_FILE, readFileSync(path, 'utf8').replace('"count": 40', '"count": 39'));
    const error = await errorOf(() => openDataset(set.directory));
    expect(error.message).toContain('field "documents" is 80, but 39 pairs have 78');
  });

  it('is kept where it is there and equal, and never overwritten unasked', async () => {
    const inputs = textFiles();
    const outDir = join(temporaryFolder(), 'set');
    const { sha256 } = await prepare(inputs, { outDir });
    const again = { outDir, tokenizer: loadTokenizer(outDir) };
    expect(await prepare(inputs, { ...again, existing: 'keep-equal' })).toMatchObject({
      sha256,
      isKept: true,
    });
    expect((await errorOf(() => prepare(inputs, again))).message).toContain('holds a data set already');
    const other = textFiles(SOURCES.toReversed());
    const error = await errorOf(() => prepare(other, { ...again, existing: 'keep-equal' }));
    expect([error.code, error.message]).toEqual([
      'CONFIG_MISMATCH',
      `${outDir} holds a data set of other pairs: name another folder for this one, or delete it`,
    ]);
    const replaced = await prepare(other, { ...again, existing: 'replace' });
    expect(replaced).toMatchObject({ isKept: false });
    expect(replaced.sha256).not.toBe(sha256);
  });
});

describe('pairs that are wrong', () => {
  const json = (text: string | Uint8Array) => [writeInto(temporaryFolder(), 'bad.jsonl', text)];

  it.each([
    ['an empty source', () => textFiles(['a', ' ', 'c'], ['x', 'y', 'z']), 'train.src: line 2 is empty'],
    ['an empty target', () => textFiles(['a', 'b'], ['x', '']), 'train.tgt: line 2 is empty'],
    [
      'too few targets',
      () => textFiles(['a', 'b', 'c'], ['x', 'y']),
      /train\.src: has a line 3, but .*train\.tgt ends after 2/,
    ],
    [
      'too few sources',
      () => textFiles(['a'], ['x', 'y']),
      /train\.tgt: has a line 2, but .*train\.src ends after 1/,
    ],
    ['no pair', () => textFiles([], []), 'no pair is in there'],
    ['no UTF-8', () => json(Buffer.from([0x7b, 0xff, 0x0a])), 'the line at byte 0 is not UTF-8'],
    ['no JSON', () => json('{"source": "a", "target": "b"}\n{"source"'), 'bad.jsonl: line 2 is not JSON'],
    ['no object', () => json('["a", "b"]'), 'line 1 is no JSON object'],
    ['another member', () => json('{"text": "a"}'), 'line 1: no string member "source" (there are: text)'],
    ['an empty member', () => json('{"source": "a", "target": ""}'), 'line 1 is empty in member "target"'],
  ])('%s', async (_what, files, message) => {
    const error = await errorOf(() => prepare(files()));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toMatch(message);
  });

  it('a source file without targets', async () => {
    const error = await errorOf(() => prepare(textFiles().slice(0, 1)));
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toContain('train.src has no file of targets after it');
  });
});

describe('the settings of a run on pairs', () => {
  it('get the target length that 99 of 100 targets need, in steps of 4', async () => {
    const { manifest } = await dataset();
    const settled = (config: Partial<DataConfig>, maxPositions = 64) =>
      settledDataConfig({ ...DATA, ...config }, manifest, maxPositions).targetLength;
    const needed = manifest.pairs!.target.percentile99 + 1;
    const learned = settled({})!;
    expect(learned % 4).toBe(0);
    expect(learned).toBeGreaterThanOrEqual(needed);
    expect(learned).toBeLessThan(needed + 4);
    expect(settled({}, 10)).toBe(10);
    expect(settled({ targetLength: 9 })).toBe(9);
    const texts = { ...manifest, pairs: undefined };
    expect(settledDataConfig(DATA, texts, 64)).toBe(DATA);
  });

  it('refuse to pack', async () => {
    const set = await dataset();
    const packed = { ...DATA, packing: 'packed' } as const;
    for (const act of [
      () => settledDataConfig(packed, set.manifest, 64),
      () => set.samples(sampleSpecOf(packed, 'train')),
    ]) {
      const error = await errorOf(act);
      expect([error.code, error.message.slice(0, 24)]).toEqual([
        'CONFIG_INVALID',
        'data.packing is "packed"',
      ]);
    }
  });
});

describe('micro-batches of pairs', () => {
  /** Each row as its source and target, without padding. */
  async function rowsOf(set: Dataset, config: DataConfig, step: number) {
    const batch = await microBatch(set, { seed: 3, step, slot: 1 }, config, STEP);
    return Array.from({ length: STEP.microBatchSize }, (_, row) => ({
      source: batch.sourceIds.slice(
        row * batch.sourceLength,
        row * batch.sourceLength + batch.sourceLengths[row]!,
      ),
      target: batch.labels
        .slice(row * batch.targetLength, (row + 1) * batch.targetLength)
        .filter((id) => id !== 1),
    }));
  }

  it('hold whole pairs without noise, and cut what is too long, counted', async () => {
    const set = await dataset();
    const documents = (await collect(set.documents())).map(({ ids }) => [...ids]);
    for (const limits of [
      { sequenceLength: 400, targetLength: 300 },
      { sequenceLength: 30, targetLength: 12 },
    ]) {
      const config = { ...DATA, ...limits };
      const { sequenceLength, targetLength } = limits;
      const framed = documents.map((ids, index) =>
        index % 2 === 0
          ? [0, ...ids.slice(0, sequenceLength - 2), 2].join()
          : [...ids.slice(0, targetLength - 1), 2].join(),
      );
      for (const { source, target } of await rowsOf(set, config, 2)) {
        const pair = framed.indexOf(source.join());
        expect(framed[pair + 1]).toBe(target.join());
      }
      const over = (side: number, limit: number) =>
        documents.filter((ids, index) => index % 2 === side && ids.length > limit).length;
      const cuts = countCuts(set.documentLengths, config);
      expect(cuts).toEqual({ sources: over(0, sequenceLength - 2), targets: over(1, targetLength - 1) });
    }
    expect(
      countCuts(set.documentLengths, { ...DATA, sequenceLength: 30, targetLength: 12 }).targets,
    ).toBeGreaterThan(5);
  });

  it('are the same when they are fetched from afar, for training and for validation', async () => {
    const local = await dataset();
    const config = {
      ...DATA,
      sequenceLength: 30,
      targetLength: 20,
      targetSlots: 'random',
      validationShare: 0.3,
    } as const;
    const served = new ServedDataset(local.directory, local.sha256, config);
    const remote = await openRemoteDataset({
      source: served,
      place: 'http://elsewhere',
      sha256: local.sha256,
      cacheDir: temporaryFolder(),
      onCacheTrouble: (reason) => expect.fail(reason),
    });
    onTestFinished(async () => {
      remote.close();
      await served.close();
    });
    for (const key of [
      { seed: 1, step: 1, slot: 0 },
      { seed: 1, step: 9, slot: 3 },
    ]) {
      expect(await microBatch(remote, key, config, STEP)).toEqual(await microBatch(local, key, config, STEP));
    }
    const held = await validationBatch(local, 0, 4, 1, config);
    expect(await validationBatch(remote, 0, 4, 1, config)).toEqual(held);
  });
});
