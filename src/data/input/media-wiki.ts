/**
 * A MediaWiki XML export (schema 0.3 to 0.11), scanned by hand for `<page>` elements: the export escapes
 * `<` within text, so the tags cannot occur inside a page's own content. Of a page with
 * several revisions the last one counts. Memory is bounded by the largest page.
 * https://www.mediawiki.org/wiki/Help:Export
 */
import { LockstepError } from '../../base/index.ts';
import type { SourceRecord } from '../article.ts';
import { type ReaderContext, reportTruncation } from './byte-source.ts';

const PAGE_OPEN = '<page>';
const PAGE_CLOSE = '</page>';
const PAGE_BYTES_MAX = 256 * 1024 * 1024;
/** A dump names itself within this many bytes. */
const HEAD_BYTES = 64 * 1024;

/**
 * Yields main-namespace articles as wikitext, and a `dropped` record for every other page. Throws
 * DATA_CORRUPT when this is no dump, or when it ends inside a page and truncation is not allowed.
 * A dump that only lacks its closing tag is used whole, with a warning.
 */
export async function* readMediaWiki(
  chunks: AsyncIterable<Buffer>,
  context: ReaderContext,
): AsyncGenerator<SourceRecord> {
  let pending: Buffer = Buffer.alloc(0);
  /** Offset within the decompressed file of `pending[0]`. */
  let offset = 0;
  let searched = 0;
  let recognised = false;
  let pages = 0;

  for await (const chunk of chunks) {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    recognised ||= isDump(pending);
    if (!recognised) {
      if (pending.length >= HEAD_BYTES) throw notADump(context.file);
      continue;
    }
    let start = 0;
    for (;;) {
      const close = pending.indexOf(PAGE_CLOSE, Math.max(start, searched));
      if (close === -1) break;
      const open = pending.indexOf(PAGE_OPEN, start);
      if (open === -1 || open > close) throw strayClose(context.file, offset + close);
      pages += 1;
      yield parsePage(pending.toString('utf8', open, close));
      start = close + PAGE_CLOSE.length;
    }
    pending = pending.subarray(start);
    offset += start;
    searched = Math.max(0, pending.length - PAGE_CLOSE.length);
    if (pending.length > PAGE_BYTES_MAX) throw endlessPage(context.file, offset);
  }

  if (!recognised) throw notADump(context.file);
  const open = pending.indexOf(PAGE_OPEN);
  if (open !== -1) {
    reportTruncation(context, `page ${pages + 1} is cut inside; it begins`, offset + open);
  } else if (!pending.includes('</mediawiki>')) {
    const end = offset + pending.length;
    context.warn(
      `${context.file}: </mediawiki> is missing at the end (byte ${end}); all ${pages} pages are whole and used, but the dump may be a part`,
    );
  }
}

/** One page's record, from the XML between `<page>` and `</page>`. */
export function parsePage(xml: string): SourceRecord {
  const revision = xml.indexOf('<revision>');
  const head = revision === -1 ? xml : xml.slice(0, revision);
  const namespace = elementText(head, 'ns');
  if (namespace !== null && namespace !== '0') return { kind: 'dropped', reason: 'namespace' };
  const text = lastRevisionText(xml);
  // Exports before 0.6 do not mark redirects in the head.
  if (head.includes('<redirect') || /^\s*#redirect\b/i.test(text)) {
    return { kind: 'dropped', reason: 'redirect' };
  }
  const article = { id: elementText(head, 'id') ?? '', title: elementText(head, 'title') ?? '', text };
  return { kind: 'article', article };
}

function elementText(xml: string, name: string): string | null {
  const open = xml.indexOf(`<${name}>`);
  if (open === -1) return null;
  const start = open + name.length + 2;
  const close = xml.indexOf(`</${name}>`, start);
  return close === -1 ? null : unescapeXml(xml.slice(start, close));
}

function lastRevisionText(xml: string): string {
  const close = xml.lastIndexOf('</text>');
  const open = xml.lastIndexOf('<text');
  // An empty text is written `<text ... />`, and may follow a revision that has one.
  if (close === -1 || open > close) return '';
  return unescapeXml(xml.slice(xml.indexOf('>', open) + 1, close));
}

const XML_ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(
    /&(?:(lt|gt|amp|quot|apos)|#(\d{1,7})|#x([0-9a-fA-F]{1,6}));/g,
    (whole, name, decimal, hex) => {
      if (name !== undefined) return XML_ENTITIES[name]!;
      const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}

function isDump(head: Buffer): boolean {
  return head.includes('<mediawiki') || head.includes(PAGE_OPEN);
}

function notADump(file: string): LockstepError {
  return new LockstepError(
    'DATA_CORRUPT',
    `${file} is not a MediaWiki XML dump (no <mediawiki> in it): check the file, or name its --format (json-lines, text)`,
    { context: { file, offset: 0 } },
  );
}

function strayClose(file: string, offset: number): LockstepError {
  return new LockstepError(
    'DATA_CORRUPT',
    `${file}: </page> without <page> at byte ${offset}: the dump is damaged, fetch it again`,
    { context: { file, offset } },
  );
}

function endlessPage(file: string, offset: number): LockstepError {
  return new LockstepError(
    'DATA_CORRUPT',
    `${file}: no </page> within ${PAGE_BYTES_MAX} bytes after byte ${offset}: the dump is damaged, fetch it again`,
    { context: { file, offset } },
  );
}
