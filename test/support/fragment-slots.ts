/** How the compute thread brings a slot's gradient into its sums (src/worker/compute.ts). */
import type { FragmentStore } from '../../src/worker/fragment-store.ts';

export function addSlot(store: FragmentStore, slot: number, gradient: Float32Array): void {
  const leaf = store.leaf();
  leaf.set(gradient);
  store.add(slot, leaf);
}
