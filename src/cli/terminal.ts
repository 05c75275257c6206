/** Talking to a person: one line per message, numbers as people read them. */
import { LockstepError, type LogFields, type Logger, messageOf } from '../base/index.ts';
import { createLogger } from '../logging/index.ts';

export const isTerminal = process.stdout.isTTY === true;

export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const LIVE_INTERVAL_MS = 100;

/** A line on a terminal that is written over, a few times a second at most; nothing elsewhere. */
export class LiveLine {
  #lastMs = 0;
  #isShown = false;

  show(text: string): void {
    const nowMs = performance.now();
    if (!isTerminal || nowMs - this.#lastMs < LIVE_INTERVAL_MS) return;
    this.#lastMs = nowMs;
    this.#isShown = true;
    process.stdout.write(`\r\u001b[2K${text.slice(0, (process.stdout.columns ?? 80) - 1)}`);
  }

  end(): void {
    if (this.#isShown) process.stdout.write('\r\u001b[2K');
    this.#isShown = false;
  }
}

export function warn(line: string): void {
  process.stderr.write(`lockstep: ${line}\n`);
}

/** JSON lines on standard error, for when nobody watches a terminal. */
export function lineLogger(): Logger {
  return createLogger({ file: null, level: 'info' });
}

/** Says everything twice. */
export function bothLoggers(first: Logger, second: Logger): Logger {
  const on = (level: 'debug' | 'info' | 'warn' | 'error') => (event: string, fields?: LogFields) => {
    first[level](event, fields);
    second[level](event, fields);
  };
  return {
    debug: on('debug'),
    info: on('info'),
    warn: on('warn'),
    error: on('error'),
    child: (fields) => bothLoggers(first.child(fields), second.child(fields)),
  };
}

/** Runs a command and turns what it throws into one line and an exit code. */
export async function runCommand(command: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await command();
  } catch (error) {
    if (error instanceof LockstepError) process.stderr.write(`lockstep: ${error.code}: ${error.message}\n`);
    else
      process.stderr.write(
        `lockstep: unexpected: ${error instanceof Error ? error.stack : messageOf(error)}\n`,
      );
    process.exitCode = 1;
  }
}

export function formatCount(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** `h:mm:ss`, or `m:ss` below an hour. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const pad = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
}
