/**
 * A MediaWiki XML export (schema 0.3 to 0.11), scanned by hand for `<page>` elements: the export escapes
 * `<` within text, so the tags cannot occur inside a page's own content. Of a page with
 * several revisions the last one counts. Works on a whole dump or a range of one; memory is bounded by the
 * largest page. Bytes that are no UTF-8 become U+FFFD, and references to characters that XML forbids go.
 * https://www.mediawiki.org/wiki/Help:Export
 */
import { LockstepError } from '../../base/index.ts';
import type { SourceRecord } from '../article.ts';
import { type ReaderContext, reportDamage, reportTruncation } from './byte-source.ts';
import type { Piece } from './pieces.ts';

const PAGE_OPEN = '<page>';
const PAGE_CLOSE = '</page>';
const DUMP_CLOSE = '</mediawiki>';
/** MediaWiki itself takes no page of more than 2 MiB. */
const PAGE_BYTES_MAX = 64 * 1024 * 1024;
/** A dump names itself within this many bytes. */
const HEAD_BYTES = 64 * 1024;

/**
 * Yields main-namespace articles as wikitext, and a `dropped` record for every other page, of those that begin in
 * the owned pieces. Throws DATA_CORRUPT when this is no dump, or when it is cut or damaged and the context
 * does not allow that. A dump that only lacks its closing tag is used whole, with a warning.
 */
export async function* readMediaWiki(
  pieces: AsyncIterable<Piece>,
  context: ReaderContext,
  isStart = true,
): AsyncGenerator<SourceRecord> {
  const scan = new PageScan(context, isStart);
  for await (const piece of pieces) {
    yield* piece.kind === 'gap' ? scan.gap() : scan.take(piece);
    if (scan.isDone) return;
  }
  yield* scan.end();
}

/** The scanner's state between two pieces. */
class PageScan {
  readonly #context: ReaderContext;
  #pending: Buffer = Buffer.alloc(0);
  /** Offset of `#pending[0]` in the bytes taken so far. */
  #offset = 0;
  /** How far `#pending` is known to hold no `</page>`. */
  #searched = 0;
  /** In the bytes taken: where those of other ranges begin. */
  #ownedEnd: number | null = null;
  #recognised: boolean;
  /** Within a page that another range owns, or that a gap has cut: on to the next `<page>`. */
  #seeking: boolean;
  /** Names of places: the last piece that begins at or before an offset tells it. */
  #marks: { readonly at: number; readonly offset: number; readonly within: string }[] = [];
  #isClosed = false;
  isDone = false;

  constructor(context: ReaderContext, isStart: boolean) {
    this.#context = context;
    this.#recognised = !isStart;
    this.#seeking = !isStart;
  }

