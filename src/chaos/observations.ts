/**
 * What is made of a disturbed run's course: how long each fault held the run up, and what share of the
 * undisturbed speed was left. Pure; all times are of one monotonic clock, in milliseconds.
 */
import { assert, quantile } from '../base/index.ts';
import type { FaultKind } from './fault-plan.ts';

export interface FiredFault {
  readonly kind: FaultKind;
  readonly atMs: number;
}

/** A step that was committed for the first time; repeated steps are no progress. */
export interface Commit {
  readonly step: number;
  readonly atMs: number;
}

export interface RecoverySummary {
  readonly kind: FaultKind;
  readonly fired: number;
  /** Those after which a step was committed; a fault after the last commit has nothing to hold up. */
  readonly recovered: number;
  /** Nearest rank; null when none recovered. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly maxMs: number | null;
}

/** From each fault to the next new commit, for each of `kinds`. Commits are in order of time. */
export function summarizeRecoveries(
  kinds: readonly FaultKind[],
  faults: readonly FiredFault[],
  commits: readonly Commit[],
): RecoverySummary[] {
  return kinds.map((kind) => {
    const fired = faults.filter((fault) => fault.kind === kind);
    const times = fired.flatMap(({ atMs }) => {
      const next = commits.find((commit) => commit.atMs >= atMs);
      return next === undefined ? [] : [next.atMs - atMs];
    });
    const at = (share: number) => (times.length === 0 ? null : Math.round(quantile(times, share)));
    return {
      kind,
      fired: fired.length,
      recovered: times.length,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      maxMs: at(1),
    };
  });
}

/** A worker process began (+1) or ceased (-1) to be able to work. */
export interface WorkforceChange {
  readonly atMs: number;
  readonly delta: 1 | -1;
}

/** Worker-milliseconds between two moments. Changes are in order of time. */
export function workforceMs(changes: readonly WorkforceChange[], fromMs: number, toMs: number): number {
  assert(fromMs <= toMs, `a span from ${fromMs} to ${toMs} ms`);
  let total = 0;
  let alive = 0;
  let sinceMs = fromMs;
  for (const { atMs, delta } of changes) {
    const untilMs = Math.min(Math.max(atMs, fromMs), toMs);
    total += alive * (untilMs - sinceMs);
    sinceMs = untilMs;
    alive += delta;
  }
  return total + alive * (toMs - sinceMs);
}

/** Tokens committed after the first commit up to the last, and the worker time they took. */
export interface Throughput {
  readonly tokens: number;
  readonly workerMs: number;
}

/**
 * Committed tokens per worker-second over the twin's; null when a run was too short to tell. On a machine
 * with fewer cores than workers it says too little: they share what the twin had for itself.
 */
export function goodputOf(disturbed: Throughput, twin: Throughput): number | null {
  if (disturbed.workerMs <= 0 || twin.workerMs <= 0 || twin.tokens <= 0) return null;
  return disturbed.tokens / disturbed.workerMs / (twin.tokens / twin.workerMs);
}
