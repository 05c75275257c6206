/** The logger port over pino: JSON lines to standard error or to a file. The only importer of pino. */
import pino from 'pino';
import { LockstepError, type Logger, messageOf } from '../base/index.ts';

export interface LogDestination {
  /** A file to append to, or null for standard error. */
  readonly file: string | null;
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

/** Lines are written at once, so that the last ones before a crash are there. Throws DISK_FULL. */
export function createLogger({ file, level }: LogDestination): Logger {
  try {
    const stream = pino.destination({ dest: file ?? 2, sync: true, append: true, mkdir: true });
    const options: pino.LoggerOptions = {
      level,
      base: null,
      messageKey: 'event',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    };
    return wrap(pino(options, stream));
  } catch (error) {
    throw new LockstepError(
      'DISK_FULL',
      `${file ?? 'standard error'}: the log cannot be written: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}

function wrap(logger: pino.Logger): Logger {
  return {
    debug: (event, fields) => logger.debug({ ...fields }, event),
    info: (event, fields) => logger.info({ ...fields }, event),
    warn: (event, fields) => logger.warn({ ...fields }, event),
    error: (event, fields) => logger.error({ ...fields }, event),
    child: (fields) => wrap(logger.child({ ...fields })),
  };
}
