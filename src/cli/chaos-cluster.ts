/**
 * A cluster to be disturbed: a Redis, a coordinator and workers as child processes at fixed places, each
 * of which is started anew when it is killed: workers as new ones, the coordinator with --resume, Redis
 * empty. Notes what happens for the verdict. Nothing of it outlives `close`.
 */
import { randomBytes } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, systemCodeOf } from '../base/index.ts';
import type { Commit, Fault, FaultKind, FiredFault, Refusals, WorkforceChange } from '../chaos/index.ts';
import { freePort, type PrivateRedis, type RedisAddress, startPrivateRedis } from '../queue/index.ts';
import { Victim } from './chaos-victim.ts';
import { type LocalProcess, startLocalProcess, startLocalWorker, TOKEN_VARIABLE } from './local-workers.ts';

export interface ClusterOptions {
  readonly dataDir: string;
  readonly runDir: string;
  readonly configFile: string;
  readonly workers: number;
  /** Of the whole run; after the last one nothing is disturbed any more. */
  readonly steps: number;
  readonly throttleMs: number;
  readonly shutdownLimitMs: number;
}

export interface ClusterReport {
  readonly commits: readonly Commit[];
  readonly faults: readonly FiredFault[];
  readonly workforce: readonly WorkforceChange[];
  readonly refused: Refusals;
  readonly workersLost: number;
  readonly unexpectedExits: readonly string[];
}

interface Places {
  readonly controlPort: number;
  readonly httpPort: number;
  readonly redis: RedisAddress;
  readonly redisUrl: string;
  readonly token: string;
}

export class ChaosCluster {
  readonly #options: ClusterOptions;
  readonly #places: Places;
  readonly #logDir: string;
  readonly #coordinatorLog: WriteStream;
  readonly #redis: Victim<PrivateRedis>;
  readonly #coordinator: Victim<LocalProcess>;
  readonly #workers: readonly Victim<LocalProcess>[];
  readonly #commits: Commit[] = [];
  readonly #faults: FiredFault[] = [];
  readonly #workforce: WorkforceChange[] = [];
  readonly #unexpectedExits: string[] = [];
  readonly #counts = { frames: 0, results: 0, evictions: 0, lost: 0 };
  readonly #settle: (trouble: string | null) => void;
  /** Resolves when the run is over: null at its end, or with what ended it. */
  readonly over: Promise<string | null>;
  readonly firstCommit: Promise<void>;
  readonly #firstCommitted: () => void;
  readonly #startedMs = performance.now();
  #isOver = false;

