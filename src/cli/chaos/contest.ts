/**
 * The two runs that chaos compares: one under fire and its twin, alike in configuration, processes, links
 * and cores, which nothing disturbs. Each is trained to its end here, and what it left behind is read.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockstepError, messageOf } from '../../base/index.ts';
import { type Contribution, capacityMs, type Fault, type Throughput } from '../../chaos/index.ts';
import { COMMIT_LOG_FILE } from '../../coordinator/index.ts';
import { type CommittedRecord, readHistory } from '../../history/index.ts';
import { weightsDigest } from '../digest.ts';
import { verifyRun } from '../verify-run.ts';
import { ChaosCluster, type ClusterOptions } from './cluster.ts';
import type { Sighting } from './witness.ts';

export interface RunPlan extends ClusterOptions {
  /** In order of time; none for the twin. */
  readonly faults: Iterable<Fault>;
  /** The run is ended after so long under fire; null lets it come to its last step. */
  readonly fireMs: number | null;
  /** Gives up after so long without a commit. */
  readonly stallLimitMs: number;
}

export interface Trained {
  /** What kept the run from its end; null when nothing did. */
  readonly trouble: string | null;
  readonly sighting: Sighting;
  /** What `lockstep verify` finds wrong with the run's folder; null when nothing. */
  readonly verifyError: string | null;
  /** Of the newest valid checkpoint; null when there is none. */
  readonly digest: { readonly sha256: string; readonly step: number } | null;
  readonly committed: readonly CommittedRecord[];
}

/** Null when the user stopped it. */
export async function trainThrough(plan: RunPlan): Promise<Trained | null> {
  const cluster = await ChaosCluster.start(plan);
  let interrupted = false;
  const onSignal = () => {
    interrupted = true;
    cluster.giveUp('interrupted');
  };
  const onExit = () => cluster.abandon();
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  process.on('exit', onExit);
  const stalled = setInterval(() => {
    if (performance.now() - cluster.lastProgressMs < plan.stallLimitMs) return;
    cluster.giveUp(`no step was committed for ${plan.stallLimitMs / 1000} s (--stall-limit)`);
  }, 1000);
  const ending = new AbortController();
  try {
    const striking = strike(cluster, plan, ending.signal).catch((error: unknown) =>
      cluster.giveUp(messageOf(error)),
    );
    const trouble = await cluster.over;
    ending.abort();
    await striking;
    await cluster.close();
    if (interrupted) return null;
    return { trouble, sighting: await cluster.report(), ...(await inspect(plan.runDir)) };
  } finally {
    ending.abort();
    clearInterval(stalled);
    await cluster.close();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
    process.off('exit', onExit);
  }
}

/** Fires the plan's faults at their times, from the first commit on; then ends the run, if the plan has an end. */
async function strike(
  cluster: ChaosCluster,
  { faults, fireMs }: RunPlan,
  signal: AbortSignal,
): Promise<void> {
  await Promise.race([cluster.nextCommit(), cluster.over]);
  const startMs = performance.now();
  for (const fault of faults) {
    if (fireMs !== null && fault.atMs > fireMs) break;
    if (!(await waitUntil(startMs + fault.atMs, signal))) return;
    cluster.fire(fault);
  }
  if (fireMs === null || !(await waitUntil(startMs + fireMs, signal))) return;
  await cluster.calm();
  // Only a run that stands at its newest commit, and does not repeat older ones, ends there.
  await Promise.race([cluster.nextCommit(), cluster.over]);
  cluster.stop();
}

/** False when the signal came first. */
async function waitUntil(atMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(Math.max(0, atMs - performance.now()), undefined, { signal });
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  }
}

async function inspect(runDir: string): Promise<Pick<Trained, 'verifyError' | 'digest' | 'committed'>> {
  let committed: readonly CommittedRecord[] = [];
  try {
    await verifyRun(runDir);
    committed = await committedRecords(runDir);
    return { verifyError: null, digest: await weightsDigest(runDir), committed };
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    return { verifyError: `${error.code}: ${error.message}`, digest: null, committed };
  }
}

async function committedRecords(runDir: string): Promise<CommittedRecord[]> {
  const committed: CommittedRecord[] = [];
  for await (const record of readHistory(join(runDir, COMMIT_LOG_FILE))) {
    if (record.kind === 'committed') committed.push(record);
  }
  return committed;
}

/** What was committed between the first commit, when the clock starts, and the last. */
export function throughputOf({ sighting, committed }: Trained): Throughput {
  const { commits, capacity } = sighting;
  const [first, last] = [commits[0], commits.at(-1)];
  return {
    tokens: committed.slice(1).reduce((total, { tokens }) => total + tokens, 0),
    workerMs: first && last ? capacityMs(capacity, first.atMs, last.atMs) : 0,
  };
}

export function contributionsOf({ committed }: Trained): Contribution[] {
  return committed.map(({ time, slots }) => ({
    atMs: Date.parse(time),
    workers: new Set(slots.map(({ worker }) => worker)),
  }));
}
