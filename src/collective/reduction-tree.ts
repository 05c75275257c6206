/**
 * The reduction tree over the slots 0 .. M-1: binary and left-balanced, split at the largest power
 * of two strictly below a node's count (the shape of RFC 6962's Merkle tree, section 2.1). It depends
 * on M alone; a node is the range of slots below it. For M = 6:
 *
 *               [0,6)
 *          [0,4)     [4,6)
 *      [0,2) [2,4)   4   5
 *      0  1  2  3
 *
 * All walks start at the root and take O(log M).
 */
import { assert, type SlotRange } from '../base/index.ts';

export function rootOf(numSlots: number): SlotRange {
  assert(Number.isInteger(numSlots) && numSlots >= 1, `a step of ${numSlots} slots has no tree`);
  return { first: 0, count: numSlots };
}

/** The two halves of an inner node; null for a leaf. */
export function childrenOf(node: SlotRange): { readonly left: SlotRange; readonly right: SlotRange } | null {
  if (node.count === 1) return null;
  const half = 2 ** (31 - Math.clz32(node.count - 1));
  return {
    left: { first: node.first, count: half },
    right: { first: node.first + half, count: node.count - half },
  };
}

export function isNode(numSlots: number, range: SlotRange): boolean {
  return pathTo(numSlots, range) !== null;
}

/** Null for the root; the range must be a node. */
export function parentOf(numSlots: number, node: SlotRange): SlotRange | null {
  return nodePath(numSlots, node).at(-2) ?? null;
}

/** The other child of the node's parent; null for the root. */
export function siblingOf(numSlots: number, node: SlotRange): SlotRange | null {
  const parent = parentOf(numSlots, node);
  const children = parent === null ? null : childrenOf(parent);
  if (children === null) return null;
  return children.left.first === node.first ? children.right : children.left;
}

/** The largest node that starts at `first` and has at most `countMax` slots (at least 1). */
export function largestNodeAt(numSlots: number, first: number, countMax: number): SlotRange {
  assert(first >= 0 && first < numSlots, `slot ${first} is not below ${numSlots}`);
  assert(countMax >= 1, `no node has at most ${countMax} slots`);
  let node = rootOf(numSlots);
  for (;;) {
    if (node.first === first && node.count <= countMax) return node;
    const children = childrenOf(node);
    assert(children !== null, 'a leaf holds its slot');
    node = first < children.right.first ? children.left : children.right;
  }
}

/**
 * The height of the smallest node that holds two ranges: nodes of height h are the blocks of 2^h slots that begin at
 * multiples of 2^h, cut off at M.
 */
export function commonHeight(a: SlotRange, b: SlotRange): number {
  const first = Math.min(a.first, b.first);
  const last = Math.max(a.first + a.count, b.first + b.count) - 1;
  return 32 - Math.clz32(first ^ last);
}

/**
 * The fewest nodes that together hold exactly the given slots (rising, each once), in slot order: what
 * is left to send of these slots once all possible sums are taken.
 */
export function maximalSubtrees(numSlots: number, slots: readonly number[]): SlotRange[] {
  slots.forEach((slot, index) => {
    assert(Number.isInteger(slot) && slot >= 0 && slot < numSlots, `slot ${slot} is not below ${numSlots}`);
    assert(index === 0 || slot > slots[index - 1]!, `slot ${slot} is out of order or given twice`);
  });
  const found: SlotRange[] = [];
  let next = 0;
  while (next < slots.length) {
    const first = slots[next]!;
    let run = 1;
    while (slots[next + run] === first + run) run += 1;
    const node = largestNodeAt(numSlots, first, run);
    found.push(node);
    next += node.count;
  }
  return found;
}

/** The nodes from the root down to `range`, or null when it is not one of them. */
function pathTo(numSlots: number, range: SlotRange): SlotRange[] | null {
  let node = rootOf(numSlots);
  const path = [node];
  while (node.first !== range.first || node.count !== range.count) {
    const children = childrenOf(node);
    if (children === null) return null;
    node = range.first < children.right.first ? children.left : children.right;
    path.push(node);
  }
  return path;
}

function nodePath(numSlots: number, node: SlotRange): SlotRange[] {
  const path = pathTo(numSlots, node);
  assert(path !== null, `slots ${node.first}+${node.count} are no node of the tree over ${numSlots}`);
  return path;
}
