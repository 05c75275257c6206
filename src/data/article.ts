/**
 * What flows from the readers to the tokenizer: one article's text, or the reason it was left out.
 * Every page of an input is counted once, as kept or under one reason, so that a report adds up.
 */
export interface Article {
  /** The source's own number of the article, or its place in the file. */
  readonly id: string;
  readonly title: string;
  /** Wikitext from a dump, plain text otherwise. */
  readonly text: string;
}

export const DROP_REASONS = ['namespace', 'redirect', 'disambiguation', 'tooShort', 'unparsable'] as const;
/**
 * `namespace`: not of the main namespace; `tooShort`: fewer characters than asked after cleaning;
 * `unparsable`: the wikitext parser failed on it.
 */
export type DropReason = (typeof DROP_REASONS)[number];

/** What a reader yields for each page, line or block of its input. */
export type SourceRecord =
  | { readonly kind: 'article'; readonly article: Article }
  | { readonly kind: 'dropped'; readonly reason: DropReason };

/** A cleaned article on its way to the tokenizer. */
export interface CleanDocument {
  /** Paragraphs joined by line feeds; never empty. */
  readonly text: string;
  /** What decides its split: see split.ts. */
  readonly hash: number;
}

export type DropCounts = Readonly<Record<DropReason, number>>;
