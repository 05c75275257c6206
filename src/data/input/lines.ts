/**
 * Splits a byte stream into lines of strict UTF-8, each with its byte offset, so that a
 * bad line can be named. Accepts LF and CRLF and drops a byte order mark at the start of the file.
 */
import { TextDecoder } from 'node:util';
import { LockstepError } from '../../base/index.ts';

const LINE_BYTES_MAX = 64 * 1024 * 1024;
const LF = 0x0a;
const CR = 0x0d;

export interface Line {
  readonly text: string;
  /** Of the line's first byte. */
  readonly offset: number;
  /** False for a last line without its line end. */
  readonly ended: boolean;
}

/**
 * The lines of `chunks`, which begin at `start` of the file; `skipFirst` passes over the first one, as it may be the rest
 * of a line that began before. Throws DATA_CORRUPT at a line that is not UTF-8 or exceeds 64 MiB.
 */
export async function* readLines(
  chunks: AsyncIterable<Buffer>,
  file: string,
  { start: firstByte = 0, skipFirst = false } = {},
): AsyncGenerator<Line> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let held: Buffer[] = [];
  let heldBytes = 0;
  let offset = firstByte;
  let skipping = skipFirst;

  const finish = (last: Buffer, ended: boolean): Line | null => {
    const bytes = held.length === 0 ? last : Buffer.concat([...held, last]);
    const end = bytes.at(-1) === CR ? bytes.length - 1 : bytes.length;
    const text = skipping ? '' : decode(decoder, bytes.subarray(0, end), file, offset);
    const line = skipping ? null : { text, offset, ended };
    skipping = false;
    offset += bytes.length + 1;
    held = [];
    heldBytes = 0;
    return line;
  };

  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      const line = finish(chunk.subarray(start, end), true);
      if (line !== null) yield line;
      start = end + 1;
    }
    if (start < chunk.length) {
      const rest = chunk.subarray(start);
      held.push(rest);
      heldBytes += rest.length;
    }
    if (heldBytes > LINE_BYTES_MAX) {
      throw new LockstepError(
        'DATA_CORRUPT',
        `${file}: the line at byte ${offset} is longer than ${LINE_BYTES_MAX} bytes: check that --format fits the file`,
        { context: { file, offset } },
      );
    }
  }
  const last = heldBytes > 0 ? finish(Buffer.alloc(0), false) : null;
  if (last !== null) yield last;
}

function decode(decoder: TextDecoder, bytes: Buffer, file: string, offset: number): string {
  try {
    // A fatal decoder strips a byte order mark by itself, but of every line: only the file's first may go.
    const text = decoder.decode(bytes);
    const marked = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
    return marked && offset > 0 ? `\ufeff${text}` : text;
  } catch (cause) {
    throw new LockstepError(
      'DATA_CORRUPT',
      `${file}: the line at byte ${offset} is not UTF-8: convert the file to UTF-8 first`,
      { context: { file, offset }, cause },
    );
  }
}
