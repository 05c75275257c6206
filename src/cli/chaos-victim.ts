/**
 * A process that chaos may kill, freeze or slow down, whatever it is, and start anew.
 *
 * Invariants: one disturbance at a time holds a process; a killed one is started again at once; after
 * `end` nothing runs and nothing is started any more.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** A running process, as local-workers.ts and the private Redis give it. */
export interface Disturbable {
  readonly ended: Promise<unknown>;
  kill(signal: NodeJS.Signals): void;
}

/** A slowed process is stopped for three quarters of each period. */
const SLOW_PERIOD_MS = 100;
const SLOW_STOPPED_MS = 75;

export interface VictimHooks<P extends Disturbable> {
  start(): Promise<P>;
  /** It ended, killed or not; called before it is started anew. */
  onEnded(process: P, killed: boolean): void;
  /** It stopped being able to run, or is able again. */
  onHeld?(held: boolean): void;
}

export class Victim<P extends Disturbable> {
  readonly #hooks: VictimHooks<P>;
  readonly #ending = new AbortController();
  #current: P | null = null;
  #killed = false;
  /** The disturbance under way. */
  #held: Promise<void> = Promise.resolve();
  #starting: Promise<void> = Promise.resolve();

  constructor(hooks: VictimHooks<P>) {
    this.#hooks = hooks;
  }

  /** Resolves when it runs; rejects with what `start` throws. */
  start(): Promise<void> {
    this.#starting = this.#launch();
    return this.#starting;
  }

  async #launch(): Promise<void> {
    const process = await this.#hooks.start();
    this.#current = process;
    this.#killed = false;
    if (this.#ending.signal.aborted) process.kill('SIGKILL');
    void process.ended.then(() => {
      this.#current = null;
      this.#hooks.onEnded(process, this.#killed);
    });
  }

  /** SIGKILL; resolves when it has ended. */
  async kill(): Promise<void> {
    await this.#starting;
    const process = this.#current;
    if (process === null) return;
    this.#killed = true;
    process.kill('SIGKILL');
    await process.ended;
  }

  /** Resolves once it is frozen; it goes on by itself later. */
  async freeze(durationMs: number): Promise<void> {
    await this.#hold(async (process) => {
      process.kill('SIGSTOP');
      this.#hooks.onHeld?.(true);
      await this.#wait(durationMs);
      process.kill('SIGCONT');
      this.#hooks.onHeld?.(false);
    });
  }

  async slow(durationMs: number): Promise<void> {
    await this.#hold(async (process) => {
      const untilMs = performance.now() + durationMs;
      while (performance.now() < untilMs && !this.#ending.signal.aborted && this.#current === process) {
        process.kill('SIGSTOP');
        await this.#wait(SLOW_STOPPED_MS);
        process.kill('SIGCONT');
        await this.#wait(SLOW_PERIOD_MS - SLOW_STOPPED_MS);
      }
    });
  }

  /** Resolves when it runs and no disturbance holds it. */
  async settled(): Promise<void> {
    await this.#held;
    await this.#starting;
  }

  async #hold(disturb: (process: P) => Promise<void>): Promise<void> {
    await this.settled();
    const process = this.#current;
    if (process === null || this.#ending.signal.aborted) return;
    this.#held = disturb(process);
  }

  async #wait(durationMs: number): Promise<void> {
    try {
      await sleep(durationMs, undefined, { signal: this.#ending.signal });
    } catch (error) {
      if (!this.#ending.signal.aborted) throw error;
    }
  }

  /** Disturbs it no more; what is frozen goes on. */
  async release(): Promise<void> {
    this.#ending.abort();
    await this.#held;
  }

  /** Gives it `limitMs` to end by itself, then kills it. Idempotent. */
  async end(limitMs: number): Promise<void> {
    await this.release();
    await Promise.allSettled([this.#starting]);
    const process = this.#current;
    if (process === null) return;
    const timer = setTimeout(() => process.kill('SIGKILL'), limitMs);
    await process.ended;
    clearTimeout(timer);
  }

  /** At once and without waiting: for the way out of this process. */
  endNow(): void {
    this.#ending.abort();
    this.#current?.kill('SIGKILL');
  }
}
