/**
 * The time that a process has been awake, for judging how long *others* have been silent.
 *
 * After this process was frozen itself (a suspended machine, a debugger), everyone has been unheard for
 * as long as it slept, and nobody is lost: each tick counts at most two intervals. Pure: the caller
 * reads the real clock.
 */
export class SteadyClock {
  #intervalMsMax: number;
  #lastMs: number;
  #nowMs = 0;

  constructor(intervalMs: number, realMs: number) {
    this.#intervalMsMax = 2 * intervalMs;
    this.#lastMs = realMs;
  }

  /** Advances to the real clock's `realMs` (monotonic) and returns the steady time. */
  tick(realMs: number): number {
    this.#nowMs += Math.min(realMs - this.#lastMs, this.#intervalMsMax);
    this.#lastMs = realMs;
    return this.#nowMs;
  }

  /** From here on ticks come this often; the time goes on from where it is. */
  changeInterval(intervalMs: number): void {
    this.#intervalMsMax = 2 * intervalMs;
  }
}
