/**
 * Wikitext to plain paragraphs: blocks.ts takes out what is no text, wtf_wikipedia parses the rest, leftovers.ts strips
 * what it leaves. Kept are paragraphs of prose, in order; headings go, and unless asked for so do tables, formulas,
 * references and list items that are no sentences. Depends on its input only: templates that read the clock
 * or the time zone are overridden, as one dump must always give the same text.
 */
import wtf from 'wtf_wikipedia';
import type { Article, DropReason } from '../article.ts';
import { FORMULA_MARK, type Keep, stripBlocks } from './blocks.ts';
import { chunksOf } from './braces.ts';
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
  paragraphs(): readonly { text(): string }[];
}
type TemplateTable = Record<string, unknown>;

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

export const KEEP_NONE: Keep = new Set();

/** The paragraphs of one article, or why it is left out. */
export function cleanWikitext(article: Article, keep: Keep = KEEP_NONE): CleanResult {
  try {
    if (isDisambiguation(article)) return { kind: 'dropped', reason: 'disambiguation' };
    const { text, references, formulas } = stripBlocks(article.text, keep);
    const [first = '', ...rest] = chunksOf(text);
    const document = parse(first, article.title);
    if (document.isRedirect()) return { kind: 'dropped', reason: 'redirect' };
    const paragraphs = paragraphsOf(document, keep);
    for (const chunk of rest) paragraphs.push(...paragraphsOf(parse(chunk, article.title), keep));
    for (const reference of references) {
      paragraphs.push(...paragraphsOf(parse(spellOutCitation(reference), article.title), keep));
    }
    return {
      kind: 'article',
      paragraphs: paragraphs.map((paragraph) => withFormulas(paragraph, formulas)),
    };
  } catch {
    // A page the parser trips over is left out and counted under its own reason.
    return { kind: 'dropped', reason: 'unparsable' };
  }
}

function parse(wikitext: string, title: string): WikiDocument {
  // Its declarations lack what WikiDocument names.
  return wtf(wikitext, { title }) as unknown as WikiDocument;
}

const CITED = ['last', 'author', 'title', 'work', 'journal', 'website', 'publisher', 'date', 'year'];

/** The template of a citation as a sentence; free text stays. */
function spellOutCitation(reference: string): string {
  return reference.replace(/\{\{\s*(?:cite\b|citation)[^{}]*\}\}/gi, (template) => {
    const fields = CITED.map((name) =>
      new RegExp(`\\|\\s*${name}1?\\s*=([^|}]*)`, 'i').exec(template)?.[1]?.trim(),
    );
    return `${fields.filter((field) => field !== undefined && field !== '').join(', ')}.`;
  });
}

/** Formulas back in their places, spaced so that their braces are not taken for markup. */
function withFormulas(paragraph: string, formulas: readonly string[]): string {
  if (formulas.length === 0) return paragraph;
  return paragraph.replace(FORMULA_MARK, (_, index: string) =>
    normaliseLine(formulas[Number(index)] ?? '').replace(/([{[])(?=[{[|])|'(?=')/g, '$& '),
  );
}

/** The paragraphs of one article, whatever its markup, or why it is left out. */
export function cleanArticle(article: Article, keep: Keep = KEEP_NONE): CleanResult {
  if (article.markup === 'wikitext') return cleanWikitext(article, keep);
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

function paragraphsOf(document: WikiDocument, keep: Keep): string[] {
  return document
    .sections()
    .flatMap((section) => section.paragraphs())
    .flatMap((paragraph) => proseOf(paragraph.text(), keep));
}

/** The running text of a parsed paragraph as one line, then each list item that is a sentence, or is kept. */
function proseOf(text: string, keep: Keep): string[] {
  const running: string[] = [];
  const items: string[] = [];
  for (const line of stripLeftovers(text).split('\n')) {
    const isItem = LIST_MARK.test(line);
    const clean = normaliseLine(isItem ? line.replace(LIST_MARK, '') : line);
    if (clean === '') continue;
    if (!isItem) running.push(clean);
    else if (keep.has('lists') || SENTENCE_END.test(clean)) items.push(clean);
  }
  return running.length === 0 ? items : [running.join(' '), ...items];
}
