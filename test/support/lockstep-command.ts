/**
 * Runs the built `lockstep` command as a person would: real processes, real Redis, real sockets. The
 * build in dist/ is the one `npm test` has made.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inject } from 'vitest';
import { ROOT, succeedInProcess } from './in-process.ts';

export const MAIN = join(ROOT, 'dist', 'cli', 'main.js');
export const CORPUS = join(ROOT, 'corpus', 'encyclopedia.xml');

export interface Finished {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly finished: Promise<Finished>;
  /** Resolves with the first log line (JSON, standard error) that satisfies the test; rejects if it ends before. */
  untilLogged(satisfies: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
  /** The log lines of an event so far. */
  logged(event: string): Record<string, unknown>[];
  kill(signal: NodeJS.Signals): void;
}

export function start(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Running {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing: run \`npm run build\``);
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  const watchers = new Set<() => void>();
  const wake = () => {
    for (const watcher of watchers) watcher();
  };
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
    wake();
  });
  const finished = new Promise<Finished>((resolve) => {
    child.once('close', (code, signal) => {
      resolve({ code, signal, stdout, stderr });
      wake();
    });
  });
  return {
    child,
    pid: child.pid ?? 0,
    finished,
    kill: (signal) => child.kill(signal),
    logged: (event) => {
      const lines = stderr.split('\n').map(parseLine);
      return lines.filter((line): line is Record<string, unknown> => line?.event === event);
    },
    untilLogged: (satisfies) =>
      new Promise((resolve, reject) => {
        let seen = 0;
        const look = () => {
          const lines = stderr.split('\n');
          for (const line of lines.slice(seen, -1)) {
            seen += 1;
            const parsed = parseLine(line);
            if (parsed !== null && satisfies(parsed)) {
              watchers.delete(look);
              resolve(parsed);
              return;
            }
          }
          if (child.exitCode !== null || child.signalCode !== null) {
            watchers.delete(look);
            reject(new Error(`the command ended before the line came:\n${stdout}\n${stderr}`));
          }
        };
        watchers.add(look);
        look();
      }),
  };
}

/** The address that a started `lockstep coordinator` says it waits at; rejects with its words if it ends before. */
export function endpointOf({ child, finished }: Running): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const found = /waiting for workers at (\S+)/.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    void finished.then(({ stderr }) => reject(new Error(stderr)));
  });
}

export function run(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Promise<Finished> {
  return start(args, options).finished;
}

/** Runs a command that must succeed; its standard output. */
export async function succeed(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(args);
  if (code !== 0) throw new Error(`lockstep ${args.join(' ')} ended with ${code}:\n${stdout}\n${stderr}`);
  return stdout;
}

export async function digestOf(runDir: string): Promise<string> {
  return (await succeedInProcess(['digest', runDir])).trim();
}

export function isCommit(step: number): (line: Record<string, unknown>) => boolean {
  return (line) => line.event === 'committed' && line.step === step;
}

/** The records of a run's commit log, without their checksums. */
export function recordsOf(runDir: string): Record<string, unknown>[] {
  return readFileSync(join(runDir, 'commits.log'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line.slice(line.indexOf(' ') + 1)) as Record<string, unknown>);
}

export function committedSteps(runDir: string): unknown[] {
  return recordsOf(runDir).flatMap((record) => (record.kind === 'committed' ? [record.step] : []));
}

/** The workers who computed slots of the steps committed so far, each slot in order: a name occurs once per slot. */
export function slotOwners(runDir: string): string[] {
  return recordsOf(runDir).flatMap(({ slots }) =>
    ((slots ?? []) as { worker: string }[]).map(({ worker }) => worker),
  );
}

/** Process ids whose command line mentions `text`. */
export function processesMentioning(text: string): number[] {
  const { pid: self } = process;
  const pids = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
  return pids.filter((pid) => pid !== self && commandLine(pid).includes(text));
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

function parseLine(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** A folder with a small data set of the shipped corpus in `data`; removed by `remove`. */
export async function preparedFolder(): Promise<{ dir: string; data: string; remove(): void }> {
  const dir = mkdtempSync(join(tmpdir(), 'lockstep-train-'));
  const data = join(dir, 'data');
  cpSync(await sharedDataset(), data, { recursive: true });
  return { dir, data, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Made once for all test files; two that come at the same time both make it, and it is that of the first. */
async function sharedDataset(): Promise<string> {
  const shared = join(inject('sharedFolder'), 'dataset');
  if (existsSync(shared)) return shared;
  const own = `${shared}.${process.pid}`;
  await succeedInProcess(['prepare', CORPUS, '--out', own, '--vocab-size', '1000']);
  try {
    renameSync(own, shared);
  } catch (error) {
    if (!existsSync(shared)) throw error;
    rmSync(own, { recursive: true });
  }
  return shared;
}
