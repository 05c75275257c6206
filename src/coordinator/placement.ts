/**
 * Which of the ranges that wait a worker gets. The queue decides who is next, this which of the equally long ones: one
 * that lies near those of its host in the tree, so that they can be added up before they leave the host
 * (collective/topology.ts). The first of a host gets one far from all others'. Then the ranges of like hosts with like
 * workers are one node each, if their number is a power of two.
 *
 * A job is a place in the queue. The range it is named after is what the plan put there.
 */
import type { SlotRange } from '../base/index.ts';
import { commonHeight } from '../collective/index.ts';
import type { Ledger, RangeRecord } from './ledger.ts';

/** The ledger with the range of a waiting job exchanged for that of another, if another suits the host better. */
export function placeNearHost(ledger: Ledger, id: string, isOnHost: (holder: string) => boolean): Ledger {
  const asked = ledger.ranges.find((range) => range.id === id);
  if (asked === undefined || asked.holder !== null) return ledger;
  const inOrder = ledger.ranges.toSorted((a, b) => a.first - b.first);
  const own = heightsTo(inOrder, ({ holder }) => holder !== null && isOnHost(holder));
  const foreign = heightsTo(inOrder, ({ holder }) => holder !== null && !isOnHost(holder));
  let best = inOrder.indexOf(asked);
  inOrder.forEach(({ holder, count }, index) => {
    if (holder !== null || count !== asked.count) return;
    const isNearer = own[index]! < own[best]!;
    const isFurther = own[index] === own[best] && foreign[index]! > foreign[best]!;
    if (isNearer || isFurther) best = index;
  });
  const found = inOrder[best]!;
  if (found === asked) return ledger;
  const ranges = ledger.ranges.map((range) => {
    if (range === asked) return { ...range, first: found.first };
    return range === found ? { ...range, first: asked.first } : range;
  });
  return { ...ledger, ranges };
}

/** For each of the ranges, rising, the height of the node that it has in common with the nearest that `counts`. */
function heightsTo(ranges: readonly RangeRecord[], counts: (range: RangeRecord) => boolean): number[] {
  const heights = new Array<number>(ranges.length).fill(Infinity);
  const lookFrom = (indices: Iterable<number>) => {
    let last: SlotRange | null = null;
    for (const index of indices) {
      const range = ranges[index]!;
      if (last !== null) heights[index] = Math.min(heights[index]!, commonHeight(last, range));
      if (counts(range)) last = range;
    }
  };
  const indices = [...ranges.keys()];
  lookFrom(indices);
  lookFrom(indices.reverse());
  return heights;
}
