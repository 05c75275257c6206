/**
 * A look at a run's queue from beside it: counts, the oldest lease, leases whose lock has expired, and the
 * queue itself for a board. Has a connection of its own, so that a slow look holds up no lease, and changes
 * nothing. A Redis that does not answer gives null, never an error: training has its own way to tell.
 */
import { createConnection } from './connection.ts';
import { Queue, type Redis } from './packages.ts';

/** Leases that are looked at one by one; a step has far fewer. */
const LEASES_MAX = 500;
/** A look that takes longer is given up: Redis may be gone, and the client waits for it without end. */
const LOOK_LIMIT_MS = 2000;

export interface QueueFigures {
  readonly waiting: number;
  readonly leased: number;
  /** Leased, but the lock has expired: the queue will hand them out again. */
  readonly stalled: number;
  /** Age of the oldest lease; null without leases. */
  readonly oldestLeaseMs: number | null;
}

export class QueueInspector {
  readonly name: string;
  readonly #queue: Queue;
  readonly #connection: Redis;

  /** Connects in the background. Throws CONFIG_INVALID for a URL that is none. */
  constructor(redisUrl: string, queueName: string) {
    this.name = queueName;
    this.#connection = createConnection(redisUrl);
    this.#queue = new Queue(queueName, { connection: this.#connection });
    // Each look tells for itself whether Redis answered.
    this.#queue.on('error', () => {});
    this.#connection.on('error', () => {});
  }

  /** For Bull Board, which wants BullMQ's own object. */
  get queue(): Queue {
    return this.#queue;
  }

  /** Null when Redis does not answer in time. */
  figures(): Promise<QueueFigures | null> {
    return withinLimit(async () => {
      const { wait = 0, prioritized = 0, delayed = 0 } = await this.#queue.getJobCounts();
      const leased = await this.#queue.getActive(0, LEASES_MAX - 1);
      const locks = await Promise.all(
        leased.map(({ id }) => this.#connection.exists(`${this.#queue.toKey(id ?? '')}:lock`)),
      );
      const since = leased.flatMap(({ processedOn }) => processedOn ?? []);
      return {
        waiting: wait + prioritized + delayed,
        leased: leased.length,
        stalled: locks.filter((exists) => exists === 0).length,
        oldestLeaseMs: since.length === 0 ? null : Math.max(0, Date.now() - Math.min(...since)),
      };
    });
  }

  /** The queue's metrics in Prometheus' text format, as BullMQ names them; null when Redis does not answer. */
  prometheus(): Promise<string | null> {
    return withinLimit(() => this.#queue.exportPrometheusMetrics());
  }

  async close(): Promise<void> {
    // `close` waits for a Redis that may never come back.
    await withinLimit(() => this.#queue.close());
    this.#connection.disconnect();
  }
}

async function withinLimit<T>(look: () => Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), LOOK_LIMIT_MS);
  });
  try {
    return await Promise.race([look().catch(() => null), limit]);
  } finally {
    clearTimeout(timer);
  }
}
