export { CommitLog } from './commit-log.ts';
export {
  type CheckpointedRecord,
  type CommittedRecord,
  type HistoryRecord,
  historyRecordSchema,
  type OpenedRecord,
  replayDifferences,
  type SlotRecord,
} from './record.ts';
export { readHistory, type TornTail } from './scan.ts';
export type { HistorySummary } from './sequence.ts';
export type { LearningRateSchedule, VerifiedLog } from './verify.ts';
export { type CheckpointClaims, verifyClaims } from './verify-checkpoint.ts';
export { verifyLog } from './verify-log.ts';
