/** Inputs in units: whatever the division, every article once and in order; damage costs what it touches. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SourceRecord } from '../../../src/data/article.ts';
import { findInputs, type PlannedInput, planInput, recordsOfUnit } from '../../../src/data/input/index.ts';
import {
  collect,
  dumpXml,
  errorOf,
  type PageFixture,
  SHARED_DATA,
  temporaryFolder,
  writeInto,
} from '../../support/data-files.ts';
import { type Codec, parquetFile } from '../../support/parquet-file.ts';

const has = (program: string) => spawnSync(program, ['--help'], { stdio: 'ignore' }).error === undefined;
const bzip2 = (text: string | Buffer, level = '-1') =>
  spawnSync('bzip2', [level, '-c'], { input: text, maxBuffer: 1e9 }).stdout;

/** Text that does not compress well, so that an archive has several blocks of 100 kB. */
const noise = (seed: number, length: number) =>
  Array.from({ length: Math.ceil(length / 64) }, (_, index) =>
    createHash('sha256').update(`${seed} ${index}`).digest('hex'),
  )
    .join('')
    .slice(0, length);

const pagesOf = (lengths: readonly number[]): PageFixture[] =>
  lengths.map((length, index) => ({ title: `Page ${index}`, text: noise(index, length) }));

async function recordsIn(input: PlannedInput, allowTruncated = false) {
  const warnings: string[] = [];
  const records: SourceRecord[] = [];
  const context = { file: input.path, allowTruncated, warn: (message: string) => warnings.push(message) };
  const units = input.layout.kind === 'batches' ? [] : input.layout.units;
  for (const index of units.keys()) records.push(...(await collect(recordsOfUnit(input, index, context))));
  const titles = records.flatMap((record) => (record.kind === 'article' ? [record.article.title] : []));
  return { records, titles, warnings, units: units.length };
}

const plan = (path: string, unitBytes: number) => planInput(path, undefined, unitBytes, () => {});

describe('units of bytes', () => {
  it('own each page once, wherever the borders fall', async () => {
    const path = writeInto(temporaryFolder(), 'dump.xml', dumpXml(pagesOf([0, 1, 30, 700, 5, 90])));
    const whole = await recordsIn(await plan(path, 1e9));
    expect(whole.titles).toHaveLength(6);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 64, max: 3000 }), async (unitBytes) => {
        expect(await recordsIn(await plan(path, unitBytes))).toEqual({
          ...whole,
          units: expect.any(Number) as number,
        });
      }),
      { numRuns: 40 },
    );
  });

  it('own each JSON line once, wherever the borders fall', async () => {
    const lines = ['{"text":"a","title":"ä"}', '', '{"text":"b","title":"ö"}\r', '{"text":"c","title":"ü"}'];
    for (const end of ['', '\n']) {
      const path = writeInto(temporaryFolder(), 'a.jsonl', lines.join('\n') + end);
      for (let unitBytes = 1; unitBytes < 90; unitBytes += 1) {
        expect((await recordsIn(await plan(path, unitBytes))).titles).toEqual(['ä', 'ö', 'ü']);
      }
    }
  });

  it('leave out a page that never ends, and one that lost its beginning, when told to', async () => {
    const xml = dumpXml(pagesOf([100, 100, 100, 100]));
    const second = xml.indexOf('<page>', xml.indexOf('</page>'));
    const withoutEnd = xml.slice(0, second) + xml.slice(second).replace('</page>', '');
    const withoutBeginning = xml.slice(0, second) + xml.slice(second).replace('<page>', '');
    for (const [damaged, message] of [
      [withoutEnd, `a page never ends; it begins at byte ${second}`],
      [withoutBeginning, '</page> without <page> at byte'],
    ] as const) {
      const path = writeInto(temporaryFolder(), 'dump.xml', damaged);
      const error = await errorOf(async () => recordsIn(await plan(path, 1e9)));
      expect([error.code, error.message.includes(message)]).toEqual(['DATA_CORRUPT', true]);
      const lenient = await recordsIn(await plan(path, 1e9), true);
      expect(lenient.titles).toEqual(['Page 0', 'Page 2', 'Page 3']);
      expect(lenient.warnings).toHaveLength(1);
    }
  });

  it('take invalid characters out and read a page of 10 MB', async () => {
    const pages = [
      { title: 'Big', text: 'word '.repeat(2_000_000) },
      { title: 'Bad\u0001', text: 'x' },
    ];
    const bytes = Buffer.from(
      dumpXml(pages).replace('>x<', '>a&#0;b&#xFFFE;c\u0002d&#xD800;\xff<'),
      'latin1',
    );
    const path = writeInto(temporaryFolder(), 'dump.xml', bytes);
    const { records, titles } = await recordsIn(await plan(path, 1e6));
    expect(titles).toEqual(['Big', 'Bad\u0001']);
    const texts = records.map((record) => (record.kind === 'article' ? record.article.text : ''));
    expect(texts[0]).toHaveLength(10_000_000);
    expect(texts[1]).toBe('abc\u0002d\ufffd');
  });
});

