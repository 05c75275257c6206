/**
 * How an input is divided among processes. A unit is what one job reads: a range of bytes, bzip2 blocks or rows; of
 * input that can only be read from its beginning (other compression, plain text) a batch of articles that
 * one reader has cut. Units in order hold every article of the input once, in order.
 */
import { z } from 'zod';
import type { SourceRecord } from '../article.ts';
import { ByteSource, type ReaderContext, readBytes } from './byte-source.ts';
import { piecesOfBlocks } from './bzip2-blocks.ts';
import { INPUT_FORMATS, type InputFormat } from './format.ts';
import { readJsonLines, recordOfLine } from './json-lines.ts';
import { readLines } from './lines.ts';
import { readMediaWiki } from './media-wiki.ts';
import { readParquetRows } from './parquet.ts';
import { piecesOfFile, piecesOfStream } from './pieces.ts';
import { readPlainText } from './plain-text.ts';

const count = z.int().min(0);
const rangeSchema = z.strictObject({ start: count, end: count, bytes: count });

/** `bytes` of a unit weigh it for progress: bytes of the file, compressed if it is. */
export const layoutSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('bytes'), units: z.array(rangeSchema) }),
  z.strictObject({
    kind: z.literal('blocks'),
    /** Each from its first bit to the one after its last; or whole streams, which begin with their header. */
    blocks: z.array(z.tuple([count, count])),
    /** By number of block. */
    units: z.array(rangeSchema),
    /** As many pages as a multistream index lists, if there is one. */
    pages: count.nullable(),
  }),
  z.strictObject({ kind: z.literal('rows'), units: z.array(rangeSchema) }),
  z.strictObject({ kind: z.literal('batches') }),
]);
export type Layout = z.infer<typeof layoutSchema>;

export const plannedInputSchema = z.strictObject({
  /** Absolute: other hosts read the same storage. */
  path: z.string(),
  format: z.enum(INPUT_FORMATS),
  bytes: count,
  sha256: z.string(),
  layout: layoutSchema,
});
export type PlannedInput = z.infer<typeof plannedInputSchema>;

/** The records that unit `index` of the input owns; an input of batches has none of its own. */
export async function* recordsOfUnit(
  { layout, path, format }: PlannedInput,
  index: number,
  at: ReaderContext,
): AsyncGenerator<SourceRecord, null> {
  if (layout.kind === 'batches') return null;
  const unit = layout.units[index]!;
  if (layout.kind === 'rows') yield* readParquetRows(at, unit);
  else if (layout.kind === 'blocks') {
    yield* readMediaWiki(piecesOfBlocks(at, layout.blocks, unit.start, unit.end), at, index === 0);
  } else if (format === 'mediawiki') yield* readMediaWiki(piecesOfFile(path, unit), at, index === 0);
  else yield* linesOfRange(at, unit);
  return null;
}

/** The records of the lines that begin within the range. */
async function* linesOfRange(
  context: ReaderContext,
  { start, end }: { readonly start: number; readonly end: number },
): AsyncGenerator<SourceRecord> {
  // From the byte before: only its being a line's end tells that a line begins here.
  const from = Math.max(0, start - 1);
  const chunks = readBytes(context.file, from);
  for await (const line of readLines(chunks, context.file, { start: from, skipFirst: start > 0 })) {
    if (line.offset >= end) return;
    const record = recordOfLine(line, context);
    if (record !== null) yield record;
  }
}

/** All records of an input, read from its beginning to its end by one reader. */
export function recordsOfWhole(
  context: ReaderContext,
  format: InputFormat,
): { readonly bytes: ByteSource; readonly records: AsyncGenerator<SourceRecord> } {
  const bytes = new ByteSource(context);
  const chunks = bytes.chunks();
  switch (format) {
    case 'mediawiki':
      return { bytes, records: readMediaWiki(piecesOfStream(chunks), context) };
    case 'json-lines':
      return { bytes, records: readJsonLines(chunks, context) };
    case 'text':
      return { bytes, records: readPlainText(chunks, context.file) };
    case 'parquet':
      return {
        bytes,
        records: readParquetRows(context, { start: 0, end: Number.MAX_SAFE_INTEGER, bytes: 0 }),
      };
  }
}
