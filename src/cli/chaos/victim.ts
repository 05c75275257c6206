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

/** A slowed process runs for a tenth of each period, which is shorter than any heartbeat limit. */
const SLOW_PERIOD_MS = 200;
const SLOW_SHARE = 0.1;

export interface VictimHooks<P extends Disturbable> {
  start(): Promise<P>;
  /** It ended, killed or not; called before it is started anew. */
  onEnded(process: P, killed: boolean): void;
  /** The share of time that it may run has changed. */
  onHeld?(share: number): void;
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

  /** The process that runs now, or null. */
  get current(): P | null {
    return this.#current;
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

  /** SIGKILL, once it runs and if `onBegin` says so; resolves when it has ended. */
  async kill(onBegin: () => boolean): Promise<void> {
    await this.#starting;
    const process = this.#current;
    if (process === null || !onBegin()) return;
    this.#killed = true;
    process.kill('SIGKILL');
    await process.ended;
  }

  /**
   * Stops it for `durationMs`, once it runs and no earlier disturbance holds it; then `onBegin` is asked
   * whether to. Resolves when it goes on.
   */
  freeze(durationMs: number, onBegin: () => boolean): Promise<void> {
    return this.#hold(onBegin, async (process) => {
      process.kill('SIGSTOP');
      this.#hooks.onHeld?.(0);
      await this.#wait(durationMs);
      process.kill('SIGCONT');
    });
  }

  /** Likewise, but it runs for a tenth of the time. */
  slow(durationMs: number, onBegin: () => boolean): Promise<void> {
    return this.#hold(onBegin, async (process) => {
      const untilMs = performance.now() + durationMs;
      this.#hooks.onHeld?.(SLOW_SHARE);
      while (performance.now() < untilMs && !this.#ending.signal.aborted && this.#current === process) {
        process.kill('SIGSTOP');
        await this.#wait(SLOW_PERIOD_MS * (1 - SLOW_SHARE));
        process.kill('SIGCONT');
        await this.#wait(SLOW_PERIOD_MS * SLOW_SHARE);
      }
    });
  }

  #hold(onBegin: () => boolean, disturb: (process: P) => Promise<void>): Promise<void> {
    this.#held = this.#held.then(async () => {
      // Why it did not start is for whoever started it.
      await Promise.allSettled([this.#starting]);
      const process = this.#current;
      if (process === null || this.#ending.signal.aborted || !onBegin()) return;
      await disturb(process);
      // One that was killed meanwhile has no share any more, and its successor a whole one.
      if (this.#current === process) this.#hooks.onHeld?.(1);
    });
    return this.#held;
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
