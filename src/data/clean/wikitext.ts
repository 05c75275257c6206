/**
 * Wikitext to plain paragraphs: wtf_wikipedia parses, leftovers.ts strips what it leaves. Kept are
 * paragraphs of prose, in order; headings, tables, infoboxes and back matter (references, links) go,
 * and so do list items that are no sentences. Depends on its input only: templates that read the clock
 * or the time zone are overridden, as one dump must always give the same text.
 */
import wtf from 'wtf_wikipedia';
import type { Article, DropReason } from '../article.ts';
import { normaliseLine, stripLeftovers } from './leftovers.ts';

export type CleanResult =
  | { readonly kind: 'article'; readonly paragraphs: readonly string[] }
  | { readonly kind: 'dropped'; readonly reason: DropReason };

/** The parts of wtf_wikipedia used here; its own declarations give `object | object[]` for most. */
interface WikiDocument {
  isRedirect(): boolean;
  sections(): readonly WikiSection[];
}
interface WikiSection {
  title(): string;
  depth(): number;
  paragraphs(): readonly { text(): string }[];
}
type TemplateTable = Record<string, unknown>;

const BACK_MATTER = new Set([
  'see also',
  'references',
  'external links',
  'further reading',
  'notes',
  'notes and references',
  'footnotes',
  'citations',
  'sources',
  'bibliography',
  'works cited',
  'gallery',
]);

/**
 * The parser's own test takes articles that "may also refer to" something for disambiguations (Asteroid);
 * the template that makes a page one is certain. `{{disambiguation needed}}` is none.
 */
const DISAMBIGUATION_TEMPLATE =
  /\{\{\s*(?:disamb|disambig|dab|hndis|geodis|(?:[a-z]+ )*disambiguation)\s*(?:\||\}\})/i;

const CLOCK_TEMPLATES =
  /^(?:current.*|local(?:day|month|year|time).*|monthyear.*|time|time ago|age\b.*|(?:birth|death) year and age)$/;
const SENTENCE_END = /[.!?]["'”’)\]]*$/;
const LIST_MARK = /^\s*(?:[*#:;•]|\d+\))+\s*/;

wtf.extend((_models: unknown, templates: TemplateTable) => {
  for (const name of Object.keys(templates)) {
    if (CLOCK_TEMPLATES.test(name)) templates[name] = () => '';
  }
  templates.year = (template: string) => /\b\d{4}\b/.exec(template)?.[0] ?? '';
});

/** The paragraphs of one article, or why it is left out. */
export function cleanWikitext(article: Article): CleanResult {
  let document: WikiDocument;
  try {
    // The parser skips long comments; and its declarations lack what WikiDocument names.
    const wikitext = article.text.replace(/<!--[\s\S]*?-->/g, '');
    document = wtf(wikitext, { title: article.title }) as unknown as WikiDocument;
    if (document.isRedirect()) return { kind: 'dropped', reason: 'redirect' };
    if (isDisambiguation(article)) return { kind: 'dropped', reason: 'disambiguation' };
    return { kind: 'article', paragraphs: paragraphsOf(document) };
  } catch {
    // A page the parser trips over is left out and counted under its own reason.
    return { kind: 'dropped', reason: 'unparsable' };
  }
}

/** The paragraphs of one article, whatever its markup, or why it is left out. */
export function cleanArticle(article: Article): CleanResult {
  if (article.markup === 'wikitext') return cleanWikitext(article);
  return { kind: 'article', paragraphs: cleanPlainText(article.text, article.markup) };
}

/** The paragraphs of text that never had markup: separated by blank lines, or one on each line. */
export function cleanPlainText(text: string, markup: 'paragraphs' | 'lines' = 'paragraphs'): string[] {
  return text
    .split(markup === 'lines' ? '\n' : /\r?\n\s*\n/)
    .map(normaliseLine)
    .filter((paragraph) => paragraph !== '');
}

function isDisambiguation({ title, text }: Article): boolean {
  return /\(disambiguation\)$/i.test(title) || DISAMBIGUATION_TEMPLATE.test(text);
}

function paragraphsOf(document: WikiDocument): string[] {
  const paragraphs: string[] = [];
  /** Depth of the back-matter section we are in; its subsections lie deeper. */
  let skippedDepth: number | null = null;
  for (const section of document.sections()) {
    const depth = section.depth();
    if (skippedDepth !== null && depth > skippedDepth) continue;
    skippedDepth = BACK_MATTER.has(section.title().trim().toLowerCase()) ? depth : null;
    if (skippedDepth !== null) continue;
    for (const paragraph of section.paragraphs()) paragraphs.push(...proseOf(paragraph.text()));
  }
  return paragraphs;
}

/** The running text of a parsed paragraph as one line, then each list item that is a sentence. */
function proseOf(text: string): string[] {
  const running: string[] = [];
  const items: string[] = [];
  for (const line of stripLeftovers(text).split('\n')) {
    const isItem = LIST_MARK.test(line);
    const clean = normaliseLine(isItem ? line.replace(LIST_MARK, '') : line);
    if (clean === '') continue;
    if (!isItem) running.push(clean);
    else if (SENTENCE_END.test(clean)) items.push(clean);
  }
  return running.length === 0 ? items : [running.join(' '), ...items];
}
