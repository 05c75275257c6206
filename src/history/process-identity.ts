/**
 * Which process this is, in a form that another can later check for life. A process id alone would
 * not do: ids are used again, and in a container the next process often has the same one.
 */
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { z } from 'zod';
import { systemCodeOf } from '../base/index.ts';

/** Of /proc/<pid>/stat, counted from 1. */
const START_TICKS_FIELD = 22;

export const processIdentitySchema = z.strictObject({
  host: z.string(),
  pid: z.int().min(1),
  /** The kernel's id of the time since it started; null where it gives none (other than Linux). */
  bootId: z.string().nullable(),
  /** When the process started, in ticks since boot; null where the kernel does not tell. */
  startTicks: z.string().nullable(),
});

export type ProcessIdentity = z.infer<typeof processIdentitySchema>;

export async function thisProcess(): Promise<ProcessIdentity> {
  return {
    host: hostname(),
    pid: process.pid,
    bootId: await bootId(),
    startTicks: await startTicksOf(process.pid),
  };
}

/** `elsewhere`: it ran on another host, whose processes cannot be seen from here. */
export async function livenessOf(other: ProcessIdentity): Promise<'alive' | 'dead' | 'elsewhere'> {
  if (other.host !== hostname()) return 'elsewhere';
  if (other.bootId !== (await bootId())) return 'dead';
  if (!exists(other.pid)) return 'dead';
  return (await startTicksOf(other.pid)) === other.startTicks ? 'alive' : 'dead';
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it is there and belongs to someone else.
    return systemCodeOf(error) !== 'ESRCH';
  }
}

async function bootId(): Promise<string | null> {
  return (await readOrNull('/proc/sys/kernel/random/boot_id'))?.trim() ?? null;
}

async function startTicksOf(pid: number): Promise<string | null> {
  const stat = await readOrNull(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The second field, the program's name, is in parentheses and may hold anything (man 5 proc).
  const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A zombie is dead; its parent has merely not asked after it yet.
  return state === 'Z' ? null : (rest[START_TICKS_FIELD - 4] ?? null);
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCodeOf(error) === null) throw error;
    return null;
  }
}
