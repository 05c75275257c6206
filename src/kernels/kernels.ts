/**
 * The float32 kernels of one thread: WebAssembly SIMD over a small memory of its own, through which
 * the operands are staged in pieces that stay in cache. The vectors themselves are plain
 * Float32Arrays over buffers of any size, shared or not (a base model's do not fit one wasm memory).
 *
 * Invariants: every result is a function of the operands' bits alone, whatever the piece size, the
 * array's alignment or the machine; the .wat files state each order of operations, and a JavaScript
 * twin in test/support gives the same bits. Kernels of one instance never run at the same time.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { assert, LockstepError, philoxBase, type RandomKey } from '../base/index.ts';
import type { GradientPrecision } from '../config/index.ts';
import type { AdamwScalars } from './adamw-scalars.ts';
import { BLOCK_FLOATS, numBlocks } from './blocks.ts';
import { lengthOf, type RangeValues, type SumMeasures, type SumTree } from './sum-tree.ts';

/** Staged at a time of each operand: 64 KiB, so that all four of AdamW stay in the second-level cache. */
const PIECE_FLOATS = 16_384;
const PIECE_BYTES = PIECE_FLOATS * 4;
/** A tree over the 65,536 slots that a step may have is 16 deep. */
const NUM_OPERANDS = 18;

/** Both in bytes: where an operand lies in the staging memory. */
const FIRST = 0;
const SECOND = PIECE_BYTES;
const THIRD = 2 * PIECE_BYTES;
const FOURTH = 3 * PIECE_BYTES;
const RESULT = NUM_OPERANDS * PIECE_BYTES;

/** The four vectors of AdamW, of equal length. `gradient` is read, the others are updated in place. */
export interface AdamwVectors {
  readonly parameters: Float32Array;
  /** The sum over the step's tokens; `gradientScale` makes the mean of it. */
  readonly gradient: Float32Array;
  readonly firstMoment: Float32Array;
  readonly secondMoment: Float32Array;
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

/** What the module exports. Addresses and lengths in bytes. */
interface KernelExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  flush(at: number, bytes: number): number;
  addFlush(left: number, right: number, bytes: number): void;
  flushBfloat16(at: number, bytes: number): number;
  addFlushBfloat16(left: number, right: number, bytes: number): void;
  packBfloat16(at: number, bytes: number): void;
  unpackBfloat16(from: number, to: number, bytes: number): void;
  digest(at: number, bytes: number, floats: number): bigint;
  sumOfSquares(at: number, bytes: number): number;
  measure(at: number, bytes: number, floats: number, sumAt: number): bigint;
  adamw(parameter: number, gradient: number, m: number, v: number, bytes: number, ...scalars: number[]): void;
  dropoutMask(at: number, bytes: number, position: number, ...rest: number[]): void;
}

/** The part used here of what the `dom` library declares and @types/node 20 does not. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/**
 * Kernels for the calling thread; each thread makes its own. Those that add up gradients are told in what.
 * Throws DATA_MISSING when the module has not been built.
 */
export function createKernels(gradientPrecision: GradientPrecision = 'float32'): Kernels {
  return new WasmKernels(instantiate(), gradientPrecision);
}

function instantiate(): KernelExports {
  // The same relative place from src/kernels and from dist/kernels.
  const path = fileURLToPath(new URL('../../dist/kernels/kernels.wasm', import.meta.url));
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(readFileSync(path));
  } catch (cause) {
    const message = `${path}: the kernels are not built; run \`npm run build\``;
    throw new LockstepError('DATA_MISSING', message, { cause });
  }
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  // The signatures are those of the .wat files, compiled from the same tree.
  return exports as KernelExports;
}

class WasmKernels implements Kernels {
  readonly gradientPrecision: GradientPrecision;
  readonly #wasm: KernelExports;
  readonly #flush: KernelExports['flush'];
  readonly #addFlush: KernelExports['addFlush'];
  readonly #floats: Float32Array;
  /** The same memory, for packed ranges. */
  readonly #halves: Uint16Array;
  readonly #result: Float64Array;