describe.skipIf(!has('bzip2'))('units of bzip2 blocks (skipped where bzip2 is not installed)', () => {
  const lengths = Array.from({ length: 60 }, (_, index) => (index * 7919) % 30_000);
  const pages = pagesOf(lengths);
  const titles = pages.map(({ title }) => title);

  it('own each page once, in one stream or many, wherever the borders fall', async () => {
    const xml = dumpXml(pages);
    const middle = xml.indexOf('<page>', xml.length >> 1);
    const archives = {
      'one.xml.bz2': bzip2(xml),
      'two.xml.bz2': Buffer.concat([bzip2(xml.slice(0, middle)), bzip2(xml.slice(middle))]),
      'odd.xml.bz2': Buffer.concat([bzip2(xml.slice(0, middle + 50)), bzip2(xml.slice(middle + 50), '-9')]),
    };
    for (const [name, archive] of Object.entries(archives)) {
      const path = writeInto(temporaryFolder(), name, archive);
      for (const unitBytes of [1, 500_000, 1e9]) {
        const found = await recordsIn(await plan(path, unitBytes));
        expect([found.titles, found.warnings]).toEqual([titles, []]);
        if (unitBytes === 1) expect(found.units).toBeGreaterThan(4);
      }
    }
  });

  it('lose the pages that a damaged block touches, and name it', async () => {
    const archive = bzip2(dumpXml(pages));
    archive[archive.length >> 1]! ^= 0x10;
    const path = writeInto(temporaryFolder(), 'dump.xml.bz2', archive);
    const error = await errorOf(async () => recordsIn(await plan(path, 1)));
    expect(error.message).toMatch(
      /the bzip2 block at byte \d+ is cut short or damaged \(.*\): fetch the file/,
    );
    for (const unitBytes of [1, 1e9]) {
      const { titles: left, warnings, records } = await recordsIn(await plan(path, unitBytes), true);
      expect(warnings).toHaveLength(1);
      expect(warnings[0]).toMatch(/the articles that it touches are left out/);
      expect(left.length).toBeGreaterThan(40);
      expect(left.length).toBeLessThan(60);
      expect(titles.filter((title) => left.includes(title))).toEqual(left);
      expect(records.filter((record) => record.kind === 'dropped')).toEqual([
        { kind: 'dropped', reason: 'damaged' },
      ]);
    }
  });

  it('refuse a file that only bears the name', async () => {
    const path = writeInto(temporaryFolder(), 'dump.xml.bz2', 'this is not bzip2 at all');
    expect((await errorOf(() => plan(path, 1e6))).message).toContain('holds no bzip2 block');
  });

  it('are the streams of an index that lies beside the dump', async () => {
    const xml = dumpXml(pages);
    const starts = [...xml.matchAll(/ {2}<page>/g)].map(({ index }) => index);
    const cuts = [0, starts[0]!, starts[25]!, starts[50]!, xml.indexOf('</mediawiki>')];
    const streams = cuts.map((cut, index) => bzip2(xml.slice(cut, cuts[index + 1])));
    const offsets = streams.map((_, index) => Buffer.concat(streams.slice(0, index)).length);
    const index = pages
      .map((page, at) => `${offsets[1 + Math.floor(at / 25)]}:${at}:${page.title}\n`)
      .join('');
    const folder = temporaryFolder();
    const path = writeInto(folder, 'x-pages-articles-multistream.xml.bz2', Buffer.concat(streams));
    const indexPath = 'x-pages-articles-multistream-index.txt.bz2';
    writeInto(folder, indexPath, bzip2(index));
    const input = await plan(path, 1);
    expect(input.layout).toMatchObject({ kind: 'blocks', pages: 60 });
    expect(await recordsIn(input)).toMatchObject({ titles, warnings: [], units: 4 });
    writeInto(folder, indexPath, bzip2('999999999:1:Page\n'));
    const error = await errorOf(() => plan(path, 1));
    expect(error.message).toMatch(/index\.txt\.bz2: the line at byte 0 names no later place within the dump/);
  });

  const slice = join(SHARED_DATA, 'enwiki-2022-slice', 'testdata_en.bz2');
  it.skipIf(!existsSync(slice))('lose no page of a real dump (skipped: shared data are absent)', async () => {
    const xml = spawnSync('bzip2', ['-dc', slice], { maxBuffer: 1e9 }).stdout.toString();
    const { records } = await recordsIn(await plan(slice, 1e6));
    expect(records).toHaveLength(xml.split('<page>').length - 1);
  });
});

describe('other compression', () => {
  it.each([
    ['gzip', '.gz', ['gzip', '-c']],
    ['xz', '.xz', ['xz', '-c']],
    ['zstd', '.zst', ['zstd', '-qc']],
  ] as const)('%s is read from its beginning, in batches', async (program, suffix, [command, ...args]) => {
    if (!has(program)) return;
    const archive = spawnSync(command, args, { input: dumpXml(pagesOf([10, 20])), maxBuffer: 1e9 }).stdout;
    const path = writeInto(temporaryFolder(), `dump.xml${suffix}`, archive);
    expect((await plan(path, 100)).layout).toEqual({ kind: 'batches' });
  });
});

