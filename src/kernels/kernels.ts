/**
 * The float32 kernels, as their callers see them. The vectors are plain arrays over buffers of any size,
 * shared or not (a base model's do not fit one wasm memory).
 *
 * Invariants: every result is a function of the operands' bits alone, whatever the number of threads, the
 * piece size, the array's alignment or the machine; the .wat files state each order of operations, and a
 * JavaScript twin in test/support gives the same bits. Kernels of one instance never run at the same time.
 */
import type { RandomKey } from '../base/index.ts';
import type { GradientPrecision } from '../config/index.ts';
import type { AdamwScalars } from './adamw-scalars.ts';
import { CallBoard } from './call-board.ts';
import type { RangeValues, SumMeasures, SumTree } from './sum-tree.ts';
import { ThreadedKernels } from './threaded-kernels.ts';
import { createWasmKernels } from './wasm-kernels.ts';

/** The four vectors of AdamW, of equal length. `gradient` is read, the others are updated in place. */
export interface AdamwVectors<Floats = Float32Array> {
  readonly parameters: Floats;
  /** The sum over the step's tokens; `gradientScale` makes the mean of it. */
  readonly gradient: Floats;
  readonly firstMoment: Floats;
  readonly secondMoment: Floats;
}

/** Lengths must be equal where two vectors meet; a target may be an operand itself, but not overlap one in part. */
export interface Kernels {
  /** What leaves and nodes of the reduction tree are rounded to, to nearest even and after the flush. */
  readonly gradientPrecision: GradientPrecision;
  /**
   * Takes in a leaf of the reduction tree with the sums that it completes, nearest first, in one pass:
   * leaf = ((leaf + sums[0]) + sums[1]) ..., the leaf flushed and each addition as `addFlush`. Flushing makes each
   * |x| < 2^-126, -0 too, +0. In float32 all else keeps its bits; in bfloat16 a NaN becomes 0x7fc00000, and what is too
   * large for it infinite. Returns whether the leaf was all finite after that.
   */
  addLeaf(leaf: Float32Array, sums: readonly Float32Array[]): boolean;
  /** A node of the reduction tree: target = left + right with the same flush; any NaN becomes 0x7fc00000. */
  addFlush(target: Float32Array, left: Float32Array, right: Float32Array): void;
  /**
   * Writes the sum along `tree` to `target`, which may be a leaf's own memory, and takes the measures of it.
   * Null where only the measures are wanted. Digests and sums of squares are those of the floats, packed or not;
   * packing (a Uint16Array as target) is for what is rounded to bfloat16 and drops the lower half of all else.
   */
  sumTree(tree: SumTree, target: RangeValues | null, measures: SumMeasures | null): void;
  /**
   * Digests the exact bits of each block of `data`, which starts at a block's first float, into
   * `blockDigests` from index `firstBlock` on.
   */
  digestBlocks(data: Float32Array, blockDigests: BigUint64Array, firstBlock: number): void;
  /** Likewise the sum of squares of each block; not finite if an element is not. */
  sumOfSquares(data: Float32Array, blockSums: Float64Array, firstBlock: number): void;
  /**
   * One AdamW update of a range of the vector; the result does not depend on how the vector is cut.
   * `blockDigests` takes the digests of the new parameters, from the first on; null where nobody asks.
   */
  adamw(vectors: AdamwVectors, scalars: AdamwScalars, blockDigests: BigUint64Array | null): void;
  /**
   * Fills `target` with a dropout mask: 0 with probability q and 1 / (1 - q) otherwise, q being `rate`
   * rounded to a multiple of 2^-16 (and below 1), so that the mask's mean is exactly 1.
   * Element i depends on `key` and i only.
   */
  dropoutMask(target: Float32Array, key: RandomKey, rate: number): void;
}

/**
 * Kernels for the calling thread; each thread makes its own. Those that add up gradients are told in what.
 * `helpers` is what `HostThreads` gives out: long vectors are then shared with its threads, to the same bits.
 * Throws DATA_MISSING when the module has not been built.
 */
export function createKernels(
  gradientPrecision: GradientPrecision = 'float32',
  helpers: SharedArrayBuffer | null = null,
): Kernels {
  const alone = createWasmKernels(gradientPrecision);
  return helpers === null ? alone : new ThreadedKernels(alone, new CallBoard(helpers));
}
