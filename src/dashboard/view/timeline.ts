/**
 * The newest steps by worker and phase. A worker tells the times of a step together with its vote on the
 * next one, so lanes are filled in behind the newest step. Pure; memory is bounded by the number of steps.
 */
import { PHASES, type PhaseTimes, type TimelineView } from '../contract.ts';
import type { CommittedRecord, ReportedRecord } from './record.ts';
import { Ring } from './ring.ts';

const STEPS_MAX = 60;

interface Entry {
  readonly step: number;
  readonly attempt: number;
  readonly repeated: boolean;
  /** Null for the first after a start, which is as long as its longest lane. */
  readonly stepMs: number | null;
  readonly endedAt: number;
  readonly lanes: Map<string, PhaseTimes>;
}

export class Timeline {
  readonly #steps = new Ring<Entry>(STEPS_MAX);

  commit({ step, attempt, repeated, at, stepMs }: CommittedRecord): void {
    this.#steps.push({ step, attempt, repeated, stepMs, endedAt: at, lanes: new Map() });
  }

  report({ step, worker, times }: ReportedRecord): void {
    const entry = this.#steps.items.findLast((candidate) => candidate.step === step);
    entry?.lanes.set(worker, times);
  }

  view(): TimelineView {
    const steps = this.#steps.items.map(({ step, attempt, repeated, stepMs, endedAt, lanes }) => ({
      ...{ step, attempt, repeated, endedAt },
      startedAt: endedAt - (stepMs ?? Math.max(0, ...[...lanes.values()].map(sumOf))),
      lanes: [...lanes].map(([worker, phases]) => ({ worker, phases })).sort(byWorker),
    }));
    const workers = new Set(steps.flatMap(({ lanes }) => lanes.map(({ worker }) => worker)));
    return { workers: [...workers].sort(inNaturalOrder), steps };
  }
}

function byWorker(a: { readonly worker: string }, b: { readonly worker: string }): number {
  return inNaturalOrder(a.worker, b.worker);
}

function sumOf(times: PhaseTimes): number {
  return PHASES.reduce((sum, phase) => sum + times[phase], 0);
}

/** `worker-2` before `worker-10`. */
export function inNaturalOrder(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
