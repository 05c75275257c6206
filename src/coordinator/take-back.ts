/**
 * Which slots to take back from whom, near the end of a step: when a worker has nothing to do and would
 * finish some of another's slots sooner than their holder. Pure.
 *
 * A slot that was not begun moves without loss. One that was begun is computed a second time from the
 * start, so it is moved only when its holder is twice as late; whichever of the two settles it first
 * counts (worker/slot-gate.ts), and no slot is ever in two workers' sums. A slot that was taken back so once is
 * expected to take the next worker as long as it had taken the last: else one that is slow wherever it is computed
 * would go from hand to hand for ever.
 */
import { assert } from '../base/index.ts';
import { isOpen, type Ledger, type RangeRecord, waiting } from './ledger.ts';

export interface Hand {
  readonly incarnation: string;
  /** Slots per second. */
  readonly speed: number;
  /** Whether it takes slots: not while it drains or lags behind. */
  readonly takesSlots: boolean;
}

export interface TakeBack {
  readonly range: RangeRecord;
  /** The first slot that its holder is to hand back. */
  readonly first: number;
  /** How long the step would take from here on without, and with it, in milliseconds. */
  readonly withoutMs: number;
  readonly withMs: number;
}

/** What is gained must be this share of what is left, and this many milliseconds: messages cost some. */
const GAIN_SHARE_MIN = 0.1;
const GAIN_MS_MIN = 5;
/** How much sooner a slot that was begun must be done elsewhere. */
const BEGUN_RATIO_MIN = 2;

/** `workers`: all members. Null when nothing is to be gained, or while an answer to an earlier request is due. */
export function planTakeBack(ledger: Ledger, workers: readonly Hand[], nowMs: number): TakeBack | null {
  const open = ledger.ranges.filter(isOpen);
  if (waiting(ledger).length > 0 || open.some(({ takingBack }) => takingBack)) return null;
  const busy = new Set(open.map(({ holder }) => holder));
  const idle = workers.filter(({ incarnation, takesSlots }) => takesSlots && !busy.has(incarnation));
  if (idle.length === 0) return null;
  const slotMs = 1000 / Math.max(...idle.map(({ speed }) => speed));
  let best: TakeBack | null = null;
  for (const range of open) {
    const holder = workers.find(({ incarnation }) => incarnation === range.holder);
    assert(holder !== undefined, `the holder of ${range.id} is a member`);
    const lostMs = ledger.lostMs[range.first + range.results.length] ?? 0;
    const found = bestOf(range, 1000 / holder.speed, slotMs, lostMs, nowMs);
    if (found !== null && (best === null || found.withoutMs > best.withoutMs)) best = found;
  }
  return best;
}

/** `lostMs`: what the slot that is begun has cost in vain before. */
function bestOf(
  range: RangeRecord,
  holderSlotMs: number,
  slotMs: number,
  lostMs: number,
  nowMs: number,
): TakeBack | null {
  const numLeft = range.count - range.results.length;
  const spentMs = nowMs - range.sinceMs;
  // One that takes longer than it should is expected to take as long again.
  const begunMs = spentMs < holderSlotMs ? holderSlotMs - spentMs : spentMs;
  const withoutMs = begunMs + (numLeft - 1) * holderSlotMs;
  const begunElsewhereMs = Math.max(slotMs, lostMs);
  let best: TakeBack | null = null;
  for (let numTaken = 1; numTaken <= numLeft; numTaken += 1) {
    const takesBegun = numTaken === numLeft;
    const restMs = takesBegun ? 0 : begunMs + (numLeft - 1 - numTaken) * holderSlotMs;
    const takenMs = takesBegun ? begunElsewhereMs + (numTaken - 1) * slotMs : numTaken * slotMs;
    const withMs = Math.max(restMs, takenMs);
    if (withoutMs - withMs < Math.max(GAIN_MS_MIN, GAIN_SHARE_MIN * withoutMs)) continue;
    if (takesBegun && begunMs < BEGUN_RATIO_MIN * begunElsewhereMs) continue;
    if (best === null || withMs < best.withMs) {
      best = { range, first: range.first + range.count - numTaken, withoutMs, withMs };
    }
  }
  return best;
}
