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
export { readHistory } from './scan.ts';
export type { HistorySummary } from './sequence.ts';
