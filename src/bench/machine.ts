/**
 * The machine a figure was measured on, and how busy others kept it just before: a figure taken on a
 * loaded machine says as much about the load. From /proc; absent where there is none.
 */
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const WATCH_MS = 1000;

export interface MachineLoad {
  /** Running processes, averaged over 1, 5 and 15 minutes. */
  readonly loadAverages: readonly number[];
  /** Shares of all processor time in the second watched, 0 .. 1. */
  readonly idleShare: number;
  readonly stealShare: number;
}

export function describeMachine(): string {
  const memoryGib = (totalmem() / 2 ** 30).toFixed(0);
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  return `${availableParallelism()} cores of ${model}, ${memoryGib} GiB, Node.js ${process.versions.node}`;
}

/** Watches the machine for a second; null where the system does not tell. */
export async function measureLoad(): Promise<MachineLoad | null> {
  try {
    const before = await readFile('/proc/stat', 'utf8');
    await sleep(WATCH_MS);
    const after = await readFile('/proc/stat', 'utf8');
    const loadAverages = parseLoadAverages(await readFile('/proc/loadavg', 'utf8'));
    return { loadAverages, ...processorShares(before, after) };
  } catch {
    return null;
  }
}

export function describeLoad(load: MachineLoad | null): string {
  if (load === null) return 'load before: not told by this system';
  const percent = (share: number) => `${Math.round(share * 100)} %`;
  const averages = load.loadAverages.map((average) => average.toFixed(2)).join(' ');
  return `load before: ${averages}; processors ${percent(load.idleShare)} idle, ${percent(load.stealShare)} stolen`;
}

export function parseLoadAverages(loadavg: string): number[] {
  return loadavg.trim().split(/\s+/).slice(0, 3).map(Number);
}

/** Shares of idle and stolen time between two readings of /proc/stat (proc(5)). */
export function processorShares(before: string, after: string): { idleShare: number; stealShare: number } {
  const earlier = processorTimes(before);
  const spent = processorTimes(after).map((ticks, index) => ticks - (earlier[index] ?? 0));
  const total = Math.max(
    1,
    spent.reduce((sum, ticks) => sum + ticks, 0),
  );
  // user nice system idle iowait irq softirq steal; waiting for a disk is idle time to a computation.
  const idle = (spent[3] ?? 0) + (spent[4] ?? 0);
  return { idleShare: idle / total, stealShare: (spent[7] ?? 0) / total };
}

/** The first eight fields: what follows is counted in them already. */
function processorTimes(stat: string): number[] {
  const line = stat.split('\n').find((text) => text.startsWith('cpu ')) ?? '';
  return line.trim().split(/\s+/).slice(1, 9).map(Number);
}
