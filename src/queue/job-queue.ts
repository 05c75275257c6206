/**
 * Slot ranges over BullMQ: the coordinator's end that fills the queue, and the workers' end that
 * pulls from it by hand (PARTS section 3 tells why each call looks as it does).
 *
 * The queue delivers a job at least once. It decides nothing: the coordinator's ledger grants a job
 * before it is computed, and the reduction's cover check stands behind that.
 */
import type { Job as QueueJob } from 'bullmq';
import { messageOf } from '../base/index.ts';
import type { Deadlines } from '../config/index.ts';
import { type Job, jobId, jobSchema } from '../protocol/index.ts';
import { createConnection } from './connection.ts';
import { Queue, type Redis, Worker } from './packages.ts';

const JOB_NAME = 'slots';
/** Stalled jobs go back to the queue as often as it takes; the ledger, not a counter, ends a job's life. */
const STALLED_COUNT_MAX = 1_000_000;
/** Between looks at a queue whose Redis does not answer. */
const RETRY_MS = 200;

export interface ProducerHandlers {
  onError(reason: string): void;
  /** Redis is back, perhaps with an empty database: what should wait in the queue must be added again. */
  onReconnected(): void;
}

export class JobProducer {
  readonly #queue: Queue;
  readonly #connection: Redis;

  static async open(redisUrl: string, queueName: string, handlers: ProducerHandlers): Promise<JobProducer> {
    const connection = createConnection(redisUrl);
    const queue = new Queue(queueName, {
      connection,
      defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
    });
    queue.on('error', sayOnce(handlers.onError));
    await queue.waitUntilReady();
    connection.on('ready', () => handlers.onReconnected());
    // What an earlier coordinator of this run left behind is planned anew from the commit log.
    await queue.obliterate({ force: true });
    return new JobProducer(queue, connection);
  }

  private constructor(queue: Queue, connection: Redis) {
    this.#queue = queue;
    this.#connection = connection;
  }

  /** Adds jobs in order. A job that is in the queue already is not added again. */
  async enqueue(jobs: readonly Job[]): Promise<void> {
    await this.#queue.addBulk(
      jobs.map((job) => ({ name: JOB_NAME, data: job, opts: { jobId: jobId(job) } })),
    );
  }

  /** Removes the run's queue and disconnects. */
  async close(): Promise<void> {
    await this.#queue.obliterate({ force: true }).catch(() => {
      // Redis may be gone already; its keys are void without the commit log's plan anyway.
    });
    await this.#queue.close();
    this.#connection.disconnect();
  }
}

/** A lost Redis raises the same error many times a second; one line tells it. */
export function sayOnce(say: (reason: string) => void): (error: Error) => void {
  let last = '';
  return (error) => {
    const reason = messageOf(error);
    if (reason !== last) say(reason);
    last = reason;
  };
}

/** A job taken from the queue, held under a lock until its step commits. */
export interface LeasedJob {
  readonly id: string;
  readonly job: Job;
}

export class JobConsumer {
  readonly #worker: Worker;
  readonly #connection: Redis;
  readonly #token: string;
  readonly #deadlines: Deadlines;
  readonly #held = new Map<string, QueueJob>();
  #renewal: NodeJS.Timeout | null = null;
  #closed = false;

  static async open(
    redisUrl: string,
    queueName: string,
    token: string,
    deadlines: Deadlines,
    onError: (reason: string) => void,
  ): Promise<JobConsumer> {
    const connection = createConnection(redisUrl);
    const worker = new Worker(queueName, null, {
      connection,
      autorun: false,
      lockDuration: deadlines.lockDurationMs,
      stalledInterval: deadlines.stalledCheckMs,
      maxStalledCount: STALLED_COUNT_MAX,
    });
    worker.on('error', sayOnce(onError));
    await worker.waitUntilReady();
    await worker.startStalledCheckTimer();
    return new JobConsumer(worker, connection, token, deadlines);
  }

  private constructor(worker: Worker, connection: Redis, token: string, deadlines: Deadlines) {
    this.#worker = worker;
    this.#connection = connection;
    this.#token = token;
    this.#deadlines = deadlines;
    this.#renewal = setInterval(() => void this.#renewLocks(), deadlines.lockRenewalMs);
  }

  /** Waits for the next job; null when closed. A job whose content is no job of ours is thrown out. */
  async next(): Promise<LeasedJob | null> {
    while (!this.#closed) {
      const queued = await this.#fetch();
      if (queued === null || queued.id === undefined) continue;
      const parsed = jobSchema.safeParse(queued.data);
      if (!parsed.success || jobId(parsed.data) !== queued.id) {
        await queued.moveToFailed(new Error('not a job of this protocol'), this.#token, false);
        continue;
      }
      this.#held.set(queued.id, queued);
      return { id: queued.id, job: parsed.data };
    }
    return null;
  }

  /** One look at the queue, blocking until its limit; null when there was nothing, or no Redis. */
  async #fetch(): Promise<QueueJob | null> {
    try {
      return (await this.#worker.getNextJob(this.#token, { block: true })) ?? null;
    } catch {
      // The listener for errors has been told. Redis may be starting again: look again soon.
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      return null;
    }
  }

  /** Ends a job: its step has committed, or it was void. */
  async complete(id: string): Promise<void> {
    const queued = this.#held.get(id);
    this.#held.delete(id);
    if (queued === undefined || this.#closed) return;
    try {
      await queued.moveToCompleted(null, this.#token, false);
    } catch {
      // The lock was lost and another worker was handed the job: the ledger denies it there, and it ends.
    }
  }

  /** Gives up all leases' locks and disconnects; unfinished jobs return to the queue when they expire. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#renewal !== null) clearInterval(this.#renewal);
    await this.#worker.close(true);
    this.#connection.disconnect();
  }

  async #renewLocks(): Promise<void> {
    for (const queued of [...this.#held.values()]) {
      // 0 says that the lock is lost; the coordinator's ledger still knows who holds the range.
      await queued.extendLock(this.#token, this.#deadlines.lockDurationMs).catch(() => 0);
    }
  }
}
