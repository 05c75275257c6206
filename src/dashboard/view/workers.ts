/**
 * The table of workers: who is present, in which state, what each has reported; and the newest of those
 * that left or were lost. A worker that comes back under its name takes its old row. Pure.
 */
import { quantile } from '../../base/index.ts';
import type { PhaseTimes, WorkerRow, WorkerState } from '../contract.ts';
import type { Pace } from './pace.ts';
import type { ReportedRecord, SampledRecord } from './record.ts';
import { Ring } from './ring.ts';
import { inNaturalOrder } from './timeline.ts';

const GONE_MAX = 100;
/** A worker that computes this many times slower than the median of the others is marked. */
const STRAGGLER_FACTOR = 1.5;
/** Samples that network rates are taken over. */
const TRAFFIC_SAMPLES = 10;

type SampledWorker = SampledRecord['workers'][number];

interface Traffic {
  readonly at: number;
  readonly sent: number;
  readonly received: number;
}

interface Entry {
  readonly name: string;
  readonly joinedAt: number;
  host: string;
  pid: number;
  device: string;
  state: WorkerState;
  reason: string | null;
  generation: number | null;
  endedAt: number | null;
  phases: PhaseTimes | null;
  sampled: SampledWorker | null;
  readonly traffic: Ring<Traffic>;
}

export class WorkerTable {
  readonly #entries = new Map<string, Entry>();
  #engine = '';

  joined(name: string, host: string, pid: number, at: number): void {
    const blank = { device: '', reason: null, generation: null, endedAt: null, phases: null, sampled: null };
    this.#entries.delete(name);
    const entry = { name, host, pid, joinedAt: at, state: 'preparing', ...blank } as const;
    this.#entries.set(name, { ...entry, traffic: new Ring<Traffic>(TRAFFIC_SAMPLES) });
    this.#forgetOldest();
  }

  entered(name: string, generation: number | null, device: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    entry.state = 'training';
    entry.generation = generation;
    entry.device = device;
  }

  draining(name: string): void {
    const entry = this.#entries.get(name);
    if (entry !== undefined && !isGone(entry)) entry.state = 'draining';
  }

  ended(name: string, state: 'left' | 'lost', reason: string, at: number): void {
    const entry = this.#entries.get(name);
    if (entry === undefined || isGone(entry)) return;
    end(entry, state, reason, at);
  }

  report({ worker, times }: ReportedRecord): void {
    const entry = this.#entries.get(worker);
    if (entry !== undefined) entry.phases = times;
  }

  sample({ workers, engineVersion, generation }: SampledRecord, at: number): void {
    this.#engine = engineVersion ?? this.#engine;
    for (const sampled of workers) {
      const known = this.#entries.get(sampled.worker);
      // Lines may be missing from the record: what is there now is there.
      if (known === undefined || isGone(known)) this.joined(sampled.worker, sampled.host, sampled.pid, at);
      const entry = this.#entries.get(sampled.worker)!;
      // A worker that was told to leave stays a member until its last step is committed.
      if (entry.state !== 'draining') entry.state = stateOf(sampled.phase);
      if (entry.state === 'training') entry.generation ??= generation;
      entry.device = sampled.device;
      entry.sampled = sampled;
      entry.traffic.push({ at, sent: sampled.sentBytes, received: sampled.receivedBytes });
    }
    const present = new Set(workers.map(({ worker }) => worker));
    for (const entry of this.#entries.values()) {
      if (!isGone(entry) && !present.has(entry.name)) end(entry, 'lost', 'it is not there any more', at);
    }
  }

  /** The run has ended or was started anew: nobody is there any more. */
  allGone(reason: string, at: number): void {
    for (const entry of this.#entries.values()) if (!isGone(entry)) end(entry, 'left', reason, at);
  }

  /** Present ones by name, then those gone, newest first. */
  rows(pace: Pace): WorkerRow[] {
    const entries = [...this.#entries.values()];
    const present = entries.filter((entry) => !isGone(entry));
    present.sort((a, b) => inNaturalOrder(a.name, b.name));
    const gone = entries.filter(isGone).sort((a, b) => (b.endedAt ?? 0) - (a.endedAt ?? 0));
    const speeds = present.flatMap(({ sampled }) => sampled?.slotsPerSecond ?? []);
    return [...present, ...gone].map((entry) => this.#row(entry, pace, speeds));
  }

  #row(entry: Entry, pace: Pace, speeds: readonly number[]): WorkerRow {
    const { name, host, pid, device, state, reason, phases, generation, joinedAt, endedAt, sampled } = entry;
    const isPresent = !isGone(entry);
    const speed = isPresent ? (sampled?.slotsPerSecond ?? null) : null;
    return {
      ...{ name, host, pid, device, engine: this.#engine, state, reason, phases, generation },
      ...{ joinedAt, endedAt },
      straggler: speed !== null && isStraggler(speed, speeds),
      slotsDone: isPresent ? (sampled?.slotsDone ?? 0) : 0,
      slotsLeased: isPresent ? (sampled?.slotsLeased ?? 0) : 0,
      slotsPerSecond: speed,
      tokensPerSecond: isPresent ? pace.tokensPerSecondOf(name) : null,
      residentBytes: sampled?.residentBytes ?? null,
      engineBytes: sampled?.engineBytes ?? null,
      sentBytes: sampled?.sentBytes ?? null,
      receivedBytes: sampled?.receivedBytes ?? null,
      sentBytesPerSecond: isPresent ? rateOf(entry.traffic.items, ({ sent }) => sent) : null,
      receivedBytesPerSecond: isPresent ? rateOf(entry.traffic.items, ({ received }) => received) : null,
      logs: logsOf(name),
    };
  }

  #forgetOldest(): void {
    const gone = [...this.#entries.values()].filter(isGone);
    if (gone.length <= GONE_MAX) return;
    gone.sort((a, b) => (a.endedAt ?? 0) - (b.endedAt ?? 0));
    this.#entries.delete(gone[0]!.name);
  }
}

/** Log files in which a worker's life can be read, below the run's `logs` folder. */
export function logsOf(worker: string | null): string[] {
  return worker === null || !/^[\w.-]+$/.test(worker)
    ? ['coordinator.log']
    : ['coordinator.log', `${worker}.log`];
}

function isGone({ state }: Entry): boolean {
  return state === 'left' || state === 'lost';
}

function end(entry: Entry, state: 'left' | 'lost', reason: string, at: number): void {
  entry.state = state;
  entry.reason = reason;
  entry.endedAt = at;
}

/** The coordinator's word for a worker's way into the membership, as a page shows it. */
function stateOf(phase: string): WorkerState {
  if (phase === 'preparing') return phase;
  if (phase === 'leaving') return 'draining';
  return phase === 'member' ? 'training' : 'joining';
}

function isStraggler(speed: number, all: readonly number[]): boolean {
  // Against the others: of two workers, neither is slow compared with a median that it is part of.
  const others = [...all];
  others.splice(others.indexOf(speed), 1);
  return others.length > 0 && speed * STRAGGLER_FACTOR < quantile(others, 0.5);
}

function rateOf(samples: readonly Traffic[], bytes: (sample: Traffic) => number): number | null {
  const first = samples[0];
  const last = samples.at(-1);
  if (first === undefined || last === undefined || last.at <= first.at) return null;
  return Math.max(0, ((bytes(last) - bytes(first)) * 1000) / (last.at - first.at));
}
