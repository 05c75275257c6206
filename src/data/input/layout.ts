/**
 * Plans how an input is divided (units.ts): one pass over the file takes its SHA-256 and, for a .bz2 dump, finds the
 * blocks. Where a multistream index lies beside the dump, as Wikimedia publishes it, its streams are used
 * instead, and its number of pages is kept to compare with.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { LockstepError } from '../../base/index.ts';
import { ByteSource, fileSize, readBytes } from './byte-source.ts';
import { assertIsBzip2, type Bzip2Block, Bzip2Scanner } from './bzip2-blocks.ts';
import { compressionOf } from './compression.ts';
import { formatOf, type InputFormat } from './format.ts';
import { readLines } from './lines.ts';
import { rowRangesOf } from './parquet.ts';
import type { Layout, PlannedInput } from './units.ts';

/** A dump's text is about this many times its size as .bz2. */
export const COMPRESSION_RATIO = 4;

/** The plan for `file`. Throws DATA_MISSING, DATA_CORRUPT, or CONFIG_INVALID for a format that cannot be told. */
export async function planInput(
  file: string,
  format: InputFormat | undefined,
  unitBytes: number,
  onBytes: (bytes: number) => void,
): Promise<PlannedInput> {
  const bytes = fileSize(file);
  const found = format ?? (await formatOf(file));
  const compression = compressionOf(file);
  if (found === 'parquet' && compression !== '') {
    throw new LockstepError('CONFIG_INVALID', `${file}: parquet is compressed inside: decompress the file`);
  }
  const isBlocks = found === 'mediawiki' && compression === '.bz2';
  const index = isBlocks ? indexBeside(file) : null;
  const scanner = isBlocks && index === null ? new Bzip2Scanner() : null;
  const sha256 = await scanFile(file, (chunk) => {
    scanner?.push(chunk);
    onBytes(chunk.length);
  });
  const layout = await layoutOf();
  return {
    path: resolve(file),
    format: found,
    bytes,
    sha256,
    layout,
  };

  async function layoutOf(): Promise<Layout> {
    if (isBlocks) {
      const { blocks, pages } =
        index === null ? { blocks: scanner!.finish(), pages: null } : await streamsOfIndex(index, bytes);
      assertIsBzip2(file, blocks);
      return { kind: 'blocks', blocks, pages, units: unitsOfBlocks(blocks, unitBytes / COMPRESSION_RATIO) };
    }
    if (found === 'parquet') return { kind: 'rows', units: await rowRangesOf(file, unitBytes) };
    if (compression !== '' || found === 'text') return { kind: 'batches' };
    // The last takes the rest, so that no unit begins within the dump's closing tag.
    const count = Math.max(1, Math.floor(bytes / unitBytes));
    const units = Array.from({ length: count }, (_, unit) => {
      const start = unit * unitBytes;
      const end = unit === count - 1 ? bytes : start + unitBytes;
      return { start, end, bytes: end - start };
    });
    return { kind: 'bytes', units };
  }
}

function unitsOfBlocks(blocks: readonly Bzip2Block[], unitBytes: number) {
  const units: { start: number; end: number; bytes: number }[] = [];
  let start = 0;
  let bits = 0;
  blocks.forEach(([first, last], index) => {
    bits += last - first;
    if (bits < unitBytes * 8 && index < blocks.length - 1) return;
    units.push({ start, end: index + 1, bytes: Math.ceil(bits / 8) });
    start = index + 1;
    bits = 0;
  });
  return units;
}

/** SHA-256 (hex) of the file. */
export async function scanFile(file: string, onChunk: (chunk: Buffer) => void): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of readBytes(file)) {
    hash.update(chunk);
    onChunk(chunk);
  }
  return hash.digest('hex');
}

/** `X-multistream-index.txt`, compressed or not, beside `X-multistream.xml.bz2`; null where there is none. */
function indexBeside(file: string): string | null {
  const match = /^(.*-multistream)(\d*)\.xml(-p\d+p\d+)?\.bz2$/.exec(file);
  if (match === null) return null;
  const [, stem, part = '', pages = ''] = match;
  const name = `${stem}-index${part}.txt${pages}`;
  return [`${name}.bz2`, name].find((path) => existsSync(path)) ?? null;
}

/**
 * The streams that the index lists (`offset:page id:title` a line), with those before the first and after the last,
 * which hold no pages but the dump's head and foot. Throws DATA_CORRUPT for what is no such index.
 */
async function streamsOfIndex(
  index: string,
  fileBytes: number,
): Promise<{ readonly blocks: Bzip2Block[]; readonly pages: number }> {
  const source = new ByteSource({ file: index, allowTruncated: false, warn: () => {} });
  const offsets: number[] = [0];
  let pages = 0;
  for await (const { text, offset } of readLines(source.chunks(), index)) {
    const start = Number(/^(\d+):\d+:/.exec(text)?.[1] ?? Number.NaN);
    if (!(start >= offsets.at(-1)! && start < fileBytes)) {
      throw new LockstepError(
        'DATA_CORRUPT',
        `${index}: the line at byte ${offset} names no later place within the dump of ${fileBytes} bytes: fetch dump and index again, or remove the index`,
        { context: { file: index, offset } },
      );
    }
    pages += 1;
    if (start > offsets.at(-1)!) offsets.push(start);
  }
  return { blocks: offsets.map((start, at) => [start * 8, (offsets[at + 1] ?? fileBytes) * 8]), pages };
}
