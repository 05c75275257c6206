/**
 * The processes of `lockstep prepare`: a job queue, and local workers that pull from it beside those of other hosts. A
 * worker that dies is replaced; the queue gives its job to another. What is done is on disk, so nothing here
 * needs to be remembered.
 */
import { join } from 'node:path';
import { LockstepError } from '../base/index.ts';
import type { JobSite, PrepareJob, RunJobs } from '../data/index.ts';
import { checkRedis, type PrivateRedis, startPrivateRedis, TaskProducer } from '../queue/index.ts';
import { type LocalProcess, startLocalProcess } from './local-workers.ts';

/** The Redis URL holds a password: it travels in the environment, not on a command line. */
export const REDIS_VARIABLE = 'LOCKSTEP_REDIS';

const REDIS_LIMIT_MS = 5_000;
/** Jobs in the queue or being done: enough for many workers, few enough that batches on disk stay few. */
const JOBS_MAX = 64;
/** Ended workers that are replaced, for each that was asked for, before something is taken to be wrong. */
const REPLACEMENTS = 3;
/** A worker needs less than half of it; garbage may take no more. */
const HEAP_MB = 640;

export interface FleetOptions {
  readonly outDir: string;
  readonly processes: number;
  /** Absent: a private one. */
  readonly redisUrl?: string | undefined;
  warn(message: string): void;
}

export const queueNameOf = (site: JobSite): string => `lockstep-prepare-${site.plan.id}`;
const idOf = ({ phase, input, unit }: PrepareJob): string => `${phase}-${input}-${unit}`;

/** Jobs under way in one call of `run`. */
interface Round {
  readonly jobs: Map<string, PrepareJob>;
  readonly onDone: (job: PrepareJob, documents: number) => void;
  readonly fail: (error: Error) => void;
  readonly wake: () => void;
}

export class PrepareFleet {
  readonly #options: FleetOptions;
  readonly #redis: PrivateRedis | null;
  readonly #redisUrl: string;
  readonly #workers = new Set<LocalProcess>();
  #producer: TaskProducer | null = null;
  #replacementsLeft: number;
  #round: Round | null = null;
  #closed = false;

  /** Throws REDIS_UNAVAILABLE. */
  static async start(options: FleetOptions): Promise<PrepareFleet> {
    const { redisUrl } = options;
    if (redisUrl === undefined) return new PrepareFleet(options, await startPrivateRedis());
    await checkRedis(redisUrl, REDIS_LIMIT_MS);
    return new PrepareFleet(options, null);
  }

  private constructor(options: FleetOptions, redis: PrivateRedis | null) {
    this.#options = options;
    this.#redis = redis;
    this.#redisUrl = redis?.url ?? options.redisUrl ?? '';
    this.#replacementsLeft = REPLACEMENTS * options.processes;
  }

  /** Does jobs on all workers there are. Rejects with the first error that a job ends with. */
  readonly run: RunJobs = async (site, jobs, onDone) => {
    this.#producer ??= await this.#open(site);
    const producer = this.#producer;
    let failure: Error | null = null;
    let wake = () => {};
    const underWay = new Map<string, PrepareJob>();
    const round: Round = {
      jobs: underWay,
      onDone,
      fail: (error) => {
        failure ??= error;
        wake();
      },
      wake: () => wake(),
    };
    this.#round = round;
    const room = async (max: number) => {
      while (underWay.size > max && failure === null) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (failure !== null) throw failure;
    };
    try {
      for await (const job of jobs) {
        underWay.set(idOf(job), job);
        await producer.add([{ id: idOf(job), data: job }]);
        await room(JOBS_MAX - 1);
      }
      await room(0);
    } finally {
      this.#round = null;
    }
  };

  /** Ends the workers and the queue. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const worker of this.#workers) worker.kill('SIGKILL');
    await Promise.all([...this.#workers].map(({ ended }) => ended));
    await this.#producer?.close();
    await this.#redis?.stop();
  }

  async #open(site: JobSite): Promise<TaskProducer> {
    const producer = await TaskProducer.open(this.#redisUrl, queueNameOf(site), {
      onDone: (id, documents) => this.#settle(id, Number(documents)),
      onFailed: (id, error) => {
        if (this.#round?.jobs.has(id)) this.#round.fail(error);
      },
      onError: (reason) => this.#options.warn(`Redis: ${reason}`),
      onReconnected: () => {
        const jobs = [...(this.#round?.jobs.values() ?? [])];
        void producer.add(jobs.map((job) => ({ id: idOf(job), data: job })));
      },
    });
    for (let index = 0; index < this.#options.processes; index += 1) this.#startWorker(`worker-${index}`);
    if (this.#redis !== null) {
      void this.#redis.ended.then(() => {
        const message = 'the private redis-server has ended: run the same command again to go on';
        if (!this.#closed) this.#round?.fail(new LockstepError('REDIS_UNAVAILABLE', message));
      });
    }
    return producer;
  }

  #settle(id: string, documents: number): void {
    const round = this.#round;
    const job = round?.jobs.get(id);
    if (round === null || job === undefined) return;
    round.jobs.delete(id);
    round.onDone(job, documents);
    round.wake();
  }

  #startWorker(name: string): void {
    const nodeOptions = `${process.env.NODE_OPTIONS ?? ''} --max-old-space-size=${HEAP_MB}`.trim();
    const worker = startLocalProcess(name, ['prepare-worker', '--out', this.#options.outDir], {
      [REDIS_VARIABLE]: this.#redisUrl,
      NODE_OPTIONS: nodeOptions,
    });
    this.#workers.add(worker);
    void worker.ended.then(({ code, lastLine }) => {
      this.#workers.delete(worker);
      if (this.#closed) return;
      const how = code === null ? 'was killed' : `ended with ${code}`;
      const said = lastLine === '' ? '' : ` (${lastLine})`;
      if (this.#replacementsLeft > 0) {
        this.#replacementsLeft -= 1;
        this.#options.warn(`${name} (process ${worker.pid}) ${how}${said}: another takes its place`);
        this.#startWorker(name);
      } else if (this.#workers.size === 0) {
        const message = `every worker has ended, the last one ${how}${said}: look for what ends them, then run the same command again in ${join(this.#options.outDir)}`;
        this.#round?.fail(new LockstepError('WORKER_LOST', message));
      }
    });
  }
}
