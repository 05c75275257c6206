export type { DataPlace } from './compute.ts';
export { FragmentStore } from './fragment-store.ts';
export {
  initialLifecycle,
  type LifecycleEffect,
  type LifecycleEvent,
  type LifecycleState,
  transition,
  type UploadOrder,
} from './lifecycle.ts';
export { Reduction, type ReductionContext } from './reduction.ts';
export { type RunningWorker, startWorker, type WorkerOptions, type WorkerOutcome } from './worker.ts';
