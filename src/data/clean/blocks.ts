/**
 * Takes out of wikitext, before it is parsed, whole blocks that hold no running text: comments, references, tables,
 * formulas, galleries, templates of data and back matter. Half of an article is such; and what is kept on request
 * (tables, formulas, references) is put into words here. Linear in the length of the text, whatever is left open.
 */
import { matchBraces } from './braces.ts';

export const KEEPABLE = ['lists', 'tables', 'math', 'references'] as const;
/**
 * What cleaning may keep: `lists`, items that are no sentences too; `tables`, a line for each row; `math`, formulas as
 * TeX; `references`, their texts after the article's.
 */
export type Keepable = (typeof KEEPABLE)[number];
export type Keep = ReadonlySet<Keepable>;

export interface Stripped {
  readonly text: string;
  /** Wikitext of the references, in order. */
  readonly references: readonly string[];
  /** Formulas; the text has `formulaMark(index)` in their places. */
  readonly formulas: readonly string[];
}

/** A private character on either side: no parser takes this for markup, and no article has it. */
export const FORMULA_MARK = /\ue000(\d+)\ue001/g;
const formulaMark = (index: number): string => `\ue000${index}\ue001`;

const BACK_MATTER = new Set([
  ...['see also', 'references', 'external links', 'further reading', 'notes', 'notes and references'],
  ...['footnotes', 'citations', 'sources', 'bibliography', 'works cited', 'gallery'],
]);

/** Templates of data, notices and citations: their texts are no part of the article's. */
const DATA_TEMPLATE =
  /^(?:infobox|navbox|taxobox|speciesbox|chembox|drugbox|starbox|geobox|sidebar|succession box|cite|citation|sfn|efn|refn|harvnb|reflist|notelist|short description|use [a-z]+ (?:dates|english)|pp-|about|for|other uses|redirect|hatnote|main|see also|further|authority control|portal|commons|wikiquote|coord|defaultsort|good article|featured article|efn|clear|toc)(?:[ \-_:|]|$)/;

