/**
 * The kernels on one thread: WebAssembly SIMD over a small memory of its own, through which the operands
 * are staged in pieces that stay in cache. Operands are arrays, or memory by its address.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { assert, LockstepError, philoxBase, type RandomKey } from '../base/index.ts';
import type { GradientPrecision } from '../config/index.ts';
import { addressOf, copyMemory, type RawValues } from '../memory/index.ts';
import type { AdamwScalars } from './adamw-scalars.ts';
import { BLOCK_FLOATS, numBlocks } from './blocks.ts';
import type { AdamwVectors, Kernels } from './kernels.ts';
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

/** What a call works on: floats, or the upper halves of floats. */
type Operand = RangeValues | RawValues;
type Floats = Float32Array | RawValues;

/** Throws DATA_MISSING when the module has not been built. */
export function createWasmKernels(gradientPrecision: GradientPrecision): WasmKernels {
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

/** What is a sum of one operand that is only measured, on one thread or several. */
export abstract class BlockMeasures implements Pick<Kernels, 'sumTree' | 'digestBlocks' | 'sumOfSquares'> {
  abstract sumTree(tree: SumTree, target: RangeValues | null, measures: SumMeasures | null): void;

  digestBlocks(data: Float32Array, blockDigests: BigUint64Array, firstBlock: number): void {
    assertRoom(data, blockDigests.length - firstBlock);
    this.sumTree({ source: data, blockDigests: null }, null, { blockDigests, blockSums: null, firstBlock });
  }

  sumOfSquares(data: Float32Array, blockSums: Float64Array, firstBlock: number): void {
    assertRoom(data, blockSums.length - firstBlock);
    this.sumTree({ source: data, blockDigests: null }, null, { blockDigests: null, blockSums, firstBlock });
  }
}

export class WasmKernels extends BlockMeasures implements Kernels {
  readonly gradientPrecision: GradientPrecision;
  readonly #wasm: KernelExports;
  readonly #flush: KernelExports['flush'];
  readonly #addFlush: KernelExports['addFlush'];
  readonly #floats: Float32Array;
  /** The same memory, for packed ranges. */
  readonly #halves: Uint16Array;
  readonly #result: Float64Array;
  /** Of the staging memory, once an operand is told by its address. */
  #address: number | null = null;

  constructor(wasm: KernelExports, gradientPrecision: GradientPrecision) {
    super();
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

  addLeaf(leaf: Floats, sums: readonly Floats[]): boolean {
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

  addFlush(target: Floats, left: Floats, right: Floats): void {
    assertOperands(target, left);
    assertOperands(target, right);
    for (let begin = 0; begin < target.length; begin += PIECE_FLOATS) {
      const floats = this.#load(FIRST, left, begin);
      this.#load(SECOND, right, begin);
      this.#addFlush(FIRST, SECOND, roundUp(floats * 4, 16));
      this.#store(FIRST, target, begin, floats);
    }
  }

  sumTree(tree: SumTree<Operand>, target: Operand | null, measures: SumMeasures | null): void {
    const length = lengthOf(tree);
    for (let begin = 0; begin < length; begin += PIECE_FLOATS) {
      const floats = Math.min(PIECE_FLOATS, length - begin);
      this.#evaluate(tree, FIRST, begin, floats);
      if (measures !== null) this.#measure(FIRST, begin, floats, measures);
      if (target !== null) this.#store(FIRST, target, begin, floats);
    }
  }

  adamw(vectors: AdamwVectors<Floats>, scalars: AdamwScalars, blockDigests: BigUint64Array | null): void {
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

  /** `first` is where in the whole mask the target begins, a multiple of 8. */
  dropoutMask(target: Floats, key: RandomKey, rate: number, first = 0): void {
    assert(rate >= 0 && rate < 1, `dropout rate ${rate} is not in [0, 1)`);
    const threshold = Math.min(Math.round(rate * 65_536), 65_535);
    const kept = Math.fround(65_536 / (65_536 - threshold));
    const { k0, k1, c1, c2, c3 } = philoxBase(key);
    for (let begin = 0; begin < target.length; begin += PIECE_FLOATS) {
      const floats = Math.min(PIECE_FLOATS, target.length - begin);
      // Eight elements to a Philox block.
      const position = (first + begin) / 8;
      this.#wasm.dropoutMask(FIRST, roundUp(floats * 4, 128), position, c1, c2, c3, k0, k1, threshold, kept);
      this.#store(FIRST, target, begin, floats);
    }
  }

  /** Copies the piece of `source` that starts at `begin` to the staging memory; returns its length in floats. */
  #load(at: number, source: Operand, begin: number): number {
    const floats = Math.min(PIECE_FLOATS, source.length - begin);
    if (source.BYTES_PER_ELEMENT === 2) {
      const packedAt = at + PIECE_BYTES / 2;
      this.#bringIn(packedAt, source, begin, floats);
      this.#wasm.unpackBfloat16(packedAt, at, roundUp(floats * 2, 16));
    } else {
      this.#bringIn(at, source, begin, floats);
    }
    return floats;
  }

  /** What it stores from is gone afterwards if it was packed. */
  #store(at: number, target: Operand, begin: number, floats: number): void {
    if (target.BYTES_PER_ELEMENT === 2) this.#wasm.packBfloat16(at, roundUp(floats * 4, 32));
    if (target instanceof Float32Array) target.set(this.#floats.subarray(at / 4, at / 4 + floats), begin);
    else if (target instanceof Uint16Array) target.set(this.#halves.subarray(at / 2, at / 2 + floats), begin);
    else {
      const bytes = target.BYTES_PER_ELEMENT;
      copyMemory(target.address + begin * bytes, this.#stagingAddress() + at, floats * bytes);
    }
  }

  #bringIn(at: number, source: Operand, begin: number, count: number): void {
    if (source instanceof Float32Array) this.#floats.set(source.subarray(begin, begin + count), at / 4);
    else if (source instanceof Uint16Array) this.#halves.set(source.subarray(begin, begin + count), at / 2);
    else {
      const bytes = source.BYTES_PER_ELEMENT;
      copyMemory(this.#stagingAddress() + at, source.address + begin * bytes, count * bytes);
    }
  }

  /** It never grows, so it stays where it is. */
  #stagingAddress(): number {
    this.#address ??= addressOf(this.#halves);
    return this.#address;
  }

  /** Digests and sums go over whole vectors: what is beyond the data must not count. */
  #zeroTail(at: number, floats: number): void {
    this.#floats.fill(0, at / 4 + floats, at / 4 + roundUp(floats, 8));
  }

  /** Leaves the piece of the tree's value that starts at `begin` at `at`, zeroed to whole vectors. */
  #evaluate(tree: SumTree<Operand>, at: number, begin: number, floats: number): void {
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

export function assertRoom(data: { readonly length: number }, room: number): void {
  assert(numBlocks(data.length) <= room, `${numBlocks(data.length)} blocks for ${room} results`);
}

/** Piece by piece, a target that overlaps an operand at another offset would overwrite what is still to be read. */
export function assertOperands(target: Floats, operand: Floats): void {
  assert(target.length === operand.length, `operands of ${target.length} and ${operand.length} floats`);
  const [one, other] = [placeOf(target), placeOf(operand)];
  const distance = Math.abs(one.at - other.at);
  assert(
    one.buffer !== other.buffer || distance === 0 || distance >= target.length * 4,
    'operands overlap in part',
  );
}

/** The memory that operands lie in, null for all that is told by its address, and the byte where. */
function placeOf(operand: Floats): { readonly buffer: ArrayBufferLike | null; readonly at: number } {
  if (operand instanceof Float32Array) return { buffer: operand.buffer, at: operand.byteOffset };
  return { buffer: null, at: operand.address };
}
