/**
 * One record as one line: `<8 hex digits> <JSON>\n`. Pure.
 *
 * The digits are the CRC-32C of the previous line's digits followed by this line's JSON, so that each
 * line vouches for all before it: one that is edited, removed, added or moved breaks the chain there.
 * The chain starts from `00000000`. It finds accidents; it does not stop a forger.
 */
import { crc32c } from '@node-rs/crc32';
import { assert, messageOf } from '../base/index.ts';
import { type HistoryRecord, historyRecordSchema } from './record.ts';

/** The link before the first line. */
export const CHAIN_START = 0;
const DIGITS = 8;
const LINE = /^[0-9a-f]{8} \{/;

export interface EncodedLine {
  /** Newline included. */
  readonly bytes: Uint8Array;
  /** What the next line is chained to. */
  readonly link: number;
}

/** A record that does not fit its schema is an InvariantError: it would make the log unreadable. */
export function encodeLine(previousLink: number, record: HistoryRecord): EncodedLine {
  const parsed = historyRecordSchema.safeParse(record);
  assert(parsed.success, `history record: ${parsed.success ? '' : firstIssue(parsed.error.issues)}`);
  const json = JSON.stringify(record);
  const link = crc32c(json, crc32c(digitsOf(previousLink)));
  return { bytes: Buffer.from(`${digitsOf(link)} ${json}\n`), link };
}

export type DecodedLine =
  | { readonly record: HistoryRecord; readonly link: number }
  | {
      readonly record: null;
      readonly fault: string;
      /** Whether its checksum holds: then the line is as it was written, by another version perhaps. */
      readonly intact: boolean;
    };

/** Checks and reads one line, given without its newline. */
export function decodeLine(previousLink: number, line: Uint8Array): DecodedLine {
  const text = Buffer.from(line.buffer, line.byteOffset, line.byteLength);
  if (!LINE.test(text.toString('latin1', 0, DIGITS + 2))) return damaged('is not a checksum and a record');
  const json = text.subarray(DIGITS + 1);
  const recorded = text.toString('latin1', 0, DIGITS);
  const link = crc32c(json, crc32c(digitsOf(previousLink)));
  if (digitsOf(link) !== recorded) return damaged(`has checksum ${recorded} instead of ${digitsOf(link)}`);
  let value: unknown;
  try {
    value = JSON.parse(json.toString('utf8'));
  } catch (error) {
    return strange(`is not JSON (${messageOf(error)})`);
  }
  const parsed = historyRecordSchema.safeParse(value);
  if (!parsed.success) return strange(firstIssue(parsed.error.issues));
  return { record: parsed.data, link };
}

function damaged(fault: string): DecodedLine {
  return { record: null, fault, intact: false };
}

function strange(fault: string): DecodedLine {
  return { record: null, fault: `holds no known record: ${fault}`, intact: true };
}

function digitsOf(link: number): string {
  return link.toString(16).padStart(DIGITS, '0');
}

function firstIssue(issues: readonly { path: PropertyKey[]; message: string }[]): string {
  const issue = issues[0]!;
  return `${issue.path.join('.') || 'kind'}: ${issue.message}`;
}
