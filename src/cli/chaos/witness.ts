/**
 * What is seen of a disturbed run while it goes on: commits, faults, capacity alive, newcomers and
 * refusals, from what the processes log and from what is done to them. It decides nothing.
 */
import { readFile } from 'node:fs/promises';
import { type Logger, systemCodeOf } from '../../base/index.ts';
import type {
  CapacityChange,
  Commit,
  Fault,
  FaultKind,
  FiredFault,
  Join,
  Refusals,
} from '../../chaos/index.ts';

export interface Sighting {
  readonly commits: readonly Commit[];
  readonly faults: readonly FiredFault[];
  readonly capacity: readonly CapacityChange[];
  readonly joins: readonly Join[];
  readonly refused: Refusals;
  readonly workersLost: number;
  readonly unexpectedExits: readonly string[];
}

/** What keeps a worker's capacity from being whole. */
interface Capacity {
  isRunning: boolean;
  /** The share of time that its process runs. */
  share: number;
  /** Cuts that keep work from it. */
  cuts: number;
}

export class Witness {
  readonly #commits: Commit[] = [];
  readonly #faults: { kind: FaultKind; atMs: number; endMs: number }[] = [];
  readonly #capacity: CapacityChange[] = [];
  readonly #workers: readonly Capacity[];
  readonly #joins: (Join & { helloMs: number | null })[] = [];
  readonly #frames = new Map<string, number>();
  readonly #unexpectedExits: string[] = [];
  readonly #counts = { results: 0, evictions: 0, lost: 0 };
  /** Of those who wait for the next commit. */
  readonly #wakers: (() => void)[] = [];

  readonly #logger: Logger;

  /** Faults go to `logger`, to be read beside what the processes log themselves. */
  constructor(numWorkers: number, logger: Logger) {
    this.#logger = logger;
    this.#workers = Array.from({ length: numWorkers }, () => ({ isRunning: false, share: 1, cuts: 0 }));
  }

  get lastCommit(): Commit | null {
    return this.#commits.at(-1) ?? null;
  }

  nextCommit(): Promise<void> {
    return new Promise((resolve) => this.#wakers.push(resolve));
  }

  /** Takes in a log line of the coordinator. */
  coordinatorSaid(line: string): void {
    const { event, step, worker, reason, count, returning } = parseLine(line);
    switch (event) {
      case 'workerLost':
        this.#counts.lost += 1;
        return;
      case 'frameRefused':
        this.#refused(reason, count);
        return;
      case 'resultRefused':
        this.#counts.results += 1;
        return;
      case 'workerJoined': {
        if (returning === true) {
          this.#counts.evictions += 1;
          this.#joined(String(worker), false);
        }
        const join = this.#joins.findLast((known) => known.worker === worker);
        if (join !== undefined) join.helloMs ??= Date.now();
        return;
      }
      case 'committed': {
        // Seen for the first time: a coordinator that was killed may have recorded a step without saying so.
        if (typeof step !== 'number' || step <= (this.lastCommit?.step ?? 0)) return;
        this.#commits.push({ step, atMs: performance.now() });
        for (const wake of this.#wakers.splice(0)) wake();
        return;
      }
    }
  }

  workerStarted(worker: number, name: string): void {
    if (this.lastCommit !== null) this.#joined(name, true);
    this.#change(worker, { isRunning: true, share: 1 });
  }

  workerEnded(worker: number): void {
    this.#change(worker, { isRunning: false });
  }

  /** The share of time that a worker's process may run has changed. */
  workerHeld(worker: number, share: number): void {
    this.#change(worker, { share });
  }

  /** A cut keeps work from a worker, or one is healed. */
  workerCut(worker: number, isCut: boolean): void {
    this.#change(worker, { cuts: this.#workers[worker]!.cuts + (isCut ? 1 : -1) });
  }

  /** Returns what is to be called when the victim has been let go. */
  faultFired({ kind, worker, cut, peer }: Fault): () => void {
    const atMs = performance.now();
    this.#logger.info('faultFired', { kind, worker, cut, peer });
    // Until it is let go, nothing recovers from it.
    const fault = { kind, atMs, endMs: Number.POSITIVE_INFINITY };
    this.#faults.push(fault);
    return () => {
      fault.endMs = kind.startsWith('kill-') ? atMs : performance.now();
      this.#logger.info('faultEnded', { kind, worker });
    };
  }

  endedByItself(what: string): void {
    this.#unexpectedExits.push(what);
  }

  /** Everything, with what the workers' logs tell. */
  async report(workerLogs: readonly string[]): Promise<Sighting> {
    for (const file of workerLogs) {
      for (const line of await linesOf(file)) {
        const { event, reason, count } = parseLine(line);
        if (event === 'frameRefused') this.#refused(reason, count);
      }
    }
    const { results, evictions, lost } = this.#counts;
    return {
      commits: this.#commits,
      faults: this.#faults,
      capacity: this.#capacity,
      joins: this.#joins,
      refused: { frames: Object.fromEntries(this.#frames), results, evictions },
      workersLost: lost,
      unexpectedExits: this.#unexpectedExits,
    };
  }

  #joined(worker: string, isProcess: boolean): void {
    this.#joins.push({ worker, isProcess, startedMs: Date.now(), helloMs: null });
  }

  #refused(reason: unknown, count: unknown): void {
    if (typeof reason !== 'string' || typeof count !== 'number') return;
    this.#frames.set(reason, (this.#frames.get(reason) ?? 0) + count);
  }

  #change(worker: number, change: Partial<Capacity>): void {
    const capacity = this.#workers[worker]!;
    const before = wholeness(capacity);
    Object.assign(capacity, change);
    const delta = wholeness(capacity) - before;
    if (delta !== 0) this.#capacity.push({ atMs: performance.now(), delta });
  }
}

function wholeness({ isRunning, share, cuts }: Capacity): number {
  return isRunning && cuts === 0 ? share : 0;
}

async function linesOf(file: string): Promise<string[]> {
  try {
    return (await readFile(file, 'utf8')).split('\n');
  } catch (error) {
    // A worker that was killed early enough has written none.
    if (systemCodeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** The fields of a JSON log line; none for other text, or for a line that a kill cut short. */
function parseLine(line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
