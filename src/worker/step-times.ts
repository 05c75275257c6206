/** Where the time of a worker's step goes, phase by phase, as its comm thread sees it. */
import { performance } from 'node:perf_hooks';
import type { PhaseTimes } from '../protocol/index.ts';

export class StepTimes {
  #times = emptyTimes();
  #last: PhaseTimes | null = null;
  /** When the update before this step was applied: where the step's time begins. */
  #startMs: number | null = null;
  #reduceStartMs = 0;
  #voteMs: number | null = null;

  /** Of the newest step that is over; null before the first. */
  get last(): PhaseTimes | null {
    return this.#last;
  }

  /** A slot's gradient is there. */
  computed(milliseconds: number, dataMilliseconds: number): void {
    this.#times.data += dataMilliseconds;
    this.#times.compute += milliseconds - dataMilliseconds;
  }

  reductionStarted(): void {
    this.#reduceStartMs = performance.now();
  }

  voted(): void {
    this.#voteMs = performance.now();
    this.#times.reduce = this.#voteMs - this.#reduceStartMs;
  }

  /** The step has committed, or was skipped without a vote. */
  committed(): void {
    if (this.#voteMs !== null) this.#times.commit = performance.now() - this.#voteMs;
    this.#voteMs = null;
  }

  /** The step's update is applied: what no phase accounts for was waiting. */
  applied(optimizerMs: number): void {
    const nowMs = performance.now();
    const times = { ...this.#times, optimizer: optimizerMs };
    const busyMs = times.data + times.compute + times.reduce + times.commit + times.optimizer;
    const elapsedMs = this.#startMs === null ? busyMs : nowMs - this.#startMs;
    this.#last = { ...times, wait: Math.max(0, elapsedMs - busyMs) };
    this.#times = emptyTimes();
    this.#startMs = nowMs;
  }
}

function emptyTimes(): { -readonly [K in keyof PhaseTimes]: number } {
  return { data: 0, compute: 0, wait: 0, reduce: 0, commit: 0, optimizer: 0 };
}
