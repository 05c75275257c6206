/**
 * A cluster to be disturbed: a Redis, a coordinator and workers as child processes at fixed places, each
 * of which is started anew when it is killed: workers as new ones, the coordinator with --resume, Redis
 * empty. All their links go through proxies. Nothing of it outlives `close`.
 */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../base/index.ts';
import type { Fault } from '../../chaos/index.ts';
import { usefulHostThreads } from '../../kernels/index.ts';
import { createLogger } from '../../logging/index.ts';
import { type PrivateRedis, type RedisAddress, startPrivateRedis } from '../../queue/index.ts';
import { type LocalProcess, startLocalProcess, startLocalWorker } from '../local-workers.ts';
import { TOKEN_VARIABLE } from '../token.ts';
import { Victim } from './victim.ts';
import { Wiring } from './wiring.ts';
import { type Sighting, Witness } from './witness.ts';

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

export class ChaosCluster {
  readonly #options: ClusterOptions;
  readonly #wiring: Wiring;
  readonly #redisAddress: RedisAddress;
  readonly #token = randomBytes(32).toString('hex');
  readonly #witness: Witness;
  readonly #redis: Victim<PrivateRedis>;
  readonly #coordinator: Victim<LocalProcess>;
  readonly #workers: readonly Victim<LocalProcess>[];
  /** Faults under way. */
  readonly #striking = new Set<Promise<void>>();
  readonly #ending = new AbortController();
  readonly #settle: (trouble: string | null) => void;
  /** Resolves when the run is over: null at its end, or with what ended it. */
  readonly over: Promise<string | null>;
  readonly #startedMs = performance.now();

