/**
 * Cuts a step into the ranges of slots that workers pull from one queue, first come first served.
 *
 * Long ranges are few fragments (each a full-size buffer and send), short ones spread the work evenly.
 * Like workers whose number divides M get one range each. Otherwise the cut follows the tree with
 * guided self-scheduling (Polychronopoulos & Kuck, IEEE Trans. Computers C-36, 1987): a range is at
 * most the slowest worker's fair share of what is left, so ranges shrink and small ones come last, and
 * the step ends within one slot of the slowest worker of a perfect division if the speeds hold.
 *
 * Invariant: the ranges hold every slot asked for exactly once.
 */
import { assert, type SlotRange } from '../base/index.ts';
import { largestNodeAt, maximalSubtrees } from './reduction-tree.ts';

/** Speeds this close together count as equal. */
const EQUAL_SPEED_RATIO = 1.15;

/** `speeds`: each worker's slots per second, or any common multiple of it; at least one worker. */
export function planRanges(numSlots: number, speeds: readonly number[]): SlotRange[] {
  const { ratio } = compare(speeds);
  const numRanges = speeds.length;
  if (ratio <= EQUAL_SPEED_RATIO && numSlots % numRanges === 0) {
    const count = numSlots / numRanges;
    return Array.from({ length: numRanges }, (_, index) => ({ first: index * count, count }));
  }
  const slots = Array.from({ length: numSlots }, (_, slot) => slot);
  return planMissing(numSlots, slots, speeds);
}

/** The same for some of a step's slots (rising, each once): what a lost worker leaves behind. */
export function planMissing(
  numSlots: number,
  missing: readonly number[],
  speeds: readonly number[],
): SlotRange[] {
  const { slowestShare } = compare(speeds);
  // Long subtrees first, while there is time to even them out.
  const subtrees = maximalSubtrees(numSlots, missing).sort(longFirst);
  const ranges: SlotRange[] = [];
  let left = missing.length;
  for (const { first, count } of subtrees) {
    for (let at = first; at < first + count; ) {
      // The addend mends a share that rounding left just below a whole number of slots.
      const share = Math.floor(left * slowestShare + 1e-6);
      const countMax = Math.min(first + count - at, Math.max(1, share));
      const range = largestNodeAt(numSlots, at, countMax);
      ranges.push(range);
      at += range.count;
      left -= range.count;
    }
  }
  return ranges.sort(longFirst);
}

function longFirst(a: SlotRange, b: SlotRange): number {
  return b.count - a.count || a.first - b.first;
}

function compare(speeds: readonly number[]): { readonly ratio: number; readonly slowestShare: number } {
  assert(speeds.length >= 1, 'a plan needs at least one worker');
  for (const speed of speeds) assert(speed > 0 && speed < Infinity, `speed ${speed} is not positive`);
  const slowest = Math.min(...speeds);
  const sum = speeds.reduce((total, speed) => total + speed, 0);
  return { ratio: Math.max(...speeds) / slowest, slowestShare: slowest / sum };
}