  constructor(wasm: KernelExports, gradientPrecision: GradientPrecision) {
    assert(
      wasm.memory.buffer.byteLength === RESULT + PIECE_BYTES,
      'the staging memory of memory.wat holds all operands',
    );
    this.gradientPrecision = gradientPrecision;
    this.#wasm = wasm;
    const inFloat32 = gradientPrecision === 'float32';
    this.#flush = inFloat32 ? wasm.flush : wasm.flushBfloat16;
    this.#addFlush = inFloat32 ? wasm.addFlush : wasm.addFlushBfloat16;
    this.#halves = new Uint16Array(wasm.memory.buffer);
    this.#floats = new Float32Array(wasm.memory.buffer);
    this.#result = new Float64Array(wasm.memory.buffer, RESULT, 1);
  }

  addLeaf(leaf: Float32Array, sums: readonly Float32Array[]): boolean {
    for (const sum of sums) assertOperands(leaf, sum);
    let allFinite = 1;
    for (let begin = 0; begin < leaf.length; begin += PIECE_FLOATS) {
      const floats = this.#load(FIRST, leaf, begin);
      this.#zeroTail(FIRST, floats);
      const bytes = roundUp(floats * 4, 16);
      allFinite &= this.#flush(FIRST, bytes);
      for (const sum of sums) {
        this.#load(SECOND, sum, begin);
        this.#addFlush(FIRST, SECOND, bytes);
      }
      this.#store(FIRST, leaf, begin, floats);
    }
    return allFinite === 1;
  }

  addFlush(target: Float32Array, left: Float32Array, right: Float32Array): void {
    assertOperands(target, left);
    assertOperands(target, right);
    for (let begin = 0; begin < target.length; begin += PIECE_FLOATS) {
      const floats = this.#load(FIRST, left, begin);
      this.#load(SECOND, right, begin);
      this.#addFlush(FIRST, SECOND, roundUp(floats * 4, 16));
      this.#store(FIRST, target, begin, floats);
    }
  }

  sumTree(tree: SumTree, target: RangeValues | null, measures: SumMeasures | null): void {
    const length = lengthOf(tree);
    for (let begin = 0; begin < length; begin += PIECE_FLOATS) {
      const floats = Math.min(PIECE_FLOATS, length - begin);
      this.#evaluate(tree, FIRST, begin, floats);
      if (measures !== null) this.#measure(FIRST, begin, floats, measures);
      if (target !== null) this.#store(FIRST, target, begin, floats);
    }
  }

  digestBlocks(data: Float32Array, blockDigests: BigUint64Array, firstBlock: number): void {
    assertRoom(data, blockDigests.length - firstBlock);
    this.sumTree({ source: data, blockDigests: null }, null, { blockDigests, blockSums: null, firstBlock });
  }

  sumOfSquares(data: Float32Array, blockSums: Float64Array, firstBlock: number): void {
    assertRoom(data, blockSums.length - firstBlock);
    this.sumTree({ source: data, blockDigests: null }, null, { blockDigests: null, blockSums, firstBlock });
  }