  static async start(options: ClusterOptions): Promise<ChaosCluster> {
    const logDir = join(options.runDir, 'logs');
    await mkdir(logDir, { recursive: true });
    const redis = await startPrivateRedis();
    const [controlPort, httpPort] = [await freePort(), await freePort()];
    const token = randomBytes(32).toString('hex');
    const places = { controlPort, httpPort, redis: redis.address, redisUrl: redis.url, token };
    const cluster = new ChaosCluster(options, places, logDir, redis);
    try {
      await cluster.#startAll();
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  private constructor(options: ClusterOptions, places: Places, logDir: string, redis: PrivateRedis) {
    this.#options = options;
    this.#places = places;
    this.#logDir = logDir;
    this.#coordinatorLog = createWriteStream(join(logDir, 'coordinator.log'), { flags: 'a' });
    let settle: (trouble: string | null) => void = () => {};
    this.over = new Promise((resolve) => {
      settle = resolve;
    });
    this.#settle = settle;
    let committed: () => void = () => {};
    this.firstCommit = new Promise((resolve) => {
      committed = resolve;
    });
    this.#firstCommitted = committed;
    let first: PrivateRedis | null = redis;
    this.#redis = new Victim({
      start: async () => {
        const server = first ?? (await startPrivateRedis(places.redis));
        first = null;
        return server;
      },
      onEnded: (_, killed) => this.#redisEnded(killed),
    });
    let isResumed = false;
    this.#coordinator = new Victim({
      start: async () => {
        const process = this.#startCoordinator(isResumed);
        isResumed = true;
        return process;
      },
      onEnded: (process, killed) => this.#coordinatorEnded(process, killed),
    });
    this.#workers = Array.from({ length: options.workers }, (_, index) => this.#workerVictim(index));
  }

  async #startAll(): Promise<void> {
    await this.#redis.start();
    await this.#coordinator.start();
    await Promise.all(this.#workers.map((worker) => worker.start()));
  }

  #startCoordinator(isResumed: boolean): LocalProcess {
    const { dataDir, runDir, configFile, workers } = this.#options;
    const { controlPort, httpPort, redisUrl, token } = this.#places;
    const flags = [
      ...['--data', dataDir, '--run', runDir, '--redis', redisUrl],
      ...['--port', String(controlPort), '--http-port', String(httpPort)],
      // A run that goes on need not wait for a worker that is frozen or on its way.
      ...(isResumed ? ['--resume'] : ['--config', configFile, '--min-workers', String(workers)]),
    ];
    return startLocalProcess('coordinator', ['coordinator', ...flags], { [TOKEN_VARIABLE]: token }, (line) =>
      this.#coordinatorSaid(line),
    );
  }

  #workerVictim(index: number): Victim<LocalProcess> {
    let incarnations = 0;
    const victim: Victim<LocalProcess> = new Victim({
      start: async () => {
        // A name of its own: the coordinator may not have missed the one before yet.
        const name = incarnations === 0 ? `worker-${index}` : `worker-${index}.${incarnations}`;
        incarnations += 1;
        this.#workforceChanged(1);
        return startLocalWorker({
          name,
          coordinator: `tcp://127.0.0.1:${this.#places.controlPort}`,
          token: this.#places.token,
          dataDir: this.#options.dataDir,
          logFile: this.#workerLog(index),
          throttleMs: this.#options.throttleMs,
          onLine: (line) => {
            if (line.endsWith('coming back as a new worker')) this.#counts.evictions += 1;
          },
        });
      },
      onEnded: (process, killed) => {
        if (!isFrozen) this.#workforceChanged(-1);
        isFrozen = false;
        void this.#workerEnded(victim, process, killed);
      },
      onHeld: (held) => {
        // One that was killed while frozen is out of the count already.
        if (held === isFrozen) return;
        isFrozen = held;
        this.#workforceChanged(held ? -1 : 1);
      },
    });
    let isFrozen = false;
    return victim;
  }

  #workerLog(index: number): string {
    return join(this.#logDir, `worker-${index}.log`);
  }

  #workforceChanged(delta: 1 | -1): void {
    this.#workforce.push({ atMs: performance.now(), delta });
  }

  /** Of the newest commit; of the start before the first. */
  get lastProgressMs(): number {
    return this.#commits.at(-1)?.atMs ?? this.#startedMs;
  }

  /** Strikes now, or as soon as the victim is free of an earlier fault. */
  fire(fault: Fault): void {
    this.#strike(fault).catch((error: unknown) => this.#end(messageOf(error)));
  }

  async #strike({ kind, worker, durationMs }: Fault): Promise<void> {
    const victim = this.#victimOf(kind, worker);
    const isKill = kind.startsWith('kill-');
    if (!isKill) await victim.settled();
    if (this.#isOver || this.#commits.at(-1)?.step === this.#options.steps) return;
    this.#faults.push({ kind, atMs: performance.now() });
    if (isKill) await victim.kill();
    else if (kind.startsWith('freeze-')) await victim.freeze(durationMs);
    else await victim.slow(durationMs);
  }

  #victimOf(kind: FaultKind, worker: number | null): Victim<LocalProcess> | Victim<PrivateRedis> {
    if (worker !== null) return this.#workers[worker]!;
    return kind.endsWith('-redis') ? this.#redis : this.#coordinator;
  }

  #restart(victim: Victim<LocalProcess> | Victim<PrivateRedis>): void {
    victim.start().catch((error: unknown) => this.#end(messageOf(error)));
  }

  #redisEnded(killed: boolean): void {
    if (this.#isOver) return;
    if (!killed) this.#unexpectedExits.push('redis');
    this.#restart(this.#redis);
  }

  #coordinatorEnded(process: LocalProcess, killed: boolean): void {
    if (this.#isOver) return;
    if (killed) {
      this.#restart(this.#coordinator);
      return;
    }
    void process.ended.then(({ code, lastLine }) =>
      this.#end(code === 0 ? null : `the coordinator ended with code ${code}: ${lastLine}`),
    );
  }

  async #workerEnded(victim: Victim<LocalProcess>, process: LocalProcess, killed: boolean): Promise<void> {
    const { code, lastLine } = await process.ended;
    // One that was told of the run's end may be gone before the coordinator is.
    if (this.#isOver || (code === 0 && !killed)) return;
    if (!killed) this.#unexpectedExits.push(`${process.name} with code ${code}: ${lastLine}`);
    this.#restart(victim);
  }

  #coordinatorSaid(line: string): void {
    this.#coordinatorLog.write(`${line}\n`);
    const { event, step } = parseLine(line);
    if (event === 'workerLost') this.#counts.lost += 1;
    if (event === 'frameRefused') this.#counts.frames += 1;
    if (event === 'resultRefused') this.#counts.results += 1;
    if (event !== 'committed' || typeof step !== 'number') return;
    // Seen for the first time: a coordinator that was killed may have recorded a step without saying so.
    if (step <= (this.#commits.at(-1)?.step ?? 0)) return;
    this.#commits.push({ step, atMs: performance.now() });
    this.#firstCommitted();
  }

  #end(trouble: string | null): void {
    this.#isOver = true;
    this.#settle(trouble);
  }

  /** Ends the run from outside, for the given reason. */
  giveUp(reason: string): void {
    this.#end(reason);
  }

  /** Ends everything; workers that were told of the run's end may finish. Idempotent. */
  async close(): Promise<void> {
    this.#isOver = true;
    const { shutdownLimitMs } = this.#options;
    // The coordinator ends first: told of the end, workers go by themselves; without it they wait.
    await this.#coordinator.end(0);
    await Promise.all(this.#workers.map((worker) => worker.end(shutdownLimitMs)));
    await this.#redis.end(0);
    await new Promise<void>((resolve) => {
      this.#coordinatorLog.end(() => resolve());
    });
  }

  /** Kills everything at once, when this process is about to go. */
  abandon(): void {
    this.#isOver = true;
    for (const victim of [this.#coordinator, ...this.#workers, this.#redis]) victim.endNow();
  }

  /** What was seen. Complete after `close`. */
  async report(): Promise<ClusterReport> {
    const { frames, results, evictions, lost } = this.#counts;
    let byWorkers = 0;
    for (const index of this.#workers.keys()) byWorkers += await countRefusals(this.#workerLog(index));
    return {
      commits: this.#commits,
      faults: this.#faults,
      workforce: this.#workforce,
      refused: { frames: frames + byWorkers, results, evictions },
      workersLost: lost,
      unexpectedExits: this.#unexpectedExits,
    };
  }
}

async function countRefusals(logFile: string): Promise<number> {
  try {
    const lines = (await readFile(logFile, 'utf8')).split('\n');
    return lines.filter((line) => parseLine(line).event === 'frameRefused').length;
  } catch (error) {
    // A worker that was killed early enough has written none.
    if (systemCodeOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

/** The fields of a JSON log line; none for other text, or for a line that a kill cut short. */
function parseLine(line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
