/**
 * The reduction tree as its definition reads, by recursion over the whole tree: the twin of
 * src/collective/reduction-tree.ts and of everything that sums along it.
 */
import type { SlotRange } from '../../src/base/index.ts';
import type { GradientPrecision } from '../../src/config/index.ts';
import { emptyFloats } from './floats.ts';
import { addFlushTwin } from './kernel-twins.ts';

export interface NaiveNode extends SlotRange {
  readonly children: readonly [NaiveNode, NaiveNode] | null;
}

/** The node over `count` slots from `first` on: split at the largest power of two strictly below `count`. */
export function naiveTree(count: number, first = 0): NaiveNode {
  if (count === 1) return { first, count, children: null };
  let half = 1;
  while (half * 2 < count) half *= 2;
  return { first, count, children: [naiveTree(half, first), naiveTree(count - half, first + half)] };
}

/** All nodes below and including `node`, children before their parent. */
export function nodesOf(node: NaiveNode): NaiveNode[] {
  return [...(node.children ?? []).flatMap(nodesOf), node];
}

/** The topmost nodes whose slots are all among `slots`. */
export function naiveSubtrees(node: NaiveNode, slots: ReadonlySet<number>): SlotRange[] {
  const own = Array.from({ length: node.count }, (_, index) => node.first + index);
  if (own.every((slot) => slots.has(slot))) return [{ first: node.first, count: node.count }];
  return (node.children ?? []).flatMap((child) => naiveSubtrees(child, slots));
}

/** The sum over a node's leaves, `leaves[slot]` being flushed and rounded already. */
export function naiveSum(
  node: NaiveNode,
  leaves: readonly Float32Array[],
  precision: GradientPrecision = 'float32',
): Float32Array {
  if (node.children === null) return leaves[node.first]!;
  const [left, right] = node.children.map((child) => naiveSum(child, leaves, precision));
  const sum = emptyFloats(left!.length);
  addFlushTwin(sum, left!, right!, precision);
  return sum;
}
