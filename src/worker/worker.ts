/**
 * A worker process: starts the comm thread beside the compute thread, carries messages between the
 * two, and ends with one outcome. Called by `lockstep worker`.
 */
import { Worker as Thread } from 'node:worker_threads';
import type { LogDestination } from '../logging/index.ts';
import type { CommOptions } from './comm.ts';
import { ComputeThread, type DataPlace } from './compute.ts';
import type { Ending } from './lifecycle.ts';
import type { FromCompute, ToCompute } from './thread-messages.ts';

export interface WorkerOptions extends CommOptions {
  readonly data: DataPlace;
  /** Waits so long after each micro-batch, to play a slow device; 0 for none. */
  readonly throttleMs: number;
  readonly log: LogDestination;
}

export interface CommThreadData {
  readonly options: CommOptions;
  readonly log: LogDestination;
}

export type IntoComm =
  | { readonly type: 'fromCompute'; readonly message: Exclude<FromCompute, { type: 'failed' }> }
  | { readonly type: 'drain' }
  | { readonly type: 'close' };

export type FromComm =
  | { readonly type: 'compute'; readonly message: ToCompute }
  | { readonly type: 'ended'; readonly ending: Ending }
  | { readonly type: 'failed'; readonly message: string }
  | { readonly type: 'closed' };

export type WorkerOutcome = Ending;

export interface RunningWorker {
  readonly outcome: Promise<WorkerOutcome>;
  /** Leaves the run politely; `outcome` follows. */
  drain(): void;
}

export function startWorker(options: WorkerOptions): RunningWorker {
  const { coordinator, token, name, host, advertisedHost, data, throttleMs, log } = options;
  const threadData: CommThreadData = { options: { coordinator, token, name, host, advertisedHost }, log };
  const thread = new Thread(new URL('./comm-thread.js', import.meta.url), { workerData: threadData });
  const tell = (message: IntoComm) => thread.postMessage(message);
  let settle: (outcome: WorkerOutcome) => void = () => {};
  const ended = new Promise<WorkerOutcome>((resolve) => {
    settle = resolve;
  });
  const closed = new Promise<void>((resolve) => {
    thread.once('exit', () => resolve());
  });
  const compute = new ComputeThread({
    data,
    throttleMs,
    reply: (message) => {
      if (message.type === 'failed') settle({ kind: 'failed', code: message.code, reason: message.message });
      else tell({ type: 'fromCompute', message });
    },
  });
  thread.on('message', (message: FromComm) => {
    if (message.type === 'compute') compute.handle(message.message);
    else if (message.type === 'ended') settle(message.ending);
    else if (message.type === 'failed')
      settle({ kind: 'failed', code: 'UNEXPECTED', reason: message.message });
  });
  thread.on('error', (error) =>
    settle({ kind: 'failed', code: 'UNEXPECTED', reason: error.stack ?? error.message }),
  );
  const outcome = ended.then(async (result) => {
    compute.close();
    tell({ type: 'close' });
    await closed;
    return result;
  });
  return { outcome, drain: () => tell({ type: 'drain' }) };
}
