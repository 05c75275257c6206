/**
 * JSON lines, one object a line, in three dialects told apart by their members: Wikimedia Enterprise
 * (`article_body.wikitext`, `name`, `identifier`, `namespace`), WikiExtractor (`revid` or `url` beside `text`, a
 * paragraph a line), and plain `{"text": "...", "title"?: "...", "id"?: "..."}`. Other members are ignored.
 * https://enterprise.wikimedia.com/docs/data-dictionary/, https://github.com/attardi/wikiextractor
 */
import { z } from 'zod';
import { LockstepError } from '../../base/index.ts';
import type { SourceRecord } from '../article.ts';
import { type ReaderContext, reportTruncation } from './byte-source.ts';
import { type Line, readLines } from './lines.ts';

const idSchema = z.union([z.string(), z.number()]).optional();
const plainSchema = z.object({
  text: z.string(),
  title: z.string().optional(),
  id: idSchema,
  revid: idSchema,
});
const enterpriseSchema = z.object({
  name: z.string(),
  identifier: idSchema,
  namespace: z.object({ identifier: z.number() }).optional(),
  article_body: z.object({ wikitext: z.string() }),
});

/**
 * Yields the record of each line; blank lines are skipped. `offset` is the first byte's within the file. Throws
 * DATA_CORRUPT naming the offset when a line is no such object.
 */
export async function* readJsonLines(
  chunks: AsyncIterable<Buffer>,
  context: ReaderContext,
): AsyncGenerator<SourceRecord> {
  for await (const line of readLines(chunks, context.file)) {
    const record = recordOfLine(line, context);
    if (record !== null) yield record;
  }
}

/** The line's record; null for a blank line, and for a last line that was cut and may be left out. */
export function recordOfLine(line: Line, context: ReaderContext): SourceRecord | null {
  if (line.text.trim() === '') return null;
  const value = parseLine(line, context);
  if (value === undefined) return { kind: 'dropped', reason: 'damaged' };
  const plain = plainSchema.safeParse(value);
  if (plain.success) {
    const { text, title, id, revid } = plain.data;
    const article = { id: String(id ?? line.offset), title: title ?? '', text };
    return {
      kind: 'article',
      article: { ...article, markup: revid === undefined ? 'paragraphs' : 'lines' },
    };
  }
  const enterprise = enterpriseSchema.safeParse(value);
  if (enterprise.success) {
    const { name, identifier, namespace, article_body } = enterprise.data;
    if (namespace !== undefined && namespace.identifier !== 0)
      return { kind: 'dropped', reason: 'namespace' };
    const article = { id: String(identifier ?? line.offset), title: name, text: article_body.wikitext };
    return { kind: 'article', article: { ...article, markup: 'wikitext' } };
  }
  throw new LockstepError(
    'DATA_CORRUPT',
    `${context.file}: the line at byte ${line.offset} has neither a string member "text" nor "article_body.wikitext": each line must be {"text": "...", "title": "..."}`,
    { context: { file: context.file, offset: line.offset } },
  );
}

/** The line's value, or undefined for a last line that was cut and may be left out. */
function parseLine(line: Line, context: ReaderContext): unknown {
  try {
    return JSON.parse(line.text);
  } catch (cause) {
    if (!line.ended) {
      reportTruncation(context, 'the last line is cut short; it begins', line.offset);
      return undefined;
    }
    throw new LockstepError(
      'DATA_CORRUPT',
      `${context.file}: the line at byte ${line.offset} is not JSON: mend or remove it`,
      { context: { file: context.file, offset: line.offset }, cause },
    );
  }
}