describe('parquet', () => {
  const rows = Array.from({ length: 25 }, (_, index) => ({
    id: String(index),
    url: 'u',
    title: `Title ${index}`,
    text: `Text ${index}.\n\n${noise(index, 200)}`,
  }));
  const codecs: Codec[] = has('zstd') ? ['none', 'snappy', 'zstd'] : ['none', 'snappy'];

  it.each(codecs)('compressed with %s is read by ranges of rows', async (codec) => {
    const file = parquetFile(['id', 'url', 'title', 'text'], rows, { codec, groupRows: 10 });
    const path = writeInto(temporaryFolder(), 'wiki.parquet', file);
    for (const unitBytes of [500, 1e9]) {
      const { records, units } = await recordsIn(await plan(path, unitBytes));
      expect(records).toEqual(
        rows.map(({ id, title, text }) => ({
          kind: 'article',
          article: { id, title, text, markup: 'paragraphs' },
        })),
      );
      expect(units).toBeGreaterThanOrEqual(unitBytes === 500 ? 10 : 3);
    }
  });

  it('is refused without a column of text, cut short, or with damaged pages', async () => {
    const folder = temporaryFolder();
    const without = writeInto(folder, 'a.parquet', parquetFile(['id', 'title'], rows));
    expect((await errorOf(() => plan(without, 1e6))).message).toContain(
      'has no column "text" (it has id, title)',
    );
    const whole = parquetFile(['id', 'title', 'text'], rows, { codec: 'snappy' });
    const cut = writeInto(folder, 'b.parquet', whole.subarray(0, 2000));
    expect((await errorOf(() => plan(cut, 1e6))).message).toContain('is not a whole parquet file');
    whole.fill(0xff, 1000, 2000);
    const damaged = writeInto(folder, 'c.parquet', whole);
    const error = await errorOf(async () => recordsIn(await plan(damaged, 1e6)));
    expect([error.code, error.message]).toEqual([
      'DATA_CORRUPT',
      expect.stringContaining('rows 0 to 24 cannot be read'),
    ]);
  });
});

describe('dialects of JSON lines', () => {
  it('are told apart by their members', async () => {
    const lines = [
      { name: 'E', identifier: 7, namespace: { identifier: 0 }, article_body: { wikitext: "'''E'''" } },
      { name: 'Talk:E', identifier: 8, namespace: { identifier: 1 }, article_body: { wikitext: 'x' } },
      { id: '9', revid: '1', url: 'u', title: 'W', text: 'One.\nTwo.' },
      { title: 'P', text: 'Plain.' },
    ];
    const text = lines.map((line) => JSON.stringify(line)).join('\n');
    const { records } = await recordsIn(await plan(writeInto(temporaryFolder(), 'a.ndjson', text), 1e6));
    const offset = String(Buffer.byteLength(text.slice(0, text.lastIndexOf('{"title":"P"'))));
    expect(records).toEqual([
      { kind: 'article', article: { id: '7', title: 'E', text: "'''E'''", markup: 'wikitext' } },
      { kind: 'dropped', reason: 'namespace' },
      { kind: 'article', article: { id: '9', title: 'W', text: 'One.\nTwo.', markup: 'lines' } },
      { kind: 'article', article: { id: offset, title: 'P', text: 'Plain.', markup: 'paragraphs' } },
    ]);
  });
});

describe('findInputs', () => {
  it('finds what a folder and a glob stand for, in one order everywhere', async () => {
    const folder = temporaryFolder();
    for (const sub of ['AA', 'AB']) {
      mkdirSync(join(folder, sub));
      for (const name of ['wiki_01', 'wiki_00', 'b.jsonl', '.hidden.jsonl', 'sha1sums.txt', 'notes.md'])
        writeInto(join(folder, sub), name, '');
    }
    const under = (names: readonly string[]) => names.map((name) => join(folder, name));
    const ofFolder = ['AA/b.jsonl', 'AA/wiki_00', 'AA/wiki_01', 'AB/b.jsonl', 'AB/wiki_00', 'AB/wiki_01'];
    expect(findInputs(folder)).toEqual(under(ofFolder));
    expect(findInputs(join(folder, '*/wiki_0[1-9]'))).toEqual(under(['AA/wiki_01', 'AB/wiki_01']));
    expect(findInputs(join(folder, '**/b.json?'))).toEqual(under(['AA/b.jsonl', 'AB/b.jsonl']));
    expect(findInputs(join(folder, 'absent.xml'))).toEqual(under(['absent.xml']));
    expect((await errorOf(() => findInputs(join(folder, '*.parquet')))).message).toContain('matches no file');
    mkdirSync(join(folder, 'empty'));
    expect((await errorOf(() => findInputs(join(folder, 'empty')))).message).toContain('holds no file');
  });
});
