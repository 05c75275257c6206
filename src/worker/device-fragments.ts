/**
 * The gradients of a range of slots, summed along the reduction tree on the device: as FragmentStore does on the host,
 * with the same bits. Nothing of it can be read by anyone before it has been brought home, and all of it is lost
 * with the device; what was in it can be computed again.
 */
import type { ParameterLayout } from '../base/index.ts';
import type { DeviceGradient, DeviceSums, Engine } from '../engine/index.ts';
import type { FragmentStore } from './fragment-store.ts';
import { PartialSums } from './partial-sums.ts';

export class DeviceFragments {
  readonly #device: DeviceSums;
  readonly #sums: PartialSums<DeviceGradient>;

  constructor(device: DeviceSums, microBatches: number) {
    this.#device = device;
    this.#sums = new PartialSums(microBatches);
  }

  /** Adds a slot's leaf in. */
  add(slot: number, leaf: DeviceGradient): void {
    this.#sums.add({ first: slot, count: 1 }, (completed) =>
      completed.reduce((sum, other) => this.#device.add(sum, other), leaf),
    );
  }

  /** Reads all of it into `store`, whole or not at all, and forgets it. Throws what reading throws. */
  async bringHome(
    store: FragmentStore,
    layout: ParameterLayout,
    readInto: Engine['readInto'],
  ): Promise<void> {
    const nodes = this.#sums.all().map(({ node, value }) => ({ node, value, target: store.leaf() }));
    const reads = nodes.flatMap(({ value, target }) =>
      layout.map(async ({ offset, size }, place) => {
        const part = target.subarray(offset, offset + size);
        const tensor = value[place];
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
    for (const value of this.#sums.clear()) freeGradient(value);
  }
}

export function freeGradient(gradient: DeviceGradient): void {
  for (const tensor of gradient) tensor?.dispose();
}
