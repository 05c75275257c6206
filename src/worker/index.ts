export type { DataPlace, EngineChoice } from './compute.ts';
export { FragmentStore } from './fragment-store.ts';
export { initialLifecycle, isDeaf, transition } from './lifecycle.ts';
export type {
  LifecycleEffect,
  LifecycleEvent,
  LifecycleState,
  ReduceOrder,
  UploadOrder,
} from './lifecycle-state.ts';
export { Reduction, type ReductionContext } from './reduction.ts';
export { SendingRoom } from './sending-room.ts';
export { SlotGate } from './slot-gate.ts';
export { takeSnapshot } from './state-transfer.ts';
export { type RunningWorker, startWorker, type WorkerOptions, type WorkerOutcome } from './worker.ts';
