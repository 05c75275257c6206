/**
 * A sum of ranges to be taken along a tree in one pass over memory: for each piece that fits the cache,
 * all operands are read, digested, added up, and the result is measured and written where it belongs.
 */

/** Floats, or their upper halves where the lower ones are zero: a range that was summed in bfloat16. */
export type RangeValues = Float32Array | Uint16Array;

/** A node is left + right, by the flushing addition of `addFlush`. All leaves are of one length. */
export type SumTree<Values = RangeValues> = SumLeaf<Values> | SumNode<Values>;

export interface SumLeaf<Values = RangeValues> {
  readonly source: Values;
  /** Takes the digests of the leaf's own blocks, from the first on; null where nobody asks. */
  readonly blockDigests: BigUint64Array | null;
}

export interface SumNode<Values = RangeValues> {
  readonly left: SumTree<Values>;
  readonly right: SumTree<Values>;
}

/** What is taken of a result, each null where nobody asks. Its first float starts a block. */
export interface SumMeasures {
  readonly blockDigests: BigUint64Array | null;
  /** Sums of squares. */
  readonly blockSums: Float64Array | null;
  /** Index in both of the result's first block. */
  readonly firstBlock: number;
}

export function lengthOf(tree: SumTree<{ readonly length: number }>): number {
  return 'source' in tree ? tree.source.length : lengthOf(tree.left);
}