  static async start(options: ClusterOptions): Promise<ChaosCluster> {
    const logDir = join(options.runDir, 'logs');
    await mkdir(logDir, { recursive: true });
    let cluster: ChaosCluster | null = null;
    const wiring = await Wiring.open(options.workers, (worker) => cluster?.pidOf(worker) ?? null);
    cluster = new ChaosCluster(options, wiring, logDir);
    try {
      await cluster.#startAll();
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  private constructor(options: ClusterOptions, wiring: Wiring, logDir: string) {
    this.#options = options;
    this.#wiring = wiring;
    this.#redisAddress = { port: wiring.redisPort, password: randomBytes(24).toString('hex') };
    let settle: (trouble: string | null) => void = () => {};
    this.over = new Promise((resolve) => {
      settle = resolve;
    });
    this.#settle = settle;
    const logger = createLogger({ file: join(logDir, 'faults.log'), level: 'info' });
    this.#witness = new Witness(options.workers, logger);
    this.#redis = new Victim({
      start: () => startPrivateRedis(this.#redisAddress),
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
    const { controlPort, httpPort, coordinatorRedisPort } = this.#wiring;
    const redisUrl = `redis://:${this.#redisAddress.password}@127.0.0.1:${coordinatorRedisPort}`;
    const flags = [
      ...['--data', dataDir, '--run', runDir, '--redis', redisUrl],
      ...['--port', String(controlPort), '--http-port', String(httpPort)],
      // A run that goes on need not wait for a worker that is frozen or on its way.
      ...(isResumed ? ['--resume'] : ['--config', configFile, '--min-workers', String(workers)]),
    ];
    return startLocalProcess(
      'coordinator',
      ['coordinator', ...flags],
      { [TOKEN_VARIABLE]: this.#token },
      (line) => this.#witness.coordinatorSaid(line),
    );
  }

  #workerVictim(index: number): Victim<LocalProcess> {
    const { dataDir, throttleMs } = this.#options;
    let incarnations = 0;
    const victim: Victim<LocalProcess> = new Victim({
      start: async () => {
        // A name of its own: the coordinator may not have missed the one before yet.
        const name = incarnations === 0 ? `worker-${index}` : `worker-${index}.${incarnations}`;
        incarnations += 1;
        this.#witness.workerStarted(index, name);
        return startLocalWorker({
          name,
          token: this.#token,
          dataDir,
          logFile: this.#workerLog(index),
          throttleMs,
          hostThreads: usefulHostThreads(this.#options.workers),
          links: this.#wiring.workerFlags(index),
        });
      },
      onEnded: (process, killed) => {
        this.#witness.workerEnded(index);
        void this.#workerEnded(victim, process, killed);
      },
      onHeld: (share) => this.#witness.workerHeld(index, share),
    });
    return victim;
  }

  #workerLog(index: number): string {
    return join(this.#options.runDir, 'logs', `worker-${index}.log`);
  }

  /** The process of a worker; null while it has none. */
  pidOf(worker: number): number | null {
    return this.#workers[worker]?.current?.pid ?? null;
  }

  /** Of the newest commit; of the start before the first. */
  get lastProgressMs(): number {
    return this.#witness.lastCommit?.atMs ?? this.#startedMs;
  }

  /** Resolves with the next step that is committed for the first time. */
  nextCommit(): Promise<void> {
    return this.#witness.nextCommit();
  }

  get #isOver(): boolean {
    return this.#ending.signal.aborted;
  }

  /** Strikes now, or as soon as the victim is free of an earlier fault. */
  fire(fault: Fault): void {
    const striking = this.#strike(fault)
      .catch((error: unknown) => this.#end(messageOf(error)))
      .finally(() => this.#striking.delete(striking));
    this.#striking.add(striking);
  }

  /** Resolves when every fault that was fired is over. */
  async calm(): Promise<void> {
    while (this.#striking.size > 0) await Promise.all(this.#striking);
  }

  async #strike(fault: Fault): Promise<void> {
    const { kind, worker, durationMs } = fault;
    let letGo = () => {};
    const begin = () => {
      if (this.#isOver || this.#witness.lastCommit?.step === this.#options.steps) return false;
      letGo = this.#witness.faultFired(fault);
      return true;
    };
    if (fault.cut !== null) {
      if (begin()) await this.#cut(fault);
    } else {
      const victim =
        worker !== null ? this.#workers[worker]! : kind.endsWith('redis') ? this.#redis : this.#coordinator;
      if (kind.startsWith('freeze-')) await victim.freeze(durationMs, begin);
      else if (kind.startsWith('slow-')) await victim.slow(durationMs, begin);
      else await victim.kill(begin);
    }
    letGo();
  }

  async #cut(fault: Fault): Promise<void> {
    // Without its peers, or one of them, a worker can still be given work.
    const idle = fault.kind === 'cut-worker-peer' ? null : fault.worker;
    const heal = this.#wiring.cut(fault);
    if (idle !== null) this.#witness.workerCut(idle, true);
    try {
      await sleep(fault.durationMs, undefined, { signal: this.#ending.signal });
    } catch (error) {
      if (!this.#isOver) throw error;
    } finally {
      heal();
      if (idle !== null) this.#witness.workerCut(idle, false);
    }
  }

  #restart(victim: Victim<LocalProcess> | Victim<PrivateRedis>): void {
    victim.start().catch((error: unknown) => this.#end(messageOf(error)));
  }

  #redisEnded(killed: boolean): void {
    if (this.#isOver) return;
    if (!killed) this.#witness.endedByItself('redis');
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
    if (!killed) this.#witness.endedByItself(`${process.name} with code ${code}: ${lastLine}`);
    this.#restart(victim);
  }

  #end(trouble: string | null): void {
    this.#ending.abort();
    this.#settle(trouble);
  }

  /** Asks the coordinator to finish the step under way, to store it and to end; `over` follows. */
  stop(): void {
    this.#coordinator.current?.kill('SIGTERM');
  }

  /** Ends the run from outside, for the given reason. */
  giveUp(reason: string): void {
    this.#end(reason);
  }

  /** Ends everything; workers that were told of the run's end may finish. Idempotent. */
  async close(): Promise<void> {
    this.#ending.abort();
    const { shutdownLimitMs } = this.#options;
    // The coordinator ends first: told of the end, workers go by themselves; without it they wait.
    await this.#coordinator.end(0);
    await Promise.all(this.#workers.map((worker) => worker.end(shutdownLimitMs)));
    await this.#redis.end(0);
    await this.#wiring.close();
  }

  /** Kills everything at once, when this process is about to go. */
  abandon(): void {
    this.#ending.abort();
    for (const victim of [this.#coordinator, ...this.#workers, this.#redis]) victim.endNow();
  }

  /** What was seen. Complete after `close`. */
  report(): Promise<Sighting> {
    return this.#witness.report([...this.#workers.keys()].map((index) => this.#workerLog(index)));
  }
}
