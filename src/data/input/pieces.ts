/**
 * An input, or a range of one, as a reader gets it: bytes in order, and where damaged bytes are missing a gap.
 * A range has no say over page borders, so it owns what *begins* within it: its pieces go on past its
 * end, marked as not owned, for as long as the reader asks for the rest of what began before.
 */
import { readBytes } from './byte-source.ts';

export type Piece =
  | {
      readonly kind: 'bytes';
      readonly bytes: Buffer;
      readonly owned: boolean;
      /** Offset of the first byte, and what it is counted in: `byte 7 of the bzip2 block at byte 900`. */
      readonly offset: number;
      readonly within: string;
    }
  | { readonly kind: 'gap' };

export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Bytes `start` and on of an uncompressed file, owned up to `end`. Throws DATA_MISSING. */
export async function* piecesOfFile(file: string, { start, end }: ByteRange): AsyncGenerator<Piece> {
  let offset = start;
  for await (const chunk of readBytes(file, start)) {
    const border = Math.min(Math.max(0, end - offset), chunk.length);
    if (border > 0) yield piece(chunk.subarray(0, border), true, offset);
    if (border < chunk.length) yield piece(chunk.subarray(border), false, offset + border);
    offset += chunk.length;
  }
}

/** The bytes of a whole stream, all owned. */
export async function* piecesOfStream(chunks: AsyncIterable<Buffer>): AsyncGenerator<Piece> {
  let offset = 0;
  for await (const bytes of chunks) {
    yield piece(bytes, true, offset);
    offset += bytes.length;
  }
}

function piece(bytes: Buffer, owned: boolean, offset: number): Piece {
  return { kind: 'bytes', bytes, owned, offset, within: '' };
}
