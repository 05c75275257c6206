/**
 * A kernel's call as it is told to other threads: operands by address, results too, so that any thread can
 * do any part of it. A part begins at a block and is a call of the same kernel on shorter vectors, which is
 * why the parts together give the bits of the whole.
 */
import type { RandomKey } from '../base/index.ts';
import type { GradientPrecision } from '../config/index.ts';
import { partOf, type RawValues, storeAt } from '../memory/index.ts';
import type { AdamwScalars } from './adamw-scalars.ts';
import { BLOCK_FLOATS, numBlocks } from './blocks.ts';
import type { AdamwVectors } from './kernels.ts';
import type { SumTree } from './sum-tree.ts';
import type { WasmKernels } from './wasm-kernels.ts';

export interface KernelCall {
  readonly gradientPrecision: GradientPrecision;
  /** Of each vector, in floats. */
  readonly length: number;
  readonly work: KernelWork;
}

/** Digests and sums of squares are wanted of the blocks of the vectors, from the first on; null where nobody asks. */
export type KernelWork =
  | { readonly kernel: 'addLeaf'; readonly leaf: RawValues; readonly sums: readonly RawValues[] }
  | {
      readonly kernel: 'addFlush';
      readonly target: RawValues;
      readonly left: RawValues;
      readonly right: RawValues;
    }
  | {
      readonly kernel: 'sumTree';
      readonly tree: RawTree;
      readonly target: RawValues | null;
      readonly blockDigests: RawValues | null;
      readonly blockSums: RawValues | null;
    }
  | {
      readonly kernel: 'adamw';
      readonly vectors: AdamwVectors<RawValues>;
      readonly scalars: AdamwScalars;
      readonly blockDigests: RawValues | null;
    }
  | {
      readonly kernel: 'dropoutMask';
      readonly target: RawValues;
      readonly key: RandomKey;
      readonly rate: number;
    };

export type RawTree =
  | { readonly source: RawValues; readonly blockDigests: RawValues | null }
  | { readonly left: RawTree; readonly right: RawTree };

/** Does the floats from `begin`, where a block starts, to `end`. False when they are a leaf's and not all finite. */
export function doPart(kernels: WasmKernels, work: KernelWork, begin: number, end: number): boolean {
  const part = (values: RawValues) => partOf(values, begin, end);
  const results = new BlockResults(begin, end);
  let allFinite = true;
  switch (work.kernel) {
    case 'addLeaf':
      allFinite = kernels.addLeaf(part(work.leaf), work.sums.map(part));
      break;
    case 'addFlush':
      kernels.addFlush(part(work.target), part(work.left), part(work.right));
      break;
    case 'sumTree': {
      const blockDigests = results.digestsFor(work.blockDigests);
      const blockSums = results.sumsFor(work.blockSums);
      const tree = partOfTree(work.tree, part, results);
      const target = work.target === null ? null : part(work.target);
      kernels.sumTree(tree, target, { blockDigests, blockSums, firstBlock: 0 });
      break;
    }
    case 'adamw': {
      const { parameters, gradient, firstMoment, secondMoment } = work.vectors;
      const vectors = {
        parameters: part(parameters),
        gradient: part(gradient),
        firstMoment: part(firstMoment),
        secondMoment: part(secondMoment),
      };
      kernels.adamw(vectors, work.scalars, results.digestsFor(work.blockDigests));
      break;
    }
    case 'dropoutMask':
      kernels.dropoutMask(part(work.target), work.key, work.rate, begin);
      break;
  }
  results.store();
  return allFinite;
}

function partOfTree(
  tree: RawTree,
  part: (values: RawValues) => RawValues,
  results: BlockResults,
): SumTree<RawValues> {
  if ('source' in tree) {
    return { source: part(tree.source), blockDigests: results.digestsFor(tree.blockDigests) };
  }
  return { left: partOfTree(tree.left, part, results), right: partOfTree(tree.right, part, results) };
}

/** Room for what a part gives of its blocks, until it goes where the call wants it. */
class BlockResults {
  readonly #firstBlock: number;
  readonly #numBlocks: number;
  readonly #taken: { readonly values: BigUint64Array | Float64Array; readonly address: number }[] = [];

  constructor(begin: number, end: number) {
    this.#firstBlock = begin / BLOCK_FLOATS;
    this.#numBlocks = numBlocks(end - begin);
  }

  digestsFor(wanted: RawValues | null): BigUint64Array | null {
    return wanted === null ? null : this.#take(wanted, new BigUint64Array(this.#numBlocks));
  }

  sumsFor(wanted: RawValues | null): Float64Array | null {
    return wanted === null ? null : this.#take(wanted, new Float64Array(this.#numBlocks));
  }

  store(): void {
    for (const { values, address } of this.#taken) storeAt(address, values);
  }

  #take<Values extends BigUint64Array | Float64Array>({ address }: RawValues, values: Values): Values {
    this.#taken.push({ values, address: address + this.#firstBlock * values.BYTES_PER_ELEMENT });
    return values;
  }
}
