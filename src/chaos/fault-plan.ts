/**
 * Which fault strikes when: a function of the seed alone, so that a bad afternoon can be had again. Pure.
 *
 * Faults arrive as a Poisson process. Kinds come in rounds, each a shuffle of all that were asked for:
 * as many faults as kinds are enough to have seen every kind.
 */
import { assert, PhiloxRng } from '../base/index.ts';

/**
 * `kill` is SIGKILL, `freeze` is SIGSTOP and later SIGCONT, `slow` is both several times a second. `cut`
 * parts a process from all others, or from the one kind of process that is named after it.
 */
export const FAULT_KINDS = [
  'kill-worker',
  'freeze-worker',
  'slow-worker',
  'cut-worker',
  'cut-worker-coordinator',
  'cut-worker-redis',
  'cut-worker-peer',
  'kill-coordinator',
  'freeze-coordinator',
  'slow-coordinator',
  'cut-coordinator',
  'kill-redis',
  'freeze-redis',
  'slow-redis',
  'cut-redis',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/**
 * How a link is cut. `silent` loses all bytes, and nobody is told; `outward` only those that the victim
 * sends, `inward` only those that it is sent; `reset` breaks the connections, and each new one.
 */
export const CUT_MODES = ['silent', 'outward', 'inward', 'reset'] as const;
export type CutMode = (typeof CUT_MODES)[number];

export interface Fault {
  /** From the first commit of the run. */
  readonly atMs: number;
  readonly kind: FaultKind;
  /** Which of the workers, from 0; null when it strikes another process. */
  readonly worker: number | null;
  /** How long it lasts; 0 for a kill. */
  readonly durationMs: number;
  /** Null for what is no cut. */
  readonly cut: CutMode | null;
  /** Which of the other workers `cut-worker-peer` cuts it off from, from 0; null for other kinds. */
  readonly peer: number | null;
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
    const cuts = new PhiloxRng({ seed, stream: 'faults', substream: 1, step: round, slot: 0 });
    for (const place of rng.permutation(kinds.length)) {
      const kind = kinds[place]!;
      atMs += (-Math.log(1 - rng.nextFloat()) * HOUR_MS) / faultsPerHour;
      // Drawn for every kind: what comes later does not depend on which kinds need them.
      const worker = rng.nextInt(workers);
      const limits = DURATION_LIMITS_MIN + (DURATION_LIMITS_MAX - DURATION_LIMITS_MIN) * rng.nextFloat();
      const mode = CUT_MODES[cuts.nextInt(CUT_MODES.length)]!;
      const peer = cuts.nextInt(Math.max(1, workers - 1));
      yield {
        atMs,
        kind,
        worker: isOfWorker(kind) ? worker : null,
        durationMs: kind.startsWith('kill-') ? 0 : limits * heartbeatLimitMs,
        cut: kind.startsWith('cut-') ? mode : null,
        peer: kind === 'cut-worker-peer' ? peer : null,
      };
    }
  }
}

/** Whether its victim is a worker: `<what is done>-<victim>[-<the other end of the link>]`. */
export function isOfWorker(kind: FaultKind): boolean {
  return kind.split('-')[1] === 'worker';
}
