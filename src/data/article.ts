/**
 * What flows from the readers to the tokenizer: one article's text, or the reason it was left out.
 * Every page of an input is counted once, as kept or under one reason, so that a report adds up.
 */
import type { ArticleSample } from './article-samples.ts';

/**
 * How an article's text is written: `wikitext`; `paragraphs`, plain with blank lines between paragraphs; `lines`,
 * plain with a paragraph on each line.
 */
export type Markup = 'wikitext' | 'paragraphs' | 'lines';

export interface Article {
  /** The source's own number of the article, or its place in the file. */
  readonly id: string;
  readonly title: string;
  readonly text: string;
  readonly markup: Markup;
}

export const DROP_REASONS = [
  'namespace',
  'redirect',
  'disambiguation',
  'tooShort',
  'duplicate',
  'damaged',
  'unparsable',
] as const;
/**
 * `namespace`: not of the main namespace; `tooShort`: fewer characters than asked after cleaning; `duplicate`: its
 * cleaned text is that of an earlier article; `damaged`: cut off by a damaged part of the input;
 * `unparsable`: the wikitext parser failed on it.
 */
export type DropReason = (typeof DROP_REASONS)[number];

/** What a reader yields for each page, line or block of its input. */
export type SourceRecord =
  | { readonly kind: 'article'; readonly article: Article }
  | { readonly kind: 'dropped'; readonly reason: DropReason };

export type DropCounts = Readonly<Record<DropReason, number>>;

export function noDrops(): Record<DropReason, number> {
  return Object.fromEntries(DROP_REASONS.map((reason) => [reason, 0])) as Record<DropReason, number>;
}

/** A cleaned article on its way to the tokenizer. */
export interface CleanDocument {
  readonly id: string;
  readonly title: string;
  /** Paragraphs joined by line feeds; never empty. */
  readonly text: string;
  /** The first 128 bits of the text's SHA-256, in hex: equal texts are duplicates. */
  readonly digest: string;
  /** What decides its side of the validation split: see split.ts. */
  readonly hash: number;
  /** Of a few articles: how they were before cleaning and after. */
  readonly sample: ArticleSample | null;
}
