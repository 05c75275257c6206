/** The queue as BullMQ keeps it (PARTS section 3): jobs by id, delivered at least once, under locks. */
import { type Job, jobId } from '../protocol/index.ts';

interface Entry {
  readonly id: string;
  readonly job: Job;
  /** Who holds the lock, or null while the job waits. */
  holder: string | null;
}

export class SimulatedQueue {
  #entries: Entry[] = [];

  /** A job whose id is there already is not added again, waiting or held. */
  add(job: Job): void {
    const id = jobId(job);
    if (!this.#entries.some((entry) => entry.id === id)) this.#entries.push({ id, job, holder: null });
  }

  get hasWaiting(): boolean {
    return this.#entries.some(({ holder }) => holder === null);
  }

  /** Hands the oldest waiting job out. */
  take(holder: string): { id: string; job: Job } | null {
    const entry = this.#entries.find((candidate) => candidate.holder === null);
    if (entry === undefined) return null;
    entry.holder = holder;
    return { id: entry.id, job: entry.job };
  }

  /** Ends a job; without effect when the lock is not the caller's any more. */
  complete(id: string, holder: string): void {
    this.#entries = this.#entries.filter((entry) => entry.id !== id || entry.holder !== holder);
  }

  heldBy(holder: string): string[] {
    return this.#entries.filter((entry) => entry.holder === holder).map(({ id }) => id);
  }

  /** A lock runs out: the job waits again. */
  expire(id: string): void {
    for (const entry of this.#entries) if (entry.id === id) entry.holder = null;
  }

  clear(): void {
    this.#entries = [];
  }
}