  adamw(vectors: AdamwVectors, scalars: AdamwScalars, blockDigests: BigUint64Array | null): void {
    const { parameters, gradient, firstMoment, secondMoment } = vectors;
    if (blockDigests !== null) assertRoom(parameters, blockDigests.length);
    for (const other of [gradient, firstMoment, secondMoment]) assertOperands(parameters, other);
    for (let begin = 0; begin < parameters.length; begin += PIECE_FLOATS) {
      const floats = this.#load(FIRST, parameters, begin);
      this.#load(SECOND, gradient, begin);
      this.#load(THIRD, firstMoment, begin);
      this.#load(FOURTH, secondMoment, begin);
      this.#wasm.adamw(
        FIRST,
        SECOND,
        THIRD,
        FOURTH,
        roundUp(floats * 4, 16),
        scalars.gradientScale,
        scalars.beta1,
        scalars.oneMinusBeta1,
        scalars.beta2,
        scalars.oneMinusBeta2,
        scalars.correction1,
        scalars.correction2,
        scalars.epsilon,
        scalars.weightDecay,
        scalars.learningRate,
      );
      this.#zeroTail(FIRST, floats);
      this.#measure(FIRST, begin, floats, { blockDigests, blockSums: null, firstBlock: 0 });
      this.#store(FIRST, parameters, begin, floats);
      this.#store(THIRD, firstMoment, begin, floats);
      this.#store(FOURTH, secondMoment, begin, floats);
    }
  }

  dropoutMask(target: Float32Array, key: RandomKey, rate: number): void {
    assert(rate >= 0 && rate < 1, `dropout rate ${rate} is not in [0, 1)`);
    const threshold = Math.min(Math.round(rate * 65_536), 65_535);
    const kept = Math.fround(65_536 / (65_536 - threshold));
    const { k0, k1, c1, c2, c3 } = philoxBase(key);
    for (let begin = 0; begin < target.length; begin += PIECE_FLOATS) {
      const floats = Math.min(PIECE_FLOATS, target.length - begin);
      // Eight elements to a Philox block.
      const position = begin / 8;
      this.#wasm.dropoutMask(FIRST, roundUp(floats * 4, 128), position, c1, c2, c3, k0, k1, threshold, kept);
      this.#store(FIRST, target, begin, floats);
    }
  }

  /** Copies the piece of `source` that starts at `begin` to the staging memory; returns its length in floats. */
  #load(at: number, source: RangeValues, begin: number): number {
    if (source instanceof Uint16Array) {
      const packed = source.subarray(begin, begin + PIECE_FLOATS);
      const packedAt = at + PIECE_BYTES / 2;
      this.#halves.set(packed, packedAt / 2);
      this.#wasm.unpackBfloat16(packedAt, at, roundUp(packed.byteLength, 16));
      return packed.length;
    }
    const piece = source.subarray(begin, begin + PIECE_FLOATS);
    this.#floats.set(piece, at / 4);
    return piece.length;
  }

  /** What it stores from is gone afterwards if it was packed. */
  #store(at: number, target: RangeValues, begin: number, floats: number): void {
    if (target instanceof Uint16Array) {
      this.#wasm.packBfloat16(at, roundUp(floats * 4, 32));
      target.set(this.#halves.subarray(at / 2, at / 2 + floats), begin);
      return;
    }
    target.set(this.#floats.subarray(at / 4, at / 4 + floats), begin);
  }

  /** Digests and sums go over whole vectors: what is beyond the data must not count. */
  #zeroTail(at: number, floats: number): void {
    this.#floats.fill(0, at / 4 + floats, at / 4 + roundUp(floats, 8));
  }

  /** Leaves the piece of the tree's value that starts at `begin` at `at`, zeroed to whole vectors. */
  #evaluate(tree: SumTree, at: number, begin: number, floats: number): void {
    if ('source' in tree) {
      const { source, blockDigests } = tree;
      assert(source.length >= begin + floats, 'operands of one length');
      this.#load(at, source, begin);
      this.#zeroTail(at, floats);
      this.#measure(at, begin, floats, { blockDigests, blockSums: null, firstBlock: 0 });
      return;
    }
    const other = at + PIECE_BYTES;
    assert(other < NUM_OPERANDS * PIECE_BYTES, 'the staging memory is as deep as the tree');
    this.#evaluate(tree.left, at, begin, floats);
    this.#evaluate(tree.right, other, begin, floats);
    this.#addFlush(at, other, roundUp(floats * 4, 32));
  }

  #measure(at: number, begin: number, floats: number, measures: SumMeasures): void {
    const { blockDigests, blockSums, firstBlock } = measures;
    for (let within = 0; within < floats; within += BLOCK_FLOATS) {
      const block = firstBlock + (begin + within) / BLOCK_FLOATS;
      const blockFloats = Math.min(BLOCK_FLOATS, floats - within);
      const bytes = roundUp(blockFloats * 4, 32);
      const blockAt = at + within * 4;
      if (blockDigests !== null && blockSums !== null) {
        blockDigests[block] = this.#wasm.measure(blockAt, bytes, blockFloats, RESULT);
        blockSums[block] = this.#result[0]!;
      } else if (blockDigests !== null) {
        blockDigests[block] = this.#wasm.digest(blockAt, bytes, blockFloats);
      } else if (blockSums !== null) {
        blockSums[block] = this.#wasm.sumOfSquares(blockAt, bytes);
      }
    }
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

function assertRoom(data: Float32Array, room: number): void {
  assert(numBlocks(data.length) <= room, `${numBlocks(data.length)} blocks for ${room} results`);
}

/** Piece by piece, a target that overlaps an operand at another offset would overwrite what is still to be read. */
function assertOperands(target: Float32Array, operand: Float32Array): void {
  assert(target.length === operand.length, `operands of ${target.length} and ${operand.length} floats`);
  const distance = Math.abs(target.byteOffset - operand.byteOffset);
  assert(
    target.buffer !== operand.buffer || distance === 0 || distance >= target.byteLength,
    'operands overlap in part',
  );
}
