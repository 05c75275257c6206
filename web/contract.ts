/**
 * The server's contract as the page sees it: its types, and the few of its constants that are needed at run time. Those are
 * written again here, checked by the compiler against the originals, so that the validation library stays out of the bundle.
 */
import type * as contract from '../src/dashboard/contract.ts';

export type * from '../src/dashboard/contract.ts';

export const CSRF_HEADER: typeof contract.CSRF_HEADER = 'x-lockstep-csrf';

export const PHASES: typeof contract.PHASES = ['data', 'compute', 'wait', 'reduce', 'commit', 'optimizer'];

export const HISTORY_KINDS: typeof contract.HISTORY_KINDS = [
  ...(['commit', 'join', 'loss', 'abort', 'divergence', 'stale', 'checkpoint', 'run'] as const),
];
