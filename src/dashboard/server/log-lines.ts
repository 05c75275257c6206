/**
 * The lines of a log file around a moment, found by bisection: log lines are JSON in order of time, and a file
 * of any size is answered with a few reads.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCodeOf } from '../../base/index.ts';
import type { LogLine, LogView } from '../contract.ts';

export const LOGS_FOLDER = 'logs';
/** Read around the place found; lines are a few hundred bytes. */
const WINDOW_BYTES = 256 * 1024;
const LINES_MAX = 200;
const NEAR_MS = 1000;
/** A place in the file that is within this of the right one is near enough: the window covers the rest. */
const PRECISION_BYTES = 16 * 1024;

/** A file directly below the logs folder, and nothing that leads elsewhere. */
export function isLogName(name: string): boolean {
  return /^[\w-][\w.-]*\.log$/.test(name);
}

/** Null when there is no such file. `at` null takes the newest lines. */
export async function logLinesAround(
  runDir: string,
  file: string,
  at: number | null,
): Promise<LogView | null> {
  const handle = await open(join(runDir, LOGS_FOLDER, file), 'r').catch((error: unknown) => {
    if (systemCodeOf(error) === 'ENOENT') return null;
    throw error;
  });
  if (handle === null) return null;
  try {
    const { size } = await handle.stat();
    const place = at === null ? size : await placeOf(handle, size, at);
    const first = Math.max(0, place - WINDOW_BYTES / 2);
    const text = await textAt(handle, first, WINDOW_BYTES);
    // A window that does not begin at the file's beginning begins within a line.
    const lines = text
      .split('\n')
      .slice(first === 0 ? 0 : 1)
      .filter((line) => line !== '');
    return {
      file,
      lines: around(
        lines.map((line) => parseLine(line, at)),
        at,
      ),
    };
  } finally {
    await handle.close();
  }
}

/** An offset at or shortly before the first line that is not older than `at`. */
async function placeOf(handle: FileHandle, size: number, at: number): Promise<number> {
  let low = 0;
  let high = size;
  while (high - low > PRECISION_BYTES) {
    const middle = Math.floor((low + high) / 2);
    const lines = (await textAt(handle, middle, PRECISION_BYTES)).split('\n').slice(1);
    const time = lines.map((line) => parseLine(line, null).at).find((found) => found !== null) ?? null;
    if (time !== null && time < at) low = middle;
    else high = middle;
  }
  return low;
}

async function textAt(handle: FileHandle, position: number, length: number): Promise<string> {
  const bytes = Buffer.alloc(length);
  const { bytesRead } = await handle.read(bytes, 0, length, position);
  return bytes.toString('utf8', 0, bytesRead);
}

function around(lines: readonly LogLine[], at: number | null): LogLine[] {
  if (at === null) return lines.slice(-LINES_MAX);
  const index = lines.findIndex((line) => line.at !== null && line.at >= at);
  const middle = index === -1 ? lines.length : index;
  const first = Math.max(0, Math.min(middle - LINES_MAX / 2, lines.length - LINES_MAX));
  return lines.slice(first, first + LINES_MAX);
}

function parseLine(line: string, near: number | null): LogLine {
  try {
    const { time, level, event, ...fields } = JSON.parse(line) as Record<string, unknown>;
    const parsed = typeof time === 'string' ? Date.parse(time) : Number.NaN;
    const at = Number.isNaN(parsed) ? null : parsed;
    return {
      at,
      level: String(level ?? ''),
      event: String(event ?? ''),
      fields: JSON.stringify(fields),
      near: at !== null && near !== null && Math.abs(at - near) <= NEAR_MS,
    };
  } catch {
    // A worker's last words before it died may be no JSON.
    return { at: null, level: '', event: line.slice(0, 1000), fields: '{}', near: false };
  }
}
