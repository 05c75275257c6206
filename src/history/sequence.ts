/**
 * Which record may follow which, and what a log says as a whole: a fold over its records. Pure, and
 * of constant size however long the run is.
 *
 * A run that resumes from an older checkpoint comes again past steps that are committed; it compares
 * them with the record and does not append them a second time.
 */
import { unreachable } from '../base/index.ts';
import type { CheckpointedRecord, HistoryRecord, OpenedRecord } from './record.ts';

export interface HistorySummary {
  /** The first record; null while the log is empty. */
  readonly opened: OpenedRecord | null;
  /** The newest step, committed or skipped; 0 before the first. */
  readonly lastStep: number;
  /** Real tokens of all committed steps. */
  readonly tokens: number;
  /** The newest checkpoint that was announced. */
  readonly lastCheckpoint: CheckpointedRecord | null;
  /** Whether the run came to its end and was not resumed since. */
  readonly finished: boolean;
}

export const EMPTY_HISTORY: HistorySummary = {
  opened: null,
  lastStep: 0,
  tokens: 0,
  lastCheckpoint: null,
  finished: false,
};

/** Why `record` cannot come next, or null when it can. */
export function faultOf(history: HistorySummary, record: HistoryRecord): string | null {
  const { opened, lastStep } = history;
  if (record.kind === 'opened') return opened === null ? null : 'a second "opened" record';
  if (opened === null) return `a "${record.kind}" record before "opened"`;
  switch (record.kind) {
    case 'committed':
    case 'skipped':
      return record.step === lastStep + 1
        ? null
        : `step ${record.step} ${record.kind} after step ${lastStep}`;
    case 'checkpointed':
      return record.step <= lastStep ? null : `checkpoint of step ${record.step} after step ${lastStep}`;
    case 'resumed':
      return record.fromStep <= lastStep ? null : `resumed from ${record.fromStep} after step ${lastStep}`;
    case 'finished':
      return record.step === lastStep ? null : `finished at step ${record.step} after step ${lastStep}`;
    default:
      return unreachable(record);
  }
}

/** The history with `record` at its end; `faultOf` has found nothing against it. */
export function withRecord(history: HistorySummary, record: HistoryRecord): HistorySummary {
  switch (record.kind) {
    case 'opened':
      return { ...history, opened: record };
    case 'committed':
      return {
        ...history,
        lastStep: record.step,
        tokens: history.tokens + record.tokens,
        finished: false,
      };
    case 'skipped':
      return { ...history, lastStep: record.step, finished: false };
    case 'checkpointed':
      return { ...history, lastCheckpoint: record };
    case 'resumed':
      return { ...history, finished: false };
    case 'finished':
      return { ...history, finished: true };
    default:
      return unreachable(record);
  }
}
