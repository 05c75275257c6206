/** Opens an input by its format, which is named by the user or told from the file's extension. */
import { LockstepError } from '../../base/index.ts';
import type { SourceRecord } from '../article.ts';
import { ByteSource, type ReaderContext } from './byte-source.ts';
import { readJsonLines } from './json-lines.ts';
import { readMediaWiki } from './media-wiki.ts';
import { readPlainText } from './plain-text.ts';

export const INPUT_FORMATS = ['mediawiki', 'json-lines', 'text'] as const;
export type InputFormat = (typeof INPUT_FORMATS)[number];

const FORMAT_OF_EXTENSION: ReadonlyMap<string, InputFormat> = new Map([
  ['xml', 'mediawiki'],
  ['jsonl', 'json-lines'],
  ['ndjson', 'json-lines'],
  ['txt', 'text'],
  ['text', 'text'],
]);

/**
 * The format that `file`'s name tells, ignoring a final `.bz2`; a `.bz2` that tells nothing more is taken for
 * a dump, which its reader checks. Throws CONFIG_INVALID when the name tells none.
 */
export function formatOf(file: string): InputFormat {
  const extension = /\.([^./\\]+)$/.exec(file.replace(/\.bz2$/, ''))?.[1]?.toLowerCase() ?? '';
  const format = FORMAT_OF_EXTENSION.get(extension);
  if (format !== undefined) return format;
  if (file.endsWith('.bz2')) return 'mediawiki';
  throw new LockstepError(
    'CONFIG_INVALID',
    `${file}: its name does not tell the format: pass --format (${INPUT_FORMATS.join(', ')})`,
    { context: { file } },
  );
}

export interface ArticleSource {
  readonly bytes: ByteSource;
  readonly format: InputFormat;
  /** To be iterated once. */
  readonly records: AsyncGenerator<SourceRecord>;
}

/** Opens one input; the errors are those of the reader for its format. */
export function openArticles(context: ReaderContext, format: InputFormat): ArticleSource {
  const bytes = new ByteSource(context);
  const chunks = bytes.chunks();
  switch (format) {
    case 'mediawiki':
      return { bytes, format, records: readMediaWiki(chunks, context) };
    case 'json-lines':
      return { bytes, format, records: readJsonLines(chunks, context) };
    case 'text':
      return { bytes, format, records: readPlainText(chunks, context.file) };
  }
}
