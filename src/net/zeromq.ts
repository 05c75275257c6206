/**
 * zeromq, loaded by the thread that makes the first socket.
 *
 * All threads of a process that have loaded it share one context, which ends with the last of them. A message that
 * is not sent yet is released by that context, into a list that its sender's thread keeps: if the thread is gone
 * and the context is not, the release corrupts the heap. So one thread of a process loads it at a time. Then the
 * context ends with that thread, and before its list. An import would load it in every thread that imports this
 * room, for memory or types only, as a worker's main thread does.
 */
import { createRequire } from 'node:module';
import type * as zeromq from 'zeromq';

export function loadZeromq(): typeof zeromq {
  return createRequire(import.meta.url)('zeromq') as typeof zeromq;
}
