/**
 * Strips what wikitext markup the parser leaves in a paragraph (about one piece in 50,000 characters),
 * and brings white space and Unicode into one form (NFC). Works on text without markup too, which it
 * leaves as it is but for that. `countLeftovers` is the measure of both.
 */
import { assert } from '../../base/index.ts';

/** Nested markup is peeled from the inside out, at most this deep. */
const NESTING_MAX = 20;

const CHARACTER_ENTITIES: Readonly<Record<string, string>> = {
  nbsp: ' ',
  shy: '',
  lrm: '',
  rlm: '',
  zwnj: '',
  thinsp: ' ',
  ensp: ' ',
  emsp: ' ',
  lt: '<',
  gt: '>',
  amp: '&',
  quot: '"',
  apos: "'",
  ndash: '–',
  mdash: '—',
  hellip: '…',
  minus: '−',
  times: '×',
  deg: '°',
};

/** The inside of a link without prose: media and categories. */
const MEDIA_TARGET = /^\s*:?\s*(?:file|image|category|media)\s*:/i;

/** Removes left-over markup from one paragraph of wikitext origin. */
export function stripLeftovers(paragraph: string): string {
  let text = paragraph
    .replace(/<!--[\s\S]*?(?:-->|$)/g, '')
    .replace(
      /<(ref|gallery|timeline|syntaxhighlight|source|score|imagemap)\b[^<>]*?(?:\/>|>[\s\S]*?(?:<\/\1\s*>|$))/gi,
      '',
    );
  text = peel(text, /\{\{[^{}]*\}\}/g, () => '');
  text = peel(text, /\{\|(?:(?!\{\|)[\s\S])*?\|\}/g, () => '');
  text = peel(text, /\[\[([^[\]]*)\]\]/g, (_, inside) =>
    MEDIA_TARGET.test(inside) ? '' : inside.slice(inside.lastIndexOf('|') + 1),
  );
  text = text
    .replace(/\[(?:https?|ftp):\/\/[^\s\]]+\s*([^\]]*)\]/g, '$1')
    .replace(/<\/?[a-z][a-z0-9]*\b[^<>]*>/gi, '')
    .replace(/'{2,}/g, '')
    // What has lost its other half, or a table's start and end on their own lines.
    .replace(/\{\{+|\}\}+|\[\[+|\]\]+|\{\||\|\}/g, '')
    .replace(/^\s*(?:file|image):[^|\n]*\|.*$/gim, '')
    .replace(/__[A-Z]+__/g, '');
  return decodeEntities(text)
    .replace(/\(\s*[,;:/\s]*\s*\)/g, '')
    .replace(/\(\s*[,;]\s*/g, '(')
    .replace(/\s+([,;.)])/g, '$1');
}

/** One line of text: NFC, single spaces, no control or invisible formatting characters. */
export function normaliseLine(text: string): string {
  return text
    .normalize('NFC')
    .replace(/[\p{Cc}\p{White_Space}\u200b\u2060\ufeff\u00ad]+/gu, (run) =>
      /\p{White_Space}/u.test(run) ? ' ' : '',
    )
    .trim();
}

/** Pieces of markup in `text`: `[[`, `{{`, `<ref`, `{|` and `'''`. */
export function countLeftovers(text: string): number {
  return text.match(/\[\[|\{\{|<ref|\{\||'''/g)?.length ?? 0;
}

function peel(text: string, pattern: RegExp, replacement: (whole: string, inside: string) => string): string {
  assert(pattern.global, 'peel wants a global pattern');
  for (let depth = 0; depth < NESTING_MAX; depth += 1) {
    const next = text.replace(pattern, replacement);
    if (next === text) break;
    text = next;
  }
  return text;
}

function decodeEntities(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:([a-z]{2,8})|#(\d{1,7})|#x([0-9a-f]{1,6}));/gi, (whole, name, decimal, hex) => {
    if (name !== undefined) return CHARACTER_ENTITIES[name] ?? whole;
    const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : '';
  });
}
