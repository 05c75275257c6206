export {
  Coordinator,
  type CoordinatorListener,
  type CoordinatorOptions,
  queueNameOf,
} from './coordinator.ts';
export { initialState, transition } from './machine.ts';
export {
  CHECKPOINTS_FOLDER,
  COMMIT_LOG_FILE,
  type OpenRunOptions,
  openRun,
  type RunFolder,
  runTokenizerFile,
  savedConfig,
} from './run-folder.ts';
export { learningRateAt } from './schedule.ts';
export { type CoordinatorSnapshot, snapshotOf, type WorkerSnapshot } from './snapshot.ts';
export type { StartWeights } from './start-weights.ts';
export type {
  CommittedStep,
  CoordinatorEffect,
  CoordinatorEvent,
  CoordinatorSettings,
  CoordinatorState,
  Outcome,
  RecordedStep,
} from './state.ts';
export { members, participants } from './turn.ts';
