/**
 * The kernels on several threads: long vectors are worked on in parts by the caller and the helpers of a
 * board, short ones by the caller alone. The calls are those of one thread, and so are the bits.
 */
import { assert, type RandomKey } from '../base/index.ts';
import type { GradientPrecision } from '../config/index.ts';
import { partOf, type RawValues, rawOf } from '../memory/index.ts';
import type { AdamwScalars } from './adamw-scalars.ts';
import { type CallBoard, PART_FLOATS } from './call-board.ts';
import { doPart, type KernelWork, type RawTree } from './kernel-call.ts';
import type { AdamwVectors, Kernels } from './kernels.ts';
import { lengthOf, type RangeValues, type SumMeasures, type SumTree } from './sum-tree.ts';
import { assertOperands, assertRoom, BlockMeasures, type WasmKernels } from './wasm-kernels.ts';

/** Below it, posting a call and waking a thread take as long as they spare. */
const SHARED_FLOATS_MIN = 4 * PART_FLOATS;

type NumberArray = Parameters<typeof rawOf>[0];

export class ThreadedKernels extends BlockMeasures implements Kernels {
  readonly #alone: WasmKernels;
  readonly #board: CallBoard;
  /** What others know by address stays where it is as long as it is here. */
  #held: NumberArray[] = [];

  constructor(alone: WasmKernels, board: CallBoard) {
    super();
    this.#alone = alone;
    this.#board = board;
  }

  get gradientPrecision(): GradientPrecision {
    return this.#alone.gradientPrecision;
  }

  addLeaf(leaf: Float32Array, sums: readonly Float32Array[]): boolean {
    for (const sum of sums) assertOperands(leaf, sum);
    const allFinite = this.#share(leaf.length, () => ({
      kernel: 'addLeaf',
      leaf: this.#raw(leaf),
      sums: sums.map((sum) => this.#raw(sum)),
    }));
    return allFinite ?? this.#alone.addLeaf(leaf, sums);
  }

  addFlush(target: Float32Array, left: Float32Array, right: Float32Array): void {
    assertOperands(target, left);
    assertOperands(target, right);
    const done = this.#share(target.length, () => ({
      kernel: 'addFlush',
      target: this.#raw(target),
      left: this.#raw(left),
      right: this.#raw(right),
    }));
    if (done === null) this.#alone.addFlush(target, left, right);
  }

  sumTree(tree: SumTree, target: RangeValues | null, measures: SumMeasures | null): void {
    const length = lengthOf(tree);
    const { blockDigests = null, blockSums = null, firstBlock = 0 } = measures ?? {};
    const done = this.#share(length, () => {
      assert(target === null || target.length >= length, 'the target is as long as the sum');
      return {
        kernel: 'sumTree',
        tree: this.#rawTree(tree, length),
        target: this.#rawOrNull(target),
        blockDigests: this.#rawResults(blockDigests, firstBlock, length),
        blockSums: this.#rawResults(blockSums, firstBlock, length),
      };
    });
    if (done === null) this.#alone.sumTree(tree, target, measures);
  }

  adamw(vectors: AdamwVectors, scalars: AdamwScalars, blockDigests: BigUint64Array | null): void {
    const { parameters, gradient, firstMoment, secondMoment } = vectors;
    for (const other of [gradient, firstMoment, secondMoment]) assertOperands(parameters, other);
    const done = this.#share(parameters.length, () => ({
      kernel: 'adamw',
      vectors: {
        parameters: this.#raw(parameters),
        gradient: this.#raw(gradient),
        firstMoment: this.#raw(firstMoment),
        secondMoment: this.#raw(secondMoment),
      },
      scalars,
      blockDigests: this.#rawResults(blockDigests, 0, parameters.length),
    }));
    if (done === null) this.#alone.adamw(vectors, scalars, blockDigests);
  }

  dropoutMask(target: Float32Array, key: RandomKey, rate: number): void {
    const work = () => ({ kernel: 'dropoutMask', target: this.#raw(target), key, rate }) as const;
    if (this.#share(target.length, work) === null) this.#alone.dropoutMask(target, key, rate);
  }

  /** Returns whether all was finite; null when the caller has to do it alone. */
  #share(length: number, workOf: () => KernelWork): boolean | null {
    if (length < SHARED_FLOATS_MIN) return null;
    const { gradientPrecision } = this;
    try {
      return this.#board.carryOut({ gradientPrecision, length, work: workOf() }, ({ work }, begin, end) =>
        doPart(this.#alone, work, begin, end),
      );
    } finally {
      this.#held = [];
    }
  }

  #raw(values: NumberArray): RawValues {
    this.#held.push(values);
    return rawOf(values);
  }

  #rawOrNull(values: NumberArray | null): RawValues | null {
    return values === null ? null : this.#raw(values);
  }

  /** Where the results of the blocks of `length` floats go. An address has no end: that there is room is seen here. */
  #rawResults(
    values: BigUint64Array | Float64Array | null,
    firstBlock: number,
    length: number,
  ): RawValues | null {
    if (values === null) return null;
    assertRoom({ length }, values.length - firstBlock);
    return partOf(this.#raw(values), firstBlock, values.length);
  }

  #rawTree(tree: SumTree, length: number): RawTree {
    if ('source' in tree) {
      const { source, blockDigests } = tree;
      assert(source.length >= length, 'operands of one length');
      return { source: this.#raw(source), blockDigests: this.#rawResults(blockDigests, 0, length) };
    }
    return { left: this.#rawTree(tree.left, length), right: this.#rawTree(tree.right, length) };
  }
}
