/**
 * What a simulation puts to the test: the machines of coordinator, worker and collective, and what the
 * driver's disk keeps. A run of the product uses `REAL_PARTS`; tests that plant faults replace one part
 * by a broken one (test/simulation), which is how it is known that the simulator would find it.
 */
import { AllReduce, type AllReduceConfig } from '../collective/index.ts';
import { transition as coordinate } from '../coordinator/index.ts';
import { transition as live } from '../worker/index.ts';

export interface Parts {
  readonly coordinate: typeof coordinate;
  readonly live: typeof live;
  reduce(config: AllReduceConfig): Pick<AllReduce, 'step' | 'awaited'>;
  /** Whether the driver syncs a file before it goes on. */
  readonly synced: { readonly log: boolean; readonly checkpoint: boolean };
}

export const REAL_PARTS: Parts = {
  coordinate,
  live,
  reduce: (config) => new AllReduce(config),
  synced: { log: true, checkpoint: true },
};
