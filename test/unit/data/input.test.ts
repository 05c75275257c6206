import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatOf, type InputFormat, recordsOfWhole } from '../../../src/data/input/index.ts';
import { parsePage, readMediaWiki } from '../../../src/data/input/media-wiki.ts';
import { piecesOfStream } from '../../../src/data/input/pieces.ts';
import {
  chunked,
  collect,
  dumpXml,
  errorOf,
  pageXml,
  temporaryFolder,
  writeInto,
} from '../../support/data-files.ts';

const PAGES = [
  { title: 'AT&T', text: "A '''company''' with <ref>x</ref> &nbsp; and é.\n\nSecond." },
  { title: 'Talk:AT&T', text: 'Chatter', namespace: 1 },
  { title: 'ATT', text: '#REDIRECT [[AT&T]]', redirect: 'AT&T' },
  { title: 'Zebra', text: 'Striped.' },
];

async function read(path: string, format: InputFormat, allowTruncated = false) {
  const warnings: string[] = [];
  const context = { file: path, allowTruncated, warn: (message: string) => warnings.push(message) };
  const source = recordsOfWhole(context, format);
  const records = await collect(source.records);
  const articles = records.flatMap((record) => (record.kind === 'article' ? [record.article] : []));
  return { records, articles, warnings, source };
}

describe('MediaWiki dumps', () => {
  it('gives main-namespace articles with entities decoded once, and counts the rest by reason', async () => {
    const { records, warnings, source } = await read(
      writeInto(temporaryFolder(), 'dump.xml', dumpXml(PAGES)),
      'mediawiki',
    );
    expect(records).toEqual([
      { kind: 'article', article: { id: '1', title: 'AT&T', text: PAGES[0]!.text, markup: 'wikitext' } },
      { kind: 'dropped', reason: 'namespace' },
      { kind: 'dropped', reason: 'redirect' },
      { kind: 'article', article: { id: '4', title: 'Zebra', text: 'Striped.', markup: 'wikitext' } },
    ]);
    expect(warnings).toEqual([]);
    expect(source.bytes.bytesRead).toBe(Buffer.byteLength(dumpXml(PAGES)));
  });

  it.each([1, 2, 3, 7, 64, 100_000])('reads the same in chunks of %i bytes', async (size) => {
    const context = { file: 'dump.xml', allowTruncated: false, warn: () => {} };
    const bytes = Buffer.from(dumpXml(PAGES));
    const whole = await collect(readMediaWiki(piecesOfStream(chunked(bytes, bytes.length)), context));
    expect(await collect(readMediaWiki(piecesOfStream(chunked(bytes, size)), context))).toEqual(whole);
  });

  it('takes the last revision, an empty one too', () => {
    const revisions = (last: string) =>
      `<page><title>T</title><ns>0</ns><id>1</id><revision><text>old</text></revision><revision>${last}</revision>`;
    const textOf = (xml: string) => {
      const record = parsePage(xml);
      return record.kind === 'article' ? record.article.text : null;
    };
    expect(textOf(revisions('<text bytes="3">new</text>'))).toBe('new');
    expect(textOf(revisions('<text bytes="0" />'))).toBe('');
  });

  it('uses a dump that lacks only its closing tag, and says so', async () => {
    const cut = dumpXml(PAGES).replace('</mediawiki>\n', '');
    const { records, warnings } = await read(writeInto(temporaryFolder(), 'dump.xml', cut), 'mediawiki');
    expect(records).toHaveLength(4);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(`</mediawiki> is missing at the end (byte ${Buffer.byteLength(cut)})`);
  });

  it('refuses a dump cut inside a page, naming the byte, unless told to use what is whole', async () => {
    const xml = dumpXml(PAGES);
    const lastPage = Buffer.from(xml).lastIndexOf('<page>');
    const path = writeInto(temporaryFolder(), 'dump.xml', Buffer.from(xml).subarray(0, lastPage + 120));
    const error = await errorOf(() => read(path, 'mediawiki'));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toContain(`${path}: a page is cut inside; it begins at byte ${lastPage}`);
    expect(error.message).toContain('--allow-truncated');
    const { articles, records, warnings } = await read(path, 'mediawiki', true);
    expect(articles).toHaveLength(1);
    expect(records.at(-1)).toEqual({ kind: 'dropped', reason: 'damaged' });
    expect(records).toHaveLength(4);
    expect(warnings[0]).toContain(`at byte ${lastPage}`);
  });

  it('refuses what is no dump', async () => {
    const path = writeInto(temporaryFolder(), 'dump.xml', '<html>no wiki</html>');
    expect((await errorOf(() => read(path, 'mediawiki'))).message).toContain('is not a MediaWiki XML dump');
    const stray = writeInto(temporaryFolder(), 'dump.xml', '<mediawiki></page>');
    expect((await errorOf(() => read(stray, 'mediawiki'))).message).toContain(
      '</page> without <page> at byte 11',
    );
  });

  it('names an input that is absent or a folder', async () => {
    const folder = temporaryFolder();
    const absent = await errorOf(() => read(join(folder, 'no.xml'), 'mediawiki'));
    expect([absent.code, absent.message.includes('does not exist')]).toEqual(['DATA_MISSING', true]);
    expect((await errorOf(() => read(folder, 'mediawiki'))).message).toContain('is not a file');
  });
});

