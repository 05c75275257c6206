/**
 * Reads a commit log from its beginning, record by record, in bounded memory however long it is.
 * Everything is checked on the way: the chain of checksums, each record, and the order of records.
 *
 * A process that dies while it appends leaves at most one line that is not whole, the last. That is
 * the *tail*: reported, not an error. Anything wrong before it is damage: HISTORY_CORRUPT.
 */
import type { FileHandle } from 'node:fs/promises';
import { LockstepError } from '../base/index.ts';
import { openToRead } from '../storage/index.ts';
import { CHAIN_START, type DecodedLine, decodeLine } from './line-codec.ts';
import type { HistoryRecord } from './record.ts';
import { EMPTY_HISTORY, faultOf, type HistorySummary, withRecord } from './sequence.ts';

const CHUNK_BYTES = 1024 * 1024;
/** Above the longest record there can be (65,536 slots), far below what would exhaust memory. */
export const LINE_BYTES_MAX = 64 * 1024 * 1024;
const NEWLINE = 0x0a;

export interface ScannedRecord {
  readonly record: HistoryRecord;
  /** Counts from 1. */
  readonly line: number;
  /** Of the line's first byte within the file. */
  readonly offset: number;
  /** Bytes of the line, newline included. */
  readonly length: number;
  /** Of the line before. */
  readonly previousLink: number;
  readonly link: number;
  /** The history up to and including this record. */
  readonly history: HistorySummary;
}

/** A last line that was not written as a whole, and why it is taken for that. */
export interface TornTail {
  readonly line: number;
  readonly offset: number;
  readonly length: number;
  readonly reason: string;
}

/**
 * Yields the records of an open log in order and returns its torn tail, or null. Throws
 * HISTORY_CORRUPT naming `path`, the line, its byte offset and what is wrong.
 */
export async function* scanHistory(
  handle: FileHandle,
  path: string,
): AsyncGenerator<ScannedRecord, TornTail | null> {
  let history = EMPTY_HISTORY;
  let link = CHAIN_START;
  let tail: TornTail | null = null;
  for await (const { bytes, line, offset, whole } of splitLines(handle, path)) {
    // Only what comes after a faulty line shows that it was not the last.
    if (tail !== null) throw corrupt(path, tail.line, tail.offset, tail.reason);
    const length = bytes.length + (whole ? 1 : 0);
    const decoded: DecodedLine = whole
      ? decodeLine(link, bytes)
      : { record: null, fault: 'does not end with a newline', intact: false };
    if (decoded.record === null) {
      if (decoded.intact) throw corrupt(path, line, offset, decoded.fault);
      tail = { line, offset, length, reason: decoded.fault };
      continue;
    }
    const { record } = decoded;
    const fault = faultOf(history, record);
    if (fault !== null) throw corrupt(path, line, offset, `holds ${fault}`);
    history = withRecord(history, record);
    const previousLink = link;
    link = decoded.link;
    yield { record, line, offset, length, previousLink, link, history };
  }
  return tail;
}

/**
 * The records of the log at `path`, for looking at a run, also one that is running: a tail that is
 * not whole is left out, for it may be about to be. Throws DATA_MISSING and HISTORY_CORRUPT.
 */
export async function* readHistory(path: string): AsyncGenerator<HistoryRecord> {
  const handle = await openToRead(path);
  try {
    for await (const { record } of scanHistory(handle, path)) yield record;
  } finally {
    await handle.close();
  }
}

interface Line {
  /** Without the newline; valid until the next line is asked for. */
  readonly bytes: Uint8Array;
  readonly line: number;
  readonly offset: number;
  /** Whether a newline ended it. */
  readonly whole: boolean;
}

async function* splitLines(handle: FileHandle, path: string): AsyncGenerator<Line> {
  const chunk = Buffer.alloc(CHUNK_BYTES);
  /** The part of a line that earlier chunks held. */
  let begun: Buffer[] = [];
  let begunBytes = 0;
  let line = 1;
  let offset = 0;
  let position = 0;
  for (;;) {
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, position);
    if (bytesRead === 0) break;
    position += bytesRead;
    let start = 0;
    for (;;) {
      const newline = chunk.subarray(0, bytesRead).indexOf(NEWLINE, start);
      if (newline === -1) break;
      const rest = chunk.subarray(start, newline);
      const bytes = begun.length === 0 ? rest : Buffer.concat([...begun, rest]);
      yield { bytes, line, offset, whole: true };
      begun = [];
      begunBytes = 0;
      line += 1;
      offset += bytes.length + 1;
      start = newline + 1;
    }
    begun.push(Buffer.from(chunk.subarray(start, bytesRead)));
    begunBytes += bytesRead - start;
    if (begunBytes > LINE_BYTES_MAX)
      throw corrupt(path, line, offset, `is longer than ${LINE_BYTES_MAX} bytes`);
  }
  if (begunBytes > 0) yield { bytes: Buffer.concat(begun), line, offset, whole: false };
}

export function corrupt(path: string, line: number, offset: number, what: string): LockstepError {
  return new LockstepError(
    'HISTORY_CORRUPT',
    `${path}: line ${line} (byte ${offset}) ${what}; restore the file from a copy, or start a new run from a checkpoint`,
    { context: { path, line, offset } },
  );
}
