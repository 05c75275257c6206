/** Worker-milliseconds by counting who is there in each millisecond; for whole milliseconds. */
import type { CapacityChange } from '../../src/chaos/index.ts';

export function naiveCapacityMs(changes: readonly CapacityChange[], fromMs: number, toMs: number): number {
  let total = 0;
  for (let ms = fromMs; ms < toMs; ms += 1) {
    total += changes.reduce((alive, { atMs, delta }) => (atMs <= ms ? alive + delta : alive), 0);
  }
  return total;
}
