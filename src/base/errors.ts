/**
 * The one error class for trouble that a person can mend, and the table of its codes.
 * A message is one line: it names the file or field, the value, and the remedy.
 * docs/ERRORS.md lists the same codes; test/architecture keeps the two equal.
 */
export const ERROR_CODES = {
  CONFIG_INVALID: 'a configuration file or a flag holds a value that cannot be used',
  CONFIG_MISMATCH: 'a run, a checkpoint or a data set belongs to another configuration',
  DATA_MISSING: 'an input file or folder is not there or cannot be read',
  DATA_CORRUPT: 'an input file is damaged, cut short, or not what its manifest says',
  DISK_FULL: 'a file could not be written',
  CHECKPOINT_INVALID: 'no usable checkpoint, or a checkpoint that fails verification',
  HISTORY_CORRUPT: 'the commit log is damaged before its last record or contradicts itself',
  REDIS_UNAVAILABLE: 'Redis cannot be reached or is too old',
  ADDRESS_IN_USE: 'a port is taken or an address cannot be bound',
  RUN_IN_USE: 'another process has the run open',
  ENGINE_UNAVAILABLE: 'a compute engine cannot be loaded',
  DEVICE_FAILED: 'a graphics card was lost, is out of memory or refused an operation',
  CONNECTION_REFUSED: 'a peer refused this process: other run, version, key or configuration',
  COORDINATOR_LOST: 'the coordinator does not answer',
  WORKER_LOST: 'too few workers are left to go on',
  NOT_FINITE: 'a loss or a gradient is not a finite number',
  DIVERGED: 'replicas disagree, or a repeated step differs from the recorded one',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorContext {
  readonly [field: string]: string | number | boolean | null | undefined;
}

export class LockstepError extends Error {
  override readonly name = 'LockstepError';
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  constructor(code: ErrorCode, message: string, options: { context?: ErrorContext; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.context = options.context ?? {};
  }
}

/** The text of whatever was thrown, on one line: a library may quote damaged input, line breaks and all. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\p{Cc}+/gu, ' ');
}

/** The code of a Node.js system error (`ENOENT`, `ENOSPC`, ...), or null for anything else. */
export function systemCodeOf(error: unknown): string | null {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return null;
}