const HEADING = /^(={2,6})[ \t]*(.+?)[ \t]*\1[ \t]*$/gm;
const BLOCK_START =
  /<ref(?=[\s/>])|<(math|chem|gallery|timeline|syntaxhighlight|score|imagemap|graph|mapframe)(?=[\s>])|\{\{|^[ \t:]*\{\|/gim;

/** A number or a name within a sentence, which would be lame without it. */
const PLAIN_FORMULA = /^\s*[\w.,+\-=/() ]{1,20}\s*$/;

/** Removes blocks, or puts what is to be kept into their places. */
export function stripBlocks(wikitext: string, keep: Keep): Stripped {
  const text = withoutBackMatter(withoutTags(withoutComments(wikitext)));
  const { closes } = matchBraces(text);
  const finder = new CloseFinder(text);
  const references: string[] = [];
  const formulas: string[] = [];
  const kept: string[] = [];
  let from = 0;
  BLOCK_START.lastIndex = 0;
  for (let match = BLOCK_START.exec(text); match !== null; match = BLOCK_START.exec(text)) {
    const start = match.index + (match[0].length - match[0].trimStart().length);
    const block = blockAt(start, match[0].trim(), match[1]);
    if (block === null) continue;
    kept.push(text.slice(from, match.index), block.instead);
    from = block.end;
    BLOCK_START.lastIndex = block.end;
  }
  kept.push(text.slice(from));
  return { text: kept.join(''), references, formulas };

  /** The end of the block that begins here and what stands in its place; null for what is left to the parser. */
  function blockAt(
    start: number,
    sign: string,
    tag: string | undefined,
  ): { readonly end: number; readonly instead: string } | null {
    if (sign === '{{') {
      const end = closes.get(start);
      if (end === undefined || !DATA_TEMPLATE.test(templateName(text, start))) return null;
      return { end, instead: '' };
    }
    if (sign.endsWith('{|')) {
      const end = closes.get(text.indexOf('{|', start));
      if (end === undefined) return null;
      return { end, instead: keep.has('tables') ? rowsOf(text.slice(start, end)) : '' };
    }
    const open = text.indexOf('>', start);
    if (open === -1) return null;
    if (text[open - 1] === '/') return { end: open + 1, instead: '' };
    const name = tag?.toLowerCase() ?? 'ref';
    const close = finder.find(name, open);
    if (close === null) return null;
    const inside = text.slice(open + 1, close.start);
    // One that was never closed reaches into the next: only its tag goes.
    if (name === 'ref' && /<ref(?=[\s>])[^<>]*[^/<>]>/i.test(inside)) return { end: open + 1, instead: '' };
    if (name === 'ref' && keep.has('references')) references.push(inside);
    if (name === 'math' || name === 'chem') {
      if (PLAIN_FORMULA.test(inside)) return { end: close.end, instead: inside.trim() };
      if (keep.has('math')) {
        formulas.push(inside);
        return { end: close.end, instead: formulaMark(formulas.length - 1) };
      }
    }
    return { end: close.end, instead: '' };
  }
}

function withoutComments(text: string): string {
  return text.includes('<!--') ? text.replace(/<!--[\s\S]*?(?:-->|$)/g, '') : text;
}

/**
 * Tags that only change how text looks go, and so do what is longer than any word and runs of quotes: a parser that
 * looks for the other half of each takes hours over a page that is full of them.
 */
function withoutTags(text: string): string {
  return text
    .replace(
      /<\/?(?:b|i|u|s|em|strong|small|big|span|div|center|font|abbr|cite|tt|nobr|q|dfn|var|kbd|samp|bdi)(?:\s[^<>]*)?>/gi,
      '',
    )
    .replace(/'{6,}/g, "'''''")
    .replace(/[\w+/=]{5000,}/g, '');
}

/** Sections of references and links go, with those below them. */
function withoutBackMatter(text: string): string {
  const kept: string[] = [];
  let from = 0;
  let skippedDepth: number | null = null;
  for (const { 1: signs, 2: title, index } of text.matchAll(HEADING)) {
    const depth = signs!.length;
    if (skippedDepth !== null && depth > skippedDepth) continue;
    if (skippedDepth === null) kept.push(text.slice(from, index));
    from = index;
    skippedDepth = BACK_MATTER.has(
      title!
        .replace(/'{2,}|<[^<>]*>/g, '')
        .trim()
        .toLowerCase(),
    )
      ? depth
      : null;
  }
  if (skippedDepth === null) kept.push(text.slice(from));
  return kept.join('');
}

function templateName(text: string, start: number): string {
  const rest = text.slice(start + 2, start + 66);
  return rest
    .slice(0, rest.search(/[|}\n<]|$/))
    .trim()
    .toLowerCase();
}

/** Finds closing tags; one that is not found once is not looked for again. */
class CloseFinder {
  readonly #text: string;
  readonly #absent = new Set<string>();

  constructor(text: string) {
    this.#text = text;
  }

  find(name: string, from: number): { readonly start: number; readonly end: number } | null {
    if (this.#absent.has(name)) return null;
    const pattern = new RegExp(`</${name}\\s*>`, 'gi');
    pattern.lastIndex = from;
    const match = pattern.exec(this.#text);
    if (match === null) this.#absent.add(name);
    return match === null ? null : { start: match.index, end: pattern.lastIndex };
  }
}

/** A paragraph for each row of a table, its cells parted by commas; attributes go. */
function rowsOf(table: string): string {
  const rows: string[][] = [[]];
  for (const line of table.split('\n').slice(1, -1)) {
    const text = line.trim();
    if (text.startsWith('|-')) rows.push([]);
    else if (text.startsWith('|+')) rows.push([text.slice(2)], []);
    else if (/^[|!]/.test(text))
      rows.at(-1)!.push(
        ...text
          .slice(1)
          .split(/\|\||!!/)
          .map(withoutAttributes),
      );
    else if (text !== '') rows.at(-1)!.push(text);
  }
  const lines = rows.map((cells) =>
    cells
      .map((cell) => cell.trim())
      .filter((cell) => cell !== '')
      .join(', '),
  );
  return `\n\n${lines.filter((line) => line !== '').join('\n\n')}\n\n`;
}

/** `style="..." | text` is text with attributes; the bar of a link is none of those. */
function withoutAttributes(cell: string): string {
  return cell.replace(/^[^|[\]{}]*\|(?!\|)/, '');
}
