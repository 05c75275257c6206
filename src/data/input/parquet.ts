/**
 * Parquet as Hugging Face publishes Wikipedia (`wikimedia/wikipedia`: id, url, title, text; snappy or zstd), read
 * by ranges of rows within one row group. hyparquet decodes the columns that are asked for and no others.
 */
import { open } from 'node:fs/promises';
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { LockstepError, messageOf, systemCodeOf } from '../../base/index.ts';
import type { SourceRecord } from '../article.ts';
import { cannotRead, fileSize, type ReaderContext } from './byte-source.ts';

const TEXT_COLUMN = 'text';
const OTHER_COLUMNS = ['id', 'title'];

export interface RowRange {
  readonly start: number;
  readonly end: number;
  /** Of the row group's compressed bytes, in proportion; for progress. */
  readonly bytes: number;
}

/**
 * The file's rows in ranges of about `unitBytes` of text, none across a row group. Throws DATA_CORRUPT when this
 * is no parquet file, or one without a column "text".
 */
export async function rowRangesOf(file: string, unitBytes: number): Promise<RowRange[]> {
  const metadata = await withFile(file, (buffer) => parquetMetadataAsync(buffer));
  columnsOf(metadata, file);
  const ranges: RowRange[] = [];
  let groupStart = 0;
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows);
    const bytes = group.columns.reduce(
      (sum, { meta_data }) => sum + Number(meta_data?.total_uncompressed_size ?? 0),
      0,
    );
    const parts = Math.max(1, Math.min(rows, Math.round(bytes / unitBytes)));
    for (let part = 0; part < parts; part += 1) {
      const start = groupStart + Math.floor((part * rows) / parts);
      const end = groupStart + Math.floor(((part + 1) * rows) / parts);
      if (end > start) ranges.push({ start, end, bytes: Math.ceil(bytes / parts) });
    }
    groupStart += rows;
  }
  return ranges;
}

/** The articles of the rows; a row without text is an empty article. Throws DATA_CORRUPT naming the rows. */
export async function* readParquetRows(
  context: ReaderContext,
  { start, end }: RowRange,
): AsyncGenerator<SourceRecord> {
  const rows = await withFile(context.file, async (file) => {
    const metadata = await parquetMetadataAsync(file);
    const columns = columnsOf(metadata, context.file);
    try {
      return await parquetReadObjects({ file, metadata, columns, compressors, rowStart: start, rowEnd: end });
    } catch (cause) {
      throw new LockstepError(
        'DATA_CORRUPT',
        `${context.file}: rows ${start} to ${end - 1} cannot be read (${messageOf(cause)}): fetch the file again`,
        { context: { file: context.file, row: start }, cause },
      );
    }
  });
  for (const [index, row] of rows.entries()) {
    const id = row.id ?? start + index;
    const article = { id: String(id), title: String(row.title ?? ''), text: String(row[TEXT_COLUMN] ?? '') };
    yield { kind: 'article', article: { ...article, markup: 'paragraphs' } };
  }
}

function columnsOf(metadata: FileMetaData, file: string): string[] {
  const names = parquetSchema(metadata).children.map(({ element }) => element.name);
  if (!names.includes(TEXT_COLUMN)) {
    throw new LockstepError(
      'DATA_CORRUPT',
      `${file} has no column "${TEXT_COLUMN}" (it has ${names.join(', ')}): name a file with the articles' text in that column`,
      { context: { file } },
    );
  }
  return [TEXT_COLUMN, ...OTHER_COLUMNS.filter((name) => names.includes(name))];
}

async function withFile<T>(file: string, use: (buffer: AsyncBuffer) => Promise<T>): Promise<T> {
  const byteLength = fileSize(file);
  const handle = await open(file, 'r').catch((cause: unknown) => {
    throw cannotRead(file, cause);
  });
  try {
    return await use({
      byteLength,
      slice: async (start, end = byteLength) => {
        const bytes = new Uint8Array(end - start);
        await handle.read(bytes, 0, bytes.length, start);
        return bytes.buffer;
      },
    });
  } catch (cause) {
    if (cause instanceof LockstepError || systemCodeOf(cause) !== null) throw cause;
    throw new LockstepError(
      'DATA_CORRUPT',
      `${file} is not a whole parquet file (${messageOf(cause)}): fetch it again`,
      { context: { file }, cause },
    );
  } finally {
    await handle.close();
  }
}
