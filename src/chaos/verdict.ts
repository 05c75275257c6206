/**
 * Whether a disturbed run kept the promises: same digest, every micro-batch once, faults that really
 * struck. Pure. Each broken promise is one sentence; no sentence, no failure.
 */
import type { FaultKind } from './fault-plan.ts';
import type { Goodput, JoinSummary, RecoverySummary } from './observations.ts';

/** What the commit log says was counted, against what the configuration asks for. */
export interface LedgerTally {
  readonly steps: number;
  readonly stepsExpected: number;
  /** Micro-batches of steps that were never committed, or that a record leaves out. */
  readonly lost: number;
  /** Micro-batches of steps that were committed more than once, or that a record has too many of. */
  readonly doubled: number;
}

/** Tallies the committed steps, given as (step, number of slots), in whatever order. */
export function tallyLedger(
  committed: readonly { readonly step: number; readonly slots: number }[],
  stepsExpected: number,
  microBatches: number,
): LedgerTally {
  const counted = new Map<number, number>();
  for (const { step, slots } of committed) counted.set(step, (counted.get(step) ?? 0) + slots);
  let lost = 0;
  let doubled = 0;
  for (let step = 1; step <= stepsExpected; step += 1) {
    const slots = counted.get(step) ?? 0;
    lost += Math.max(0, microBatches - slots);
    doubled += Math.max(0, slots - microBatches);
    counted.delete(step);
  }
  // Steps beyond the end belong to no run of this configuration.
  for (const slots of counted.values()) doubled += slots;
  return { steps: committed.length, stepsExpected, lost, doubled };
}

export interface Refusals {
  /**
   * Frames and messages refused at the door, by reason. What a process refused in the last fraction of a
   * second before it was killed is not told.
   */
  readonly frames: Readonly<Record<string, number>>;
  /** Results of work that the sender did not hold any more. */
  readonly results: number;
  /** Workers that were told they take no part any more, and came back as new ones. */
  readonly evictions: number;
}

export interface Evidence {
  /** Why the run did not come to its end; null when it did. */
  readonly trouble: string | null;
  readonly expectedDigest: string;
  /** Of the newest valid checkpoint; null when there is none. */
  readonly digest: string | null;
  /** What `lockstep verify` finds wrong with the run's folder; null when nothing. */
  readonly verifyError: string | null;
  readonly ledger: LedgerTally;
  readonly recoveries: readonly RecoverySummary[];
  /** Processes that ended without having been killed, before the run was over. */
  readonly unexpectedExits: readonly string[];
  readonly refused: Refusals;
  /** Workers that the coordinator declared lost. */
  readonly workersLost: number;
  /** Workers that began during the run, as new processes, and within processes that were evicted. */
  readonly joined: JoinSummary;
  readonly cameBack: JoinSummary;
  /** Null without a twin to compare with. */
  readonly goodput: Goodput | null;
}

export interface Verdict extends Evidence {
  readonly ok: boolean;
  readonly failures: readonly string[];
}

export function judge(evidence: Evidence): Verdict {
  const failures = failuresOf(evidence);
  return { ok: failures.length === 0, failures, ...evidence };
}

function failuresOf(evidence: Evidence): string[] {
  const { trouble, digest, expectedDigest, verifyError, ledger, recoveries, unexpectedExits } = evidence;
  const failures: string[] = [];
  if (trouble !== null) failures.push(trouble);
  if (digest !== expectedDigest) {
    failures.push(
      `the weights have digest ${digest ?? 'none'}, those of the undisturbed run ${expectedDigest}`,
    );
  }
  if (verifyError !== null) failures.push(`verify: ${verifyError}`);
  const { steps, stepsExpected, lost, doubled } = ledger;
  if (steps !== stepsExpected) failures.push(`${steps} steps are committed instead of ${stepsExpected}`);
  if (lost > 0) failures.push(`${lost} micro-batches are lost`);
  if (doubled > 0) failures.push(`${doubled} micro-batches are counted twice`);
  const idle: FaultKind[] = recoveries.filter(({ fired }) => fired === 0).map(({ kind }) => kind);
  if (idle.length > 0) {
    failures.push(
      `the run was over before ${idle.join(', ')} struck: raise --steps, --minutes or --faults-per-hour`,
    );
  }
  for (const exit of unexpectedExits) failures.push(`ended by itself: ${exit}`);
  return failures;
}
