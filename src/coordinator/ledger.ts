/**
 * The ledger of one step: which range of slots is waiting, leased to whom, and how far computed.
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
  /** Of the slots computed so far, which a holder computes in order. */
  readonly results: readonly SlotResult[];
  /** When it was leased or its newest result came. */
  readonly sinceMs: number;
  /** The holder was asked to hand slots back, and has not answered. */
  readonly takingBack: boolean;
}

export interface Ledger {
  readonly run: string;
  readonly step: number;
  readonly microBatches: number;
  /** Serial number of the newest plan. */
  readonly plan: number;
  /** By slot, the most milliseconds that a holder had spent on it when it was taken back unfinished. */
  readonly lostMs: Readonly<Record<number, number>>;
  readonly ranges: readonly RangeRecord[];
}

function recordsOf(
  ledger: Omit<Ledger, 'ranges'>,
  generation: number,
  ranges: readonly SlotRange[],
): RangeRecord[] {
  return ranges.map(({ first, count }) => {
    const job = { run: ledger.run, generation, step: ledger.step, plan: ledger.plan, first, count };
    return {
      ...{ first, count, job, id: jobId(job) },
      ...{ holder: null, results: [], sinceMs: 0, takingBack: false },
    };
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
  const head = { run, step, microBatches, plan: 0, lostMs: {} };
  return { ...head, ranges: recordsOf(head, generation, planRanges(microBatches, speeds)) };
}

export type LeaseVerdict =
  | { readonly granted: true; readonly ledger: Ledger; readonly first: number }
  | { readonly granted: false; readonly reason: string };

/** Grants a job, and with it the range that begins at `first`, to a worker unless it is void or another holds it. Asking twice is harmless. */
export function lease(ledger: Ledger, id: string, incarnation: string, nowMs: number): LeaseVerdict {
  const index = ledger.ranges.findIndex((range) => range.id === id);
  const range = ledger.ranges[index];
  if (range === undefined) return { granted: false, reason: 'the job belongs to no current plan' };
  if (range.holder !== null && range.holder !== incarnation) {
    return { granted: false, reason: 'another worker holds the job' };
  }
  if (range.results.length > 0) return { granted: false, reason: 'the job is being computed already' };
  const leased = { ...range, holder: incarnation, sinceMs: nowMs };
  return { granted: true, ledger: replace(ledger, index, [leased]), first: range.first };
}

/** Notes slots as computed; null when the sender does not hold them or they are not the range's next. */
export function complete(
  ledger: Ledger,
  id: string,
  incarnation: string,
  results: readonly SlotResult[],
  nowMs: number,
): Ledger | null {
  const index = ledger.ranges.findIndex((range) => range.id === id);
  const range = ledger.ranges[index];
  if (range === undefined || range.holder !== incarnation) return null;
  const next = range.first + range.results.length;
  const fits =
    range.results.length + results.length <= range.count &&
    results.every((result, place) => result.slot === next + place);
  if (!fits) return null;
  return replace(ledger, index, [{ ...range, results: [...range.results, ...results], sinceMs: nowMs }]);
}

/** The holder was asked for slots of this range. */
export function noteTakingBack(ledger: Ledger, id: string): Ledger {
  const index = ledger.ranges.findIndex((range) => range.id === id);
  return replace(ledger, index, [{ ...ledger.ranges[index]!, takingBack: true }]);
}

export interface Reopened {
  readonly ledger: Ledger;
  /** Ranges that must go into the queue. */
  readonly reopened: readonly RangeRecord[];
}

/**
 * A worker hands slots of a range back, from `first` on: a range it holds, or one it took from the queue
 * and does not want. They are planned anew. Null when they are not its to hand back.
 */
export function handBack(
  ledger: Ledger,
  id: string,
  incarnation: string,
  first: number,
  generation: number,
  speeds: readonly number[],
  nowMs: number,
): Reopened | null {
  const index = ledger.ranges.findIndex((range) => range.id === id);
  const range = ledger.ranges[index];
  if (range === undefined || (range.holder !== null && range.holder !== incarnation)) return null;
  // One that was not granted goes back whole, whichever range the worker took the job for.
  const numKept = range.holder === null ? 0 : first - range.first;
  if (numKept < range.results.length || numKept > range.count) return null;
  const kept = numKept === 0 ? [] : [{ ...range, count: numKept, takingBack: false }];
  const missing = Array.from({ length: range.count - numKept }, (_, place) => range.first + numKept + place);
  const left = replace(ledger, index, kept);
  if (!range.takingBack || numKept > range.results.length) return planAnew(left, missing, generation, speeds);
  const spentMs = Math.max(nowMs - range.sinceMs, ledger.lostMs[first] ?? 0);
  return planAnew({ ...left, lostMs: { ...ledger.lostMs, [first]: spentMs } }, missing, generation, speeds);
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
): Reopened {
  const isKept = ({ holder }: RangeRecord) => holder !== null && !isLost(holder);
  const missing = ledger.ranges
    .filter((range) => !isKept(range))
    .flatMap(({ first, count }) => Array.from({ length: count }, (_, place) => first + place));
  missing.sort((a, b) => a - b);
  return planAnew({ ...ledger, ranges: ledger.ranges.filter(isKept) }, missing, generation, speeds);
}

/** `missing`: slots that no range of the ledger holds, rising. */
function planAnew(
  ledger: Ledger,
  missing: readonly number[],
  generation: number,
  speeds: readonly number[],
): Reopened {
  if (missing.length === 0) return { ledger, reopened: [] };
  const head = { ...ledger, plan: ledger.plan + 1 };
  const reopened = recordsOf(head, generation, planMissing(ledger.microBatches, missing, speeds));
  return { ledger: { ...head, ranges: [...ledger.ranges, ...reopened] }, reopened };
}

/** Leased and not wholly computed. */
export function isOpen(range: RangeRecord): boolean {
  return range.holder !== null && range.results.length < range.count;
}

export function isComplete(ledger: Ledger): boolean {
  return ledger.ranges.every((range) => range.results.length === range.count);
}

/** Each slot's result and the incarnation that computed it, in slot order. The ledger must be complete. */
export function outcomes(ledger: Ledger): { readonly holder: string; readonly result: SlotResult }[] {
  const bySlot = new Array<{ holder: string; result: SlotResult } | undefined>(ledger.microBatches);
  for (const { id, holder, count, results } of ledger.ranges) {
    assert(holder !== null && results.length === count, `range ${id} is not computed`);
    for (const result of results) {
      assert(bySlot[result.slot] === undefined, `slot ${result.slot} was computed twice`);
      bySlot[result.slot] = { holder, result };
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

function replace(ledger: Ledger, index: number, ranges: readonly RangeRecord[]): Ledger {
  return { ...ledger, ranges: ledger.ranges.toSpliced(index, 1, ...ranges) };
}
