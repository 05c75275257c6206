/** What memory allows at best: copies of a vector that fits no cache, in GB/s (10^9 bytes copied). */
import { performance } from 'node:perf_hooks';
import { type Summary, summarize } from './statistics.ts';

const BYTES = 2 ** 27;
const ROUNDS = 7;

export function measureCopy(): Summary {
  const source = new Uint8Array(BYTES).fill(1);
  const target = new Uint8Array(BYTES).fill(2);
  const rates = Array.from({ length: ROUNDS }, () => {
    const startMs = performance.now();
    target.set(source);
    return BYTES / 1e6 / (performance.now() - startMs);
  });
  return summarize(rates);
}
