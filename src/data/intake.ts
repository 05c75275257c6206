/**
 * From input files to documents: reads, cleans, drops and counts. A document's text is one article's
 * paragraphs joined by line feeds; its title is left out, as a heading without a sentence is
 * nothing to restore. Documents come in the order of the inputs, whatever the number of threads.
 */
import { basename } from 'node:path';
import { assert } from '../base/index.ts';
import { type Article, type CleanDocument, DROP_REASONS, type DropReason } from './article.ts';
import { ArticleSamples } from './article-samples.ts';
import { type Cleaner, type CleanResult, cleanPlainText, createCleaner, mapInOrder } from './clean/index.ts';
import { type ArticleSource, formatOf, type InputFormat, openArticles } from './input/index.ts';
import type { Manifest, PrepareReport } from './manifest.ts';
import { documentHash } from './split.ts';

/** The shortest article kept, in UTF-16 units: dumps are full of stubs, other inputs are as wanted. */
const CHARACTERS_MIN: Readonly<Record<InputFormat, number>> = { mediawiki: 200, 'json-lines': 1, text: 1 };

export interface IntakeOptions {
  readonly inputs: readonly string[];
  /** One format for all inputs; told from each file's name when absent. */
  readonly format?: InputFormat | undefined;
  /** Cleaning threads; 0 cleans in the calling thread. */
  readonly threads: number;
  readonly allowTruncated: boolean;
  /** Shorter articles are dropped; absent: 200 for dumps, 1 for other formats. */
  readonly minCharacters?: number | undefined;
  onWarning(message: string): void;
  onProgress(bytesRead: number, bytesTotal: number, articlesKept: number): void;
}

export class Intake {
  /** Articles before and after cleaning, complete once `documents` has ended. */
  readonly samples = new ArticleSamples();
  readonly #options: IntakeOptions;
  readonly #sources: readonly { readonly file: string; readonly source: ArticleSource }[];
  readonly #dropped = Object.fromEntries(DROP_REASONS.map((reason) => [reason, 0])) as Record<
    DropReason,
    number
  >;
  readonly #warnings: string[] = [];
  #articlesRead = 0;
  #articlesKept = 0;
  #characters = 0;

  /** Opens nothing yet, but throws DATA_MISSING or CONFIG_INVALID for an input that is absent or of no known format. */
  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#sources = options.inputs.map((file) => {
      const warn = (message: string) => {
        // Reports go into the manifest, which must not tell where on a machine the input lay.
        this.#warnings.push(message.replaceAll(file, () => basename(file)));
        options.onWarning(message);
      };
      const context = { file, allowTruncated: options.allowTruncated, warn };
      return { file, source: openArticles(context, options.format ?? formatOf(file)) };
    });
  }

  /** The documents of all inputs; to be iterated once. Errors are those of the readers. */
  async *documents(): AsyncGenerator<CleanDocument> {
    const cleaner = createCleaner(this.#options.threads);
    try {
      for (const { source } of this.#sources) yield* this.#documentsOf(source, cleaner);
    } finally {
      await cleaner.close();
    }
  }

  /** What was read, once `documents` has ended. */
  source(): Manifest['source'] {
    return this.#sources.map(({ file, source: { bytes, format } }) => {
      assert(bytes.sha256 !== null, `${file} was not read to its end`);
      return { file: basename(file), format, bytes: bytes.fileBytes, sha256: bytes.sha256 };
    });
  }

  /** The counts, with `tokens` as the caller counted them and its warnings after the readers'. */
  report(tokens: number, warnings: readonly string[]): PrepareReport {
    return {
      articlesRead: this.#articlesRead,
      articlesKept: this.#articlesKept,
      dropped: { ...this.#dropped },
      characters: this.#characters,
      tokens,
      warnings: [...this.#warnings, ...warnings],
    };
  }

  async *#documentsOf(source: ArticleSource, cleaner: Cleaner): AsyncGenerator<CleanDocument> {
    const { format } = source;
    const minCharacters = this.#options.minCharacters ?? CHARACTERS_MIN[format];
    const clean = async (article: Article): Promise<{ article: Article; result: CleanResult }> => ({
      article,
      result:
        format === 'mediawiki'
          ? await cleaner.clean(article)
          : { kind: 'article', paragraphs: cleanPlainText(article.text) },
    });
    for await (const { article, result } of mapInOrder(this.#articlesOf(source), cleaner.window, clean)) {
      const text = result.kind === 'article' ? result.paragraphs.join('\n') : '';
      if (result.kind === 'dropped') this.#dropped[result.reason] += 1;
      else if (text.length < Math.max(1, minCharacters)) this.#dropped.tooShort += 1;
      else {
        this.#articlesKept += 1;
        this.#characters += text.length;
        const hash = documentHash({ title: article.title, text });
        this.samples.add(hash, article.title, article.text, text);
        yield { text, hash };
      }
      this.#tellProgress();
    }
  }

  async *#articlesOf(source: ArticleSource): AsyncGenerator<Article> {
    for await (const record of source.records) {
      this.#articlesRead += 1;
      if (record.kind === 'article') yield record.article;
      else this.#dropped[record.reason] += 1;
    }
  }

  #tellProgress(): void {
    let read = 0;
    let total = 0;
    for (const { source } of this.#sources) {
      read += source.bytes.bytesRead;
      total += source.bytes.fileBytes;
    }
    this.#options.onProgress(read, total, this.#articlesKept);
  }
}