  *take(piece: Piece & { readonly kind: 'bytes' }): Generator<SourceRecord> {
    const end = this.#offset + this.#pending.length;
    if (!piece.owned) this.#ownedEnd ??= end;
    this.#marks = this.#marks.filter((_, index, all) => (all[index + 1]?.at ?? end) > this.#offset);
    this.#marks.push({ at: end, offset: piece.offset, within: piece.within });
    this.#pending = this.#pending.length === 0 ? piece.bytes : Buffer.concat([this.#pending, piece.bytes]);
    this.#recognised ||= this.#pending.includes('<mediawiki') || this.#pending.includes(PAGE_OPEN);
    if (this.#recognised) yield* this.#pages();
    else if (this.#pending.length >= HEAD_BYTES) throw notADump(this.#context.file);
  }

  *gap(): Generator<SourceRecord> {
    yield* this.#cutPage();
    this.#offset += this.#pending.length;
    this.#pending = Buffer.alloc(0);
    this.#searched = 0;
    this.#recognised = true;
    this.#seeking = true;
  }

  *end(): Generator<SourceRecord> {
    if (!this.#recognised) throw notADump(this.#context.file);
    const open = this.#pending.indexOf(PAGE_OPEN);
    if (open !== -1 && this.#owns(open)) {
      const { offset, within } = this.#placeOf(open);
      reportTruncation(this.#context, 'a page is cut inside; it begins', offset, within);
      yield { kind: 'dropped', reason: 'damaged' };
    } else if (this.#ownedEnd === null && !this.#isClosed) {
      const { offset, within } = this.#placeOf(this.#pending.length);
      this.#context.warn(
        `${this.#context.file}: </mediawiki> is missing at the end (byte ${offset}${within}); all pages before it are whole and used, but the dump may be a part`,
      );
    }
  }

  *#pages(): Generator<SourceRecord> {
    let start = 0;
    for (;;) {
      const open = this.#pending.indexOf(PAGE_OPEN, start);
      this.#checkBetween(start, open);
      if (open === -1) {
        this.#isClosed ||= this.#pending.includes(DUMP_CLOSE, start);
        // The last bytes may be the first of a tag.
        start = Math.max(start, this.#pending.length - DUMP_CLOSE.length);
        this.isDone = this.#ownedEnd !== null && this.#offset + start >= this.#ownedEnd;
        break;
      }
      this.isDone = !this.#owns(open);
      if (this.isDone) return;
      this.#seeking = false;
      start = open;
      const close = this.#pending.indexOf(PAGE_CLOSE, Math.max(open, this.#searched));
      if (close === -1) break;
      const next = this.#pending.indexOf(PAGE_OPEN, open + 1);
      if (next !== -1 && next < close) {
        this.#report(open, 'a page never ends; it begins');
        yield { kind: 'dropped', reason: 'damaged' };
        start = next;
        continue;
      }
      yield parsePage(this.#pending.toString('utf8', open, close));
      start = close + PAGE_CLOSE.length;
    }
    this.#pending = this.#pending.subarray(start);
    this.#offset += start;
    this.#searched = Math.max(0, this.#pending.length - PAGE_CLOSE.length);
    if (this.#pending.length > PAGE_BYTES_MAX) yield* this.#endlessPage();
  }

  /** Nothing but white space and the dump's head lies between pages; an end without a beginning is damage. */
  #checkBetween(start: number, open: number): void {
    if (this.#seeking) return;
    const close = this.#pending.subarray(start, open === -1 ? undefined : open).indexOf(PAGE_CLOSE);
    if (close !== -1) this.#report(start + close, '</page> without <page>');
    // Said once: what follows belongs to the same page.
    this.#seeking ||= close !== -1;
  }

  *#endlessPage(): Generator<SourceRecord> {
    this.#report(0, `no </page> within ${PAGE_BYTES_MAX} bytes after the page that begins`);
    yield* this.gap();
  }

  *#cutPage(): Generator<SourceRecord> {
    const open = this.#pending.indexOf(PAGE_OPEN);
    if (open !== -1 && this.#owns(open)) yield { kind: 'dropped', reason: 'damaged' };
  }

  #owns(position: number): boolean {
    return this.#ownedEnd === null || this.#offset + position < this.#ownedEnd;
  }

  #report(position: number, what: string): void {
    const { offset, within } = this.#placeOf(position);
    reportDamage(this.#context, `${what} at byte ${offset}${within}`, offset, true);
  }

  #placeOf(position: number): { readonly offset: number; readonly within: string } {
    const at = this.#offset + position;
    const mark = this.#marks.findLast((found) => found.at <= at) ?? { at: 0, offset: 0, within: '' };
    return { offset: mark.offset + at - mark.at, within: mark.within };
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
  return { kind: 'article', article: { ...article, markup: 'wikitext' } };
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
    (_, name, decimal, hex) => {
      if (name !== undefined) return XML_ENTITIES[name]!;
      const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
      return isXmlCharacter(code) ? String.fromCodePoint(code) : '';
    },
  );
}

/** https://www.w3.org/TR/xml/#charsets */
function isXmlCharacter(code: number): boolean {
  if (code < 0x20) return code === 0x9 || code === 0xa || code === 0xd;
  return code < 0xd800 || (code >= 0xe000 && code <= 0x10ffff && code !== 0xfffe && code !== 0xffff);
}

function notADump(file: string): LockstepError {
  return new LockstepError(
    'DATA_CORRUPT',
    `${file} is not a MediaWiki XML dump (no <mediawiki> in it): check the file, or name its --format (json-lines, text)`,
    { context: { file, offset: 0 } },
  );
}
