export type { Overview, WorkerRow } from './contract.ts';
export { RunRecorder } from './recorder.ts';
export { RunFollower } from './run-follower.ts';
export type { ClusterActions, RunSource } from './server/parts.ts';
export { requestMessageOf, requestStatusOf } from './server/request-errors.ts';
export { Guard, isLoopback } from './server/security.ts';
export { DashboardServer } from './server/server.ts';
export { TENSORBOARD_FOLDER, TensorBoardFile } from './tensorboard/event-file.ts';
export { sentenceOf } from './view/sentences.ts';