const hasBzip2 = spawnSync('bzip2', ['--help'], { stdio: 'ignore' }).error === undefined;

describe.skipIf(!hasBzip2)('bzip2 (skipped where bzip2 is not installed)', () => {
  /** Noise from a counter, so that the archive has several blocks of 100 kB. */
  const many = Array.from({ length: 400 }, (_, index) => ({
    title: `Page ${index}`,
    text:
      createHash('sha512').update(String(index)).digest('hex').repeat(2) +
      createHash('sha512').update(`b${index}`).digest('hex').repeat(3),
  }));
  const compress = (text: string) => spawnSync('bzip2', ['-1', '-c'], { input: text }).stdout;

  it('reads through it', async () => {
    const path = writeInto(temporaryFolder(), 'dump.xml.bz2', compress(dumpXml(many)));
    const { articles, warnings, source } = await read(path, 'mediawiki');
    expect(articles.map(({ title }) => title)).toEqual(many.map(({ title }) => title));
    expect(warnings).toEqual([]);
    expect(source.bytes.bytesRead).toBe(readFileSync(path).length);
  });

  it('refuses an archive cut within a block, and uses the whole pages when told to', async () => {
    const archive = compress(dumpXml(many));
    const path = writeInto(
      temporaryFolder(),
      'dump.xml.bz2',
      archive.subarray(0, Math.floor(archive.length * 0.8)),
    );
    const error = await errorOf(() => read(path, 'mediawiki'));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toMatch(/dump\.xml\.bz2: bz2 data are cut short or damaged.* at byte \d+: fetch/);
    const { articles, warnings } = await read(path, 'mediawiki', true);
    expect(articles.length).toBeGreaterThan(50);
    expect(articles.length).toBeLessThan(400);
    expect(articles.every(({ text }, index) => text === many[index]!.text)).toBe(true);
    expect(warnings.some((warning) => warning.includes('cut short'))).toBe(true);
  });

  it('refuses a file that only bears the name', async () => {
    const path = writeInto(temporaryFolder(), 'dump.xml.bz2', 'this is not bzip2 at all');
    expect((await errorOf(() => read(path, 'mediawiki'))).code).toBe('DATA_CORRUPT');
  });

  it('can be abandoned midway', async () => {
    const path = writeInto(temporaryFolder(), 'dump.xml.bz2', compress(dumpXml(many)));
    const { records } = recordsOfWhole({ file: path, allowTruncated: false, warn: () => {} }, 'mediawiki');
    await records.next();
    await records.return(undefined);
  });
});

