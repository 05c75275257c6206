export { createLogger, type LogDestination } from './pino-logger.ts';
