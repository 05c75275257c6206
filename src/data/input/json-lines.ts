/**
 * JSON lines: one object a line, `{"text": "...", "title"?: "...", "id"?: "..."}`; blank lines are skipped.
 * Other members are ignored, as exports of Wikipedia data sets carry many.
 */
import { z } from 'zod';
import { LockstepError } from '../../base/index.ts';
import type { SourceRecord } from '../article.ts';
import { type ReaderContext, reportTruncation } from './byte-source.ts';
import { type Line, readLines } from './lines.ts';

const recordSchema = z.object({
  text: z.string(),
  title: z.string().optional(),
  id: z.union([z.string(), z.number()]).optional(),
});

/** Throws DATA_CORRUPT naming line and offset when a line is no such object. */
export async function* readJsonLines(
  chunks: AsyncIterable<Buffer>,
  context: ReaderContext,
): AsyncGenerator<SourceRecord> {
  for await (const line of readLines(chunks, context.file)) {
    if (line.text.trim() === '') continue;
    const value = parseLine(line, context);
    if (value === undefined) return;
    const parsed = recordSchema.safeParse(value);
    if (!parsed.success) {
      throw new LockstepError(
        'DATA_CORRUPT',
        `${context.file}: line ${line.number} at byte ${line.offset} has no string member "text": each line must be {"text": "...", "title": "..."}`,
        { context: { file: context.file, offset: line.offset } },
      );
    }
    const { text, title, id } = parsed.data;
    yield { kind: 'article', article: { id: String(id ?? line.number), title: title ?? '', text } };
  }
}

/** The line's value, or undefined for a last line that was cut and may be left out. */
function parseLine(line: Line, context: ReaderContext): unknown {
  try {
    return JSON.parse(line.text);
  } catch (cause) {
    if (!line.ended) {
      reportTruncation(context, `line ${line.number} is cut short`, line.offset);
      return undefined;
    }
    throw new LockstepError(
      'DATA_CORRUPT',
      `${context.file}: line ${line.number} at byte ${line.offset} is not JSON: mend or remove it`,
      { context: { file: context.file, offset: line.offset }, cause },
    );
  }
}
