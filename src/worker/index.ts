export { type RunningWorker, startWorker, type WorkerOptions, type WorkerOutcome } from './worker.ts';
