/**
 * What is made of a disturbed run's course: how long each fault held the run up, how long newcomers took,
 * and what share of the capacity that was alive did work that counted. Pure; times are in milliseconds,
 * of one clock within a call.
 */
import { assert, quantile } from '../base/index.ts';
import type { FaultKind } from './fault-plan.ts';

export interface FiredFault {
  readonly kind: FaultKind;
  readonly atMs: number;
  /** When its victim was let go; the same moment for a kill. */
  readonly endMs: number;
}

/** A step that was committed for the first time; repeated steps are no progress. */
export interface Commit {
  readonly step: number;
  readonly atMs: number;
}

/** Nearest-rank quantiles; null when there is nothing to take them of. */
export interface Spread {
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly maxMs: number | null;
}

export interface RecoverySummary extends Spread {
  readonly kind: FaultKind;
  readonly fired: number;
  /** Those after whose end a step was committed; a fault after the last commit has nothing to hold up. */
  readonly recovered: number;
}

/**
 * For each of `kinds`, how long its faults held the run up: the longest time without a new commit, from
 * the moment a fault struck to the first commit after it ended. For a kill that is the time to the next
 * commit. Commits are in order of time.
 */
export function summarizeRecoveries(
  kinds: readonly FaultKind[],
  faults: readonly FiredFault[],
  commits: readonly Commit[],
): RecoverySummary[] {
  return kinds.map((kind) => {
    const fired = faults.filter((fault) => fault.kind === kind);
    const times = fired.flatMap((fault) => holdUpMs(fault, commits) ?? []);
    return { kind, fired: fired.length, recovered: times.length, ...spreadOf(times) };
  });
}

/** Null when no commit came after the fault's end. */
export function holdUpMs({ atMs, endMs }: FiredFault, commits: readonly Commit[]): number | null {
  let sinceMs = atMs;
  let longest = 0;
  for (const commit of commits) {
    if (commit.atMs < atMs) continue;
    longest = Math.max(longest, commit.atMs - sinceMs);
    if (commit.atMs >= endMs) return longest;
    sinceMs = commit.atMs;
  }
  return null;
}

function spreadOf(times: readonly number[]): Spread {
  const at = (share: number) => (times.length === 0 ? null : Math.round(quantile(times, share)));
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}

/** A worker that began during the run: as a new process, or within one that had been evicted. */
export interface Join {
  readonly worker: string;
  readonly isProcess: boolean;
  readonly startedMs: number;
  /** When the coordinator heard its hello; null when it never did. */
  readonly helloMs: number | null;
}

/** A committed step and who computed its slots. */
export interface Contribution {
  readonly atMs: number;
  readonly workers: ReadonlySet<string>;
}

export interface JoinSummary {
  readonly begun: number;
  /** Those of whom a slot was committed; others were struck again before, or came when all was over. */
  readonly contributed: number;
  readonly fromStart: Spread;
  readonly fromHello: Spread;
}

/** From a worker's start, and from its hello, to the first commit that holds a slot of it. */
export function summarizeJoins(joins: readonly Join[], contributions: readonly Contribution[]): JoinSummary {
  const contributed = joins.flatMap(({ worker, startedMs, helloMs }) => {
    const first = contributions.find(({ atMs, workers }) => atMs >= startedMs && workers.has(worker));
    return first === undefined ? [] : [{ startedMs, helloMs, atMs: first.atMs }];
  });
  const fromStart = contributed.map(({ startedMs, atMs }) => atMs - startedMs);
  const fromHello = contributed.flatMap(({ helloMs, atMs }) => (helloMs === null ? [] : [atMs - helloMs]));
  return {
    begun: joins.length,
    contributed: contributed.length,
    fromStart: spreadOf(fromStart),
    fromHello: spreadOf(fromHello),
  };
}

/** The capacity alive changed: 1 is a worker that runs freely and can be reached. */
export interface CapacityChange {
  readonly atMs: number;
  readonly delta: number;
}

/** Worker-milliseconds of capacity between two moments. Changes are in order of time. */
export function capacityMs(changes: readonly CapacityChange[], fromMs: number, toMs: number): number {
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

/** Tokens committed after the first commit up to the last, and the worker time alive meanwhile. */
export interface Throughput {
  readonly tokens: number;
  readonly workerMs: number;
}

export interface Goodput {
  /** Committed tokens per worker-second alive, over the twin's. */
  readonly share: number;
  readonly tokensPerWorkerSecond: number;
  readonly tokensPerWorkerSecondOfTwin: number;
}

/** Null when a run was too short to tell. */
export function goodputOf(disturbed: Throughput, twin: Throughput): Goodput | null {
  if (disturbed.workerMs <= 0 || twin.workerMs <= 0 || twin.tokens <= 0) return null;
  const tokensPerWorkerSecond = (disturbed.tokens * 1000) / disturbed.workerMs;
  const tokensPerWorkerSecondOfTwin = (twin.tokens * 1000) / twin.workerMs;
  return {
    share: tokensPerWorkerSecond / tokensPerWorkerSecondOfTwin,
    tokensPerWorkerSecond,
    tokensPerWorkerSecondOfTwin,
  };
}
