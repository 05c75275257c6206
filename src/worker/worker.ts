/**
 * A worker process: starts the comm thread beside the compute thread, carries messages between the
 * two, and ends with one outcome. Called by `lockstep worker`.
 */
import { Worker as Thread } from 'node:worker_threads';
import { HostThreads } from '../kernels/index.ts';
import { createLogger, type LogDestination } from '../logging/index.ts';
import { GradientMemory } from '../net/index.ts';
import type { CommOptions } from './comm.ts';
import { ComputeThread, type DataPlace, type EngineChoice } from './compute.ts';
import type { Ending } from './lifecycle-state.ts';
import type { FromCompute, ToCompute } from './thread-messages.ts';

type Identity = Pick<CommOptions, 'name' | 'formerly' | 'pending' | 'coordinatorLimitMs'>;

export interface WorkerOptions
  extends Omit<CommOptions, 'memory' | 'helpers' | Exclude<keyof Identity, 'name'>> {
  readonly data: DataPlace;
  readonly engine: EngineChoice;
  /** Waits so long after each micro-batch, to play a slow device; 0 for none. */
  readonly throttleMs: number;
  /** That its sums and updates are shared among; 1 where the system does not allow more. */
  readonly hostThreads: number;
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

export type WorkerOutcome = Exclude<Ending, { kind: 'evicted' }>;

export interface RunningWorker {
  readonly outcome: Promise<WorkerOutcome>;
  /** Leaves the run politely, the second time at once; `outcome` follows. */
  drain(): void;
}

/**
 * A worker that was declared lost comes back as new: with another comm thread, incarnation and sockets,
 * so that nothing of before can be taken for its own, but with engine, data and state as they are.
 */
export function startWorker(options: WorkerOptions): RunningWorker {
  const { data, engine, throttleMs, hostThreads, log, ...comm } = options;
  const logger = createLogger(log).child({ role: 'worker' });
  let link: CommLink | null = null;
  let isAskedToLeave = false;
  const memory = GradientMemory.create();
  const threads = new HostThreads(hostThreads, (reason) => logger.warn('helperLost', { reason }));
  const helpers = threads.shared;
  const counts = { count: threads.count, asked: hostThreads };
  if (threads.count < hostThreads) logger.warn('hostThreads', counts);
  else logger.info('hostThreads', counts);
  const compute = new ComputeThread({
    ...{ data, engine, throttleMs, memory, helpers },
    reply: (message) => link?.fromCompute(message),
    onDeviceRestart: ({ kind, reason }) => logger.warn('deviceRestarted', { kind, reason }),
  });

  const run = async (): Promise<WorkerOutcome> => {
    let identity: Identity = {
      name: options.name,
      formerly: null,
      pending: null,
      coordinatorLimitMs: null,
    };
    try {
      for (;;) {
        link = startCommThread({ ...comm, memory: memory.address, helpers, ...identity }, log, compute);
        if (isAskedToLeave) link.drain();
        const ending = await link.ended;
        await link.close();
        await compute.idle();
        if (ending.kind !== 'evicted') return ending;
        if (isAskedToLeave) return { kind: 'stopped', reason: ending.reason };
        logger.warn('comingBack', { reason: ending.reason });
        const { name, incarnation, pending, coordinatorLimitMs } = ending;
        identity = { name, formerly: incarnation, pending, coordinatorLimitMs };
      }
    } finally {
      compute.close();
      memory.close();
      await threads.close();
    }
  };

  return {
    outcome: run(),
    drain: () => {
      isAskedToLeave = true;
      link?.drain();
    },
  };
}

/** One comm thread, as the compute thread's side sees it. */
interface CommLink {
  readonly ended: Promise<Ending>;
  fromCompute(message: FromCompute): void;
  drain(): void;
  /** Resolves when its sockets are closed. Idempotent. */
  close(): Promise<void>;
}

function startCommThread(options: CommOptions, log: LogDestination, compute: ComputeThread): CommLink {
  const data: CommThreadData = { options, log };
  const thread = new Thread(new URL('./comm-thread.js', import.meta.url), { workerData: data });
  const tell = (message: IntoComm) => thread.postMessage(message);
  let settle: (ending: Ending) => void = () => {};
  const ended = new Promise<Ending>((resolve) => {
    settle = resolve;
  });
  const fail = (code: 'UNEXPECTED', reason: string) => settle({ kind: 'failed', code, reason });
  const exited = new Promise<void>((resolve) => {
    thread.once('exit', () => {
      fail('UNEXPECTED', 'the comm thread ended by itself');
      resolve();
    });
  });
  thread.on('message', (message: FromComm) => {
    if (message.type === 'compute') compute.handle(message.message);
    else if (message.type === 'ended') settle(message.ending);
    else if (message.type === 'failed') fail('UNEXPECTED', message.message);
  });
  thread.on('error', (error) => fail('UNEXPECTED', error.stack ?? error.message));
  return {
    ended,
    fromCompute: (message) => {
      if (message.type === 'failed') settle({ kind: 'failed', code: message.code, reason: message.message });
      else tell({ type: 'fromCompute', message });
    },
    drain: () => tell({ type: 'drain' }),
    close: async () => {
      tell({ type: 'close' });
      await exited;
    },
  };
}
