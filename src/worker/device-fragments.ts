/**
 * The gradients of a range of slots, summed along the reduction tree on the device: as FragmentStore does on the host,
 * with the same bits. Nothing of it can be read by anyone before it has been brought home, and all of it is lost
 * with the device; what was in it can be computed again.
 */
import { assert, type ParameterLayout } from '../base/index.ts';
import { FragmentSet } from '../collective/index.ts';
import type { DeviceGradient, DeviceSums, Engine } from '../engine/index.ts';
import type { FragmentStore } from './fragment-store.ts';

export class DeviceFragments {
  readonly #sums: DeviceSums;
  readonly #microBatches: number;
  readonly #values = new Map<number, DeviceGradient>();
  #set: FragmentSet;

  constructor(sums: DeviceSums, microBatches: number) {
    this.#sums = sums;
    this.#microBatches = microBatches;
    this.#set = new FragmentSet(microBatches);
  }

  /** Adds a slot's leaf in. */
  add(slot: number, leaf: DeviceGradient): void {
    const added = this.#set.add({ first: slot, count: 1 });
    assert(added.accepted, added.accepted ? '' : added.error.message);
    this.#values.set(slot, leaf);
    for (const { left, right } of added.merges) {
      const [sum, other] = [this.#values.get(left.first), this.#values.get(right.first)];
      assert(sum !== undefined && other !== undefined, 'both sides of a merge are held');
      this.#values.set(left.first, this.#sums.add(sum, other));
      this.#values.delete(right.first);
    }
  }

  /** Reads all of it into `store`, whole or not at all, and forgets it. Throws what reading throws. */
  async bringHome(
    store: FragmentStore,
    layout: ParameterLayout,
    readInto: Engine['readInto'],
  ): Promise<void> {
    const nodes = this.#set.fragments.map((node) => ({ node, target: store.leaf() }));
    const reads = nodes.flatMap(({ node, target }) =>
      layout.map(async ({ offset, size }, place) => {
        const part = target.subarray(offset, offset + size);
        const tensor = this.#values.get(node.first)![place];
        if (tensor == null) part.fill(0);
        else await readInto(tensor, part);
      }),
    );
    // All of them, for what is still being read must not be given to others.
    const failed = (await Promise.allSettled(reads)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') {
      for (const { target } of nodes) store.release(target);
      throw failed.reason;
    }
    for (const { node, target } of nodes) store.addNode(node, target);
    this.clear();
  }

  /** Forgets everything. */
  clear(): void {
    for (const value of this.#values.values()) freeGradient(value);
    this.#values.clear();
    this.#set = new FragmentSet(this.#microBatches);
  }
}

export function freeGradient(gradient: DeviceGradient): void {
  for (const tensor of gradient) tensor?.dispose();
}
