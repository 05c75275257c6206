export { Reduction, type ReductionContext } from './reduction.ts';
export { type RunningWorker, startWorker, type WorkerOptions, type WorkerOutcome } from './worker.ts';
