/**
 * The ledger of one step: which range of slots is waiting, leased to whom, or computed by whom.
 *
 * Invariant: the ranges cover the slots 0 .. M-1 exactly once at every moment. The queue delivers
 * a job at least once; this ledger grants each range to one holder and so makes it exactly once.
 */
import { assert, type SlotRange } from '../base/index.ts';
import { planMissing, planRanges } from '../collective/index.ts';
import { type Job, jobId, type SlotResult } from '../protocol/index.ts';

export interface RangeRecord extends SlotRange {
  readonly job: Job;
  readonly id: string;
  /** Incarnation of the worker that holds the lease, or null while the range waits in the queue. */
  readonly holder: string | null;
  /** Each slot's result once the holder has computed the range. */
  readonly results: readonly SlotResult[] | null;
}

export interface Ledger {
  readonly run: string;
  readonly step: number;
  readonly microBatches: number;
  /** Serial number of the newest plan. */
  readonly plan: number;
  readonly ranges: readonly RangeRecord[];
}

function recordsOf(
  ledger: Omit<Ledger, 'ranges'>,
  generation: number,
  ranges: readonly SlotRange[],
): RangeRecord[] {
  return ranges.map(({ first, count }) => {
    const job = { run: ledger.run, generation, step: ledger.step, plan: ledger.plan, first, count };
    return { first, count, job, id: jobId(job), holder: null, results: null };
  });
}

/** Cuts a step into ranges for workers of the given speeds (slots per second). */
export function openLedger(
  run: string,
  generation: number,
  step: number,
  microBatches: number,
  speeds: readonly number[],
): Ledger {
  const head = { run, step, microBatches, plan: 0 };
  return { ...head, ranges: recordsOf(head, generation, planRanges(microBatches, speeds)) };
}

export type LeaseVerdict =
  | { readonly granted: true; readonly ledger: Ledger }
  | { readonly granted: false; readonly reason: string };

/** Grants a job to a worker unless it is void or another holds it. Asking twice is harmless. */
export function lease(ledger: Ledger, id: string, incarnation: string): LeaseVerdict {
  const index = ledger.ranges.findIndex((range) => range.id === id);
  const range = ledger.ranges[index];
  if (range === undefined) return { granted: false, reason: 'the job belongs to no current plan' };
  if (range.holder !== null && range.holder !== incarnation) {
    return { granted: false, reason: 'another worker holds the job' };
  }
  if (range.results !== null) return { granted: false, reason: 'the job is computed already' };
  return { granted: true, ledger: replace(ledger, index, { ...range, holder: incarnation }) };
}

/** Notes a range as computed; null when the sender does not hold it or the results are not its slots'. */
export function complete(
  ledger: Ledger,
  id: string,
  incarnation: string,
  results: readonly SlotResult[],
): Ledger | null {
  const index = ledger.ranges.findIndex((range) => range.id === id);
  const range = ledger.ranges[index];
  if (range === undefined || range.holder !== incarnation || range.results !== null) return null;
  const fits =
    results.length === range.count && results.every((result, place) => result.slot === range.first + place);
  return fits ? replace(ledger, index, { ...range, results }) : null;
}

/**
 * Goes on without lost workers: their ranges are planned anew, and so are those that wait, since a lost
 * worker may have taken one from the queue without having said so. The survivors keep theirs.
 */
export function reclaim(
  ledger: Ledger,
  generation: number,
  isLost: (incarnation: string) => boolean,
  speeds: readonly number[],
): { readonly ledger: Ledger; readonly reopened: readonly RangeRecord[] } {
  const isKept = ({ holder }: RangeRecord) => holder !== null && !isLost(holder);
  const kept = ledger.ranges.filter(isKept);
  const missing = ledger.ranges
    .filter((range) => !isKept(range))
    .flatMap(({ first, count }) => Array.from({ length: count }, (_, place) => first + place));
  if (missing.length === 0) return { ledger, reopened: [] };
  missing.sort((a, b) => a - b);
  const head = { ...ledger, plan: ledger.plan + 1 };
  const reopened = recordsOf(head, generation, planMissing(ledger.microBatches, missing, speeds));
  return { ledger: { ...head, ranges: [...kept, ...reopened] }, reopened };
}

export function isComplete(ledger: Ledger): boolean {
  return ledger.ranges.every((range) => range.results !== null);
}

/** Each slot's result and the incarnation that computed it, in slot order. The ledger must be complete. */
export function outcomes(ledger: Ledger): { readonly holder: string; readonly result: SlotResult }[] {
  const bySlot = new Array<{ holder: string; result: SlotResult } | undefined>(ledger.microBatches);
  for (const range of ledger.ranges) {
    assert(range.results !== null && range.holder !== null, `range ${range.id} is not computed`);
    for (const result of range.results) {
      assert(bySlot[result.slot] === undefined, `slot ${result.slot} was computed twice`);
      bySlot[result.slot] = { holder: range.holder, result };
    }
  }
  return Array.from(bySlot, (entry, slot) => {
    assert(entry !== undefined, `slot ${slot} was not computed`);
    return entry;
  });
}

/** The ranges nobody holds: what must be in the queue. */
export function waiting(ledger: Ledger): readonly RangeRecord[] {
  return ledger.ranges.filter((range) => range.holder === null);
}

function replace(ledger: Ledger, index: number, range: RangeRecord): Ledger {
  return { ...ledger, ranges: ledger.ranges.with(index, range) };
}
