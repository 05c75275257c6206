/** Who shares a host with whom, as far as that matters: workers that can reach each other's memory. */
import type { MemoryAddress } from './messages.ts';

/** A number for each worker, equal for those of one host. One without such memory is alone. */
export function hostsOf(workers: readonly { readonly peerMemory: MemoryAddress | null }[]): number[] {
  const numbers = new Map<string, number>();
  return workers.map(({ peerMemory }, index) => {
    const domain = peerMemory?.domain;
    if (domain === undefined) return index;
    const known = numbers.get(domain) ?? index;
    numbers.set(domain, known);
    return known;
  });
}
