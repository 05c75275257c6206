/**
 * Tasks over BullMQ for work that may be done twice without harm: the end that hands them out and hears how they ended,
 * and the end that does them, one at a time. A task whose worker dies goes to another when its lock has run out; one that
 * has cost three workers their lives is given up. After a restart of Redis the producer is told to add again.
 */
import type { Job } from 'bullmq';
import { ERROR_CODES, type ErrorCode, LockstepError, messageOf } from '../base/index.ts';
import { createConnection } from './connection.ts';
import { sayOnce } from './job-queue.ts';
import { Queue, QueueEvents, type Redis, Worker } from './packages.ts';

const TASK_NAME = 'task';
/** A worker that dies is missed after so long; its event loop must not be blocked half as long. */
const LOCK_MS = 10_000;
const STALLED_CHECK_MS = 3_000;
const STALLED_COUNT_MAX = 2;
const GOODBYE_MS = 2_000;

export interface Task {
  readonly id: string;
  readonly data: unknown;
}

export interface TaskHandlers {
  onDone(id: string, result: unknown): void;
  onFailed(id: string, error: Error): void;
  onError(reason: string): void;
  /** Redis is back, perhaps with an empty database: what is not done must be added again. */
  onReconnected(): void;
}

export class TaskProducer {
  readonly #queue: Queue;
  readonly #events: QueueEvents;
  readonly #connection: Redis;

  static async open(redisUrl: string, queueName: string, handlers: TaskHandlers): Promise<TaskProducer> {
    const connection = createConnection(redisUrl);
    const queue = new Queue(queueName, {
      connection,
      defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
    });
    const events = new QueueEvents(queueName, { connection });
    const say = sayOnce(handlers.onError);
    queue.on('error', say);
    events.on('error', say);
    await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
    // What an earlier producer has left is added anew, if it is not done.
    await queue.obliterate({ force: true });
    events.on('completed', ({ jobId, returnvalue }) => handlers.onDone(jobId, returnvalue));
    events.on('failed', ({ jobId, failedReason }) => handlers.onFailed(jobId, errorOf(jobId, failedReason)));
    connection.on('ready', () => handlers.onReconnected());
    return new TaskProducer(queue, events, connection);
  }

  private constructor(queue: Queue, events: QueueEvents, connection: Redis) {
    this.#queue = queue;
    this.#events = events;
    this.#connection = connection;
  }

  /** Adds tasks in order; one that waits or is being done already is not added again. */
  async add(tasks: readonly Task[]): Promise<void> {
    await this.#queue.addBulk(tasks.map(({ id, data }) => ({ name: TASK_NAME, data, opts: { jobId: id } })));
  }

  /** Removes the queue and disconnects. A Redis that does not answer is not waited for. */
  async close(): Promise<void> {
    const goodbye = this.#queue.obliterate({ force: true }).catch(() => {
      // Redis may be gone already, and its keys with it.
    });
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      goodbye,
      new Promise((resolve) => {
        timer = setTimeout(resolve, GOODBYE_MS);
      }),
    ]);
    clearTimeout(timer);
    this.#connection.disconnect();
    await Promise.allSettled([this.#events.close(), this.#queue.close()]);
  }
}

/** Does a task; `isRetry` when an earlier attempt may have left something. Its result must be JSON. */
export type PerformTask = (data: unknown, isRetry: boolean) => Promise<unknown>;

export class TaskWorker {
  readonly #worker: Worker;
  readonly #connection: Redis;

  static async open(
    redisUrl: string,
    queueName: string,
    perform: PerformTask,
    onError: (reason: string) => void,
  ): Promise<TaskWorker> {
    const connection = createConnection(redisUrl);
    const worker = new Worker(queueName, (job: Job) => performJob(job, perform), {
      connection,
      lockDuration: LOCK_MS,
      stalledInterval: STALLED_CHECK_MS,
      maxStalledCount: STALLED_COUNT_MAX,
    });
    worker.on('error', sayOnce(onError));
    await worker.waitUntilReady();
    return new TaskWorker(worker, connection);
  }

  private constructor(worker: Worker, connection: Redis) {
    this.#worker = worker;
    this.#connection = connection;
  }

  /** Ends after the task in hand. */
  async close(): Promise<void> {
    await this.#worker.close();
    this.#connection.disconnect();
  }
}

async function performJob(job: Job, perform: PerformTask): Promise<unknown> {
  try {
    return await perform(job.data, job.attemptsStarted > 1);
  } catch (error) {
    // Only the message travels; code and text of an error that a person can mend must arrive.
    if (!(error instanceof LockstepError)) throw error;
    throw new Error(JSON.stringify({ code: error.code, message: error.message }));
  }
}

function errorOf(id: string, reason: string): Error {
  try {
    const { code, message } = JSON.parse(reason) as { code?: string; message?: string };
    if (code !== undefined && message !== undefined && code in ERROR_CODES) {
      return new LockstepError(code as ErrorCode, message);
    }
  } catch {
    // Not one of ours: told below as it is.
  }
  if (/stalled/.test(reason)) {
    return new LockstepError(
      'WORKER_LOST',
      `task ${id} has lost ${STALLED_COUNT_MAX + 1} workers: look for what ended them, memory above all`,
    );
  }
  return new Error(`task ${id} failed: ${messageOf(reason)}`);
}
