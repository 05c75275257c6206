/** What the run looks like at this moment, in plain figures, for those who watch it. Pure. */
import { layoutSize } from '../base/index.ts';
import { layoutOfKey } from './layout-key.ts';
import type { RangeRecord } from './ledger.ts';
import type { Activity, CoordinatorState, WorkerPhase } from './state.ts';

export interface CoordinatorSnapshot {
  readonly generation: number;
  /** The committed step whose result the members hold. */
  readonly stateStep: number;
  readonly phase: Activity['phase'];
  /** Of the step under way; 0 when none is. */
  readonly attempt: number;
  /** Slots of the step under way that are computed. */
  readonly slotsDone: number;
  /** Floats of the model; null until a worker has told. */
  readonly parameters: number | null;
  readonly engineVersion: string | null;
  readonly workers: readonly WorkerSnapshot[];
}

export interface WorkerSnapshot {
  readonly worker: string;
  readonly host: string;
  readonly pid: number;
  readonly device: string;
  readonly phase: WorkerPhase;
  /** Of the step under way: computed, and held without a result yet. */
  readonly slotsDone: number;
  readonly slotsLeased: number;
  readonly slotsPerSecond: number | null;
  readonly residentBytes: number;
  readonly engineBytes: number | null;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export function snapshotOf(state: CoordinatorState): CoordinatorSnapshot {
  const { activity, generation, stateStep, layoutKey, engineVersion } = state;
  const underWay = activity.phase === 'computing' || activity.phase === 'reducing' ? activity : null;
  const ranges = underWay?.ledger.ranges ?? [];
  const heldBy = (holder: string) => ranges.filter((range) => range.holder === holder);
  const workers = [...state.workers.values()].map((record) => {
    const { incarnation, worker, host, pid, device, phase, speed, residentBytes } = record;
    const { engineBytes, sentBytes, receivedBytes } = record;
    return {
      ...{ worker, host, pid, device, phase, residentBytes, engineBytes, sentBytes, receivedBytes },
      slotsPerSecond: speed,
      slotsDone: numDone(heldBy(incarnation)),
      slotsLeased: numLeft(heldBy(incarnation)),
    };
  });
  return {
    ...{ generation, stateStep, engineVersion, workers },
    phase: activity.phase,
    attempt: underWay?.attempt ?? 0,
    slotsDone: numDone(ranges),
    parameters: layoutKey === null ? null : layoutSize(layoutOfKey(layoutKey)),
  };
}

function numDone(ranges: readonly RangeRecord[]): number {
  return ranges.reduce((sum, { results }) => sum + results.length, 0);
}

function numLeft(ranges: readonly RangeRecord[]): number {
  return ranges.reduce((sum, { count, results }) => sum + count - results.length, 0);
}
