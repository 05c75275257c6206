/**
 * The helper threads of a process's element-wise arithmetic: they share long vectors with whoever calls a
 * kernel, in any thread of the process. They sleep on a word of shared memory between calls; no message
 * passes, so that callers stay synchronous.
 */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker as Thread } from 'node:worker_threads';
import { messageOf } from '../base/index.ts';
import { canReachMemory } from '../memory/index.ts';
import { CallBoard, HELPERS_MAX } from './call-board.ts';

/** At 28 bytes moved for each parameter, so many threads of AdamW ask for what two channels of memory give. */
const USEFUL_MAX = 8;
export const HOST_THREADS_MAX = HELPERS_MAX + 1;

export interface HelperData {
  readonly shared: SharedArrayBuffer;
  /** From 0. */
  readonly helper: number;
}

/** Threads for each of so many processes that share this process's cores; a container's quota of time is not seen. */
export function usefulHostThreads(numProcesses: number): number {
  const count = Math.min(USEFUL_MAX, Math.floor(availableParallelism() / numProcesses));
  return count > 1 && canHelp() ? count : 1;
}

/** Helpers work by address, and whether they live is seen in Linux's /proc. */
function canHelp(): boolean {
  return process.platform === 'linux' && canReachMemory();
}

export class HostThreads {
  /** The calling one and the helpers. */
  readonly count: number;
  /** For `createKernels` in any thread of this process; null when there are no helpers. */
  readonly shared: SharedArrayBuffer | null;
  readonly #board: CallBoard | null;
  readonly #helpers: readonly Helper[];

  /**
   * Starts `count - 1` helpers, none where the system does not allow them: see `count`. They do not keep the process
   * alive. `onTrouble` hears of one that ended by itself; the others go on, and calls with them.
   */
  constructor(count: number, onTrouble: (reason: string) => void) {
    this.count = count > 1 && canHelp() ? count : 1;
    this.#board = this.count === 1 ? null : CallBoard.create();
    this.shared = this.#board?.shared ?? null;
    const { shared } = this;
    const numHelpers = shared === null ? 0 : count - 1;
    this.#helpers = Array.from({ length: numHelpers }, (_, helper) =>
      startHelper({ shared: shared!, helper }, onTrouble),
    );
  }

  /** Resolves when the helpers are gone. Kernels that share with them go on alone. Idempotent. */
  async close(): Promise<void> {
    this.#board?.end();
    await Promise.all(
      this.#helpers.map(({ thread, ended }) => {
        // Whoever waits for its end is kept alive until then.
        thread.ref();
        return ended;
      }),
    );
  }
}

interface Helper {
  readonly thread: Thread;
  /** Resolves when it has ended, however. */
  readonly ended: Promise<void>;
}

function startHelper(data: HelperData, onTrouble: (reason: string) => void): Helper {
  // The same relative place from src/kernels and from dist/kernels.
  const path = fileURLToPath(new URL('../../dist/kernels/helper-thread.js', import.meta.url));
  const thread = new Thread(path, { workerData: data, execArgv: [] });
  thread.unref();
  thread.on('error', (error) => onTrouble(`helper thread ${data.helper} has ended: ${messageOf(error)}`));
  const ended = new Promise<void>((resolve) => {
    thread.once('exit', () => resolve());
  });
  return { thread, ended };
}
