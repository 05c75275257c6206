/**
 * Which fault strikes when: a function of the seed alone, so that a bad afternoon can be had again. Pure.
 *
 * Faults arrive as a Poisson process. Kinds come in rounds, each a shuffle of all that were asked for:
 * as many faults as kinds are enough to have seen every kind.
 */
import { assert, PhiloxRng } from '../base/index.ts';

/** `kill` is SIGKILL, `freeze` is SIGSTOP and later SIGCONT, `slow` is both many times a second. */
export const FAULT_KINDS = [
  'kill-worker',
  'freeze-worker',
  'slow-worker',
  'kill-coordinator',
  'freeze-coordinator',
  'kill-redis',
  'freeze-redis',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  /** From the first commit of the run. */
  readonly atMs: number;
  readonly kind: FaultKind;
  /** Which of the workers, from 0; null when it strikes another process. */
  readonly worker: number | null;
  /** How long it lasts; 0 for a kill. */
  readonly durationMs: number;
}

export interface FaultPlanOptions {
  readonly seed: number;
  readonly kinds: readonly FaultKind[];
  readonly workers: number;
  readonly faultsPerHour: number;
  readonly heartbeatLimitMs: number;
}

/** Shorter than the heartbeat limit, so that some victims are back before they are missed; and much longer. */
const DURATION_LIMITS_MIN = 0.5;
const DURATION_LIMITS_MAX = 3;
const HOUR_MS = 3_600_000;

/** The faults in order of time, without end: as many are taken as the run has time for. */
export function* planFaults(options: FaultPlanOptions): Generator<Fault, never> {
  const { seed, kinds, workers, faultsPerHour, heartbeatLimitMs } = options;
  assert(
    kinds.length > 0 && workers > 0 && faultsPerHour > 0,
    'a fault plan needs kinds, workers and a rate',
  );
  let atMs = 0;
  for (let round = 0; ; round += 1) {
    const rng = new PhiloxRng({ seed, stream: 'faults', substream: 0, step: round, slot: 0 });
    for (const place of rng.permutation(kinds.length)) {
      const kind = kinds[place]!;
      atMs += (-Math.log(1 - rng.nextFloat()) * HOUR_MS) / faultsPerHour;
      // Drawn for every kind: what comes later does not depend on which kinds need them.
      const worker = rng.nextInt(workers);
      const limits = DURATION_LIMITS_MIN + (DURATION_LIMITS_MAX - DURATION_LIMITS_MIN) * rng.nextFloat();
      yield {
        atMs,
        kind,
        worker: kind.endsWith('-worker') ? worker : null,
        durationMs: kind.startsWith('kill-') ? 0 : limits * heartbeatLimitMs,
      };
    }
  }
}