describe('JSON lines', () => {
  it('takes text, title and id, and skips blank lines and a byte order mark', async () => {
    const text = '\ufeff{"id":7,"title":"A","text":"x\\ny","url":"u"}\r\n\n{"text":"z"}';
    const offset = Buffer.byteLength(text.slice(0, text.lastIndexOf('{')));
    const { articles } = await read(writeInto(temporaryFolder(), 'a.jsonl', text), 'json-lines');
    expect(articles).toEqual([
      { id: '7', title: 'A', text: 'x\ny', markup: 'paragraphs' },
      { id: String(offset), title: '', text: 'z', markup: 'paragraphs' },
    ]);
  });

  it.each([
    ['{"text":"a"}\n{"txt":"b"}\n', 'the line at byte 13 has neither a string member "text"'],
    ['{"text":"a"}\nnope\n{"text":"b"}\n', 'the line at byte 13 is not JSON'],
    ['{"text":"a"}\n{"text":"b', 'the last line is cut short; it begins at byte 13'],
  ])('names the line and byte of %j', async (text, message) => {
    const path = writeInto(temporaryFolder(), 'a.jsonl', text);
    const error = await errorOf(() => read(path, 'json-lines'));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toContain(message);
  });

  it('leaves out a last line that was cut when told to', async () => {
    const path = writeInto(temporaryFolder(), 'a.jsonl', '{"text":"a"}\n{"text":"b');
    const { articles, warnings } = await read(path, 'json-lines', true);
    expect(articles).toHaveLength(1);
    expect(warnings).toHaveLength(1);
  });

  it('names a line that is not UTF-8', async () => {
    const path = writeInto(temporaryFolder(), 'a.jsonl', Buffer.from([0x7b, 0x7d, 0x0a, 0xff, 0xfe, 0x0a]));
    const error = await errorOf(() => read(path, 'text'));
    expect(error.message).toContain('the line at byte 3 is not UTF-8');
  });
});

describe('plain text', () => {
  it('ends documents at two blank lines', async () => {
    const path = writeInto(temporaryFolder(), 'a.txt', 'One\nline.\n\nTwo.\n\n\nThree.\n');
    const { articles } = await read(path, 'text');
    expect(articles.map(({ text }) => text)).toEqual(['One line.\n\nTwo.', 'Three.']);
  });

  it('reads WikiText headings: titles open documents, sections are dropped, lines are paragraphs', async () => {
    const text =
      ' \n = First = \n \n Alpha .\n Beta .\n \n \n = = Section = = \n \n Gamma .\n = Second = \n \n Delta .\n';
    const { articles } = await read(writeInto(temporaryFolder(), 'a.txt', text), 'text');
    expect(articles).toEqual([
      { id: '1', title: 'First', text: 'Alpha .\n\nBeta .\n\nGamma .', markup: 'paragraphs' },
      { id: '2', title: 'Second', text: 'Delta .', markup: 'paragraphs' },
    ]);
  });
});

describe('formatOf', () => {
  it('goes by the extension, a compression left aside', async () => {
    const names = ['a.xml', 'a.xml.bz2', 'a.xml.zst', 'b.jsonl', 'b.ndjson.tar.gz', 'c.TXT', 'd.parquet'];
    expect(await Promise.all(names.map(formatOf))).toEqual([
      ...['mediawiki', 'mediawiki', 'mediawiki', 'json-lines', 'json-lines', 'text', 'parquet'],
    ]);
  });

  it('goes by the content where the name tells nothing', async () => {
    const folder = temporaryFolder();
    const formats = [dumpXml(PAGES), '{"text": "a"}\n', 'PAR1....'].map((content, index) =>
      formatOf(writeInto(folder, `wiki_0${index}`, content)),
    );
    expect(await Promise.all(formats)).toEqual(['mediawiki', 'json-lines', 'parquet']);
    expect((await errorOf(() => formatOf(writeInto(folder, 'other', 'hello')))).message).toContain(
      'pass --format',
    );
  });
});

it('pageXml fixtures are what parsePage reads', () => {
  expect(parsePage(pageXml({ title: 'T', text: '<x>' }, 3))).toEqual({
    kind: 'article',
    article: { id: '3', title: 'T', text: '<x>', markup: 'wikitext' },
  });
});
