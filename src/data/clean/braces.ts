/**
 * Matches the braces and brackets of wikitext in one pass, and makes text harmless for a parser whose work grows with the
 * square of what is left open: what has no other half goes, and long text is cut between paragraphs.
 */

/** Openers within one another, at most: what is nested deeper is no text for people. */
const NESTING_MAX = 100;
/** Unmatched signs that an article may have by mistake; the parser copes with these, and shows the text around. */
const UNMATCHED_MAX = 20;
const CHUNK_CHARACTERS = 16 * 1024;
const SIGN = /\{\{|\}\}|\[\[|\]\]|^[ \t:]*\{\||^[ \t]*\|\}(?!\})/gm;

type Kind = 'template' | 'link' | 'table';

export interface Braces {
  /** Where what opens at a place ends. */
  readonly closes: ReadonlyMap<number, number>;
  /** Places of templates' and links' signs without another half. */
  readonly unmatched: readonly number[];
}

export function matchBraces(text: string): Braces {
  const closes = new Map<number, number>();
  const unmatched: number[] = [];
  const open: { readonly at: number; readonly kind: Kind }[] = [];
  const leaveOpen = (from: number) => {
    for (const { at, kind } of open.splice(from)) if (kind !== 'table') unmatched.push(at);
  };
  for (const { 0: sign, index } of text.matchAll(SIGN)) {
    const at = index + (sign.length - 2);
    const mark = sign.slice(-2);
    const kind =
      mark === '{|' || mark === '|}' ? 'table' : mark === '[[' || mark === ']]' ? 'link' : 'template';
    if (mark === '{{' || mark === '[[' || mark === '{|') {
      if (open.length >= NESTING_MAX) leaveOpen(0);
      open.push({ at, kind });
      continue;
    }
    const match = open.findLastIndex((found) => found.kind === kind);
    if (match === -1) {
      if (kind !== 'table') unmatched.push(at);
      continue;
    }
    closes.set(open[match]!.at, at + 2);
    // What was opened within and not closed by now never is.
    leaveOpen(match + 1);
    open.length = match;
  }
  leaveOpen(0);
  return { closes, unmatched };
}

/**
 * The text in chunks that a parser takes one by one, none of which cuts a template or a table: between paragraphs, or
 * between sentences where a paragraph is very long. What has neither in 64 Ki characters is no running text, and goes.
 */
export function chunksOf(text: string): string[] {
  const whole = withoutUnmatched(text);
  if (whole.length <= 2 * CHUNK_CHARACTERS) return [whole];
  const { closes } = matchBraces(whole);
  const spans = [...closes].sort(([a], [b]) => a - b);
  const chunks: string[] = [];
  let start = 0;
  let span = 0;
  let covered = 0;
  for (const { 0: sign, index } of whole.matchAll(/\n(?=\n|==)|(?<=[.!?]) /g)) {
    for (; span < spans.length && spans[span]![0] < index; span += 1) {
      covered = Math.max(covered, spans[span]![1]);
    }
    if (index - start < CHUNK_CHARACTERS * (sign === ' ' ? 2 : 1) || index < covered) continue;
    chunks.push(whole.slice(start, index));
    start = index;
  }
  chunks.push(whole.slice(start));
  return chunks.filter((chunk) => chunk.length <= 4 * CHUNK_CHARACTERS);
}

function withoutUnmatched(text: string): string {
  const { unmatched } = matchBraces(text);
  if (unmatched.length <= UNMATCHED_MAX) return text;
  const kept: string[] = [];
  let from = 0;
  for (const at of [...unmatched].sort((a, b) => a - b)) {
    kept.push(text.slice(from, at));
    from = at + 2;
  }
  kept.push(text.slice(from));
  return kept.join('');
}
