/**
 * The frames that a reduction holds: floats that came in a message, floats in a peer's memory, and sums
 * of them that are not taken yet.
 *
 * A sum takes the place of one of its frames, in the frame's own bytes. One in a peer's memory has none,
 * so the sum is put off until its own value is needed: then all of it is read and added in one pass, and
 * nothing in between is ever written.
 */
import { assert } from '../base/index.ts';
import {
  combineDigests,
  type Kernels,
  numBlocks,
  type RangeValues,
  type SumLeaf,
  type SumTree,
} from '../kernels/index.ts';
import type { GradientHeader } from '../protocol/index.ts';

/** A range that came from a peer, and the digest that its header tells. */
interface ReceivedLeaf extends SumLeaf {
  readonly blockDigests: BigUint64Array;
  readonly digest: string;
  readonly from: string;
}

interface HeldFrame {
  tree: SumTree;
  /** Where a sum may be written, packed if the frame came so; null in a peer's memory. */
  readonly bytes: RangeValues | null;
}

export class HeldFrames {
  readonly #kernels: Pick<Kernels, 'sumTree'>;
  readonly #held = new Map<number, HeldFrame>();
  #numTaken = 0;

  constructor(kernels: Pick<Kernels, 'sumTree'>) {
    this.#kernels = kernels;
  }

  /** Frames taken in so far. */
  get numTaken(): number {
    return this.#numTaken;
  }

  /** Takes in a frame of `from`: the payload that came with it, or floats in the sender's memory. Returns its id. */
  take({ digest, precision }: GradientHeader, payload: Buffer | Float32Array, from: string): number {
    const inMemory = payload instanceof Float32Array;
    const source = inMemory ? payload : valuesOf(payload, precision);
    const id = this.#numTaken;
    this.#numTaken += 1;
    this.#held.set(id, { tree: leafOf(source, digest, from), bytes: inMemory ? null : source });
    return id;
  }

  treeOf(id: number): SumTree {
    return this.#get(id).tree;
  }

  /** The frame becomes this sum, of which it was a part. Returns who sent a damaged part, or null. */
  become(id: number, tree: SumTree): string | null {
    const held = this.#get(id);
    const { bytes } = held;
    if (bytes === null) {
      held.tree = tree;
      return null;
    }
    this.#kernels.sumTree(tree, bytes, null);
    held.tree = { source: bytes, blockDigests: null };
    return damagedIn(tree);
  }

  release(id: number): void {
    this.#held.delete(id);
  }

  clear(): void {
    this.#held.clear();
  }

  #get(id: number): HeldFrame {
    const held = this.#held.get(id);
    assert(held !== undefined, `frame ${id} is held`);
    return held;
  }
}

/** Whose range has another digest than its header told, once the tree was summed; null if all are right. */
export function damagedIn(tree: SumTree): string | null {
  if ('left' in tree) return damagedIn(tree.left) ?? damagedIn(tree.right);
  if (!isReceived(tree)) return null;
  return combineDigests(tree.blockDigests) === tree.digest ? null : tree.from;
}

function leafOf(source: SumLeaf['source'], digest: string | null, from: string): SumLeaf | ReceivedLeaf {
  if (digest === null) return { source, blockDigests: null };
  return { source, blockDigests: new BigUint64Array(numBlocks(source.length)), digest, from };
}

export function isReceived(tree: SumTree): tree is ReceivedLeaf {
  return 'digest' in tree;
}

/** A frame's values in place; copied only where zeromq hands out a view that is not aligned. */
function valuesOf(payload: Buffer, precision: GradientHeader['precision']): RangeValues {
  const isAligned = payload.byteOffset % 4 === 0;
  const { buffer, byteOffset, byteLength } = isAligned ? payload : Uint8Array.from(payload);
  return precision === 'bfloat16'
    ? new Uint16Array(buffer, byteOffset, byteLength / 2)
    : new Float32Array(buffer, byteOffset, byteLength / 4);
}
