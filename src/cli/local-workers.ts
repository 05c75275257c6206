/** Lockstep processes on this machine: what `train`, `chaos` and `prepare` start and watch. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { endingWithParent } from '../queue/index.ts';
import { TOKEN_VARIABLE } from './token.ts';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));

export interface LocalWorkerOptions {
  readonly name: string;
  readonly token: string;
  /** Flags that say where the coordinator is, and how else the worker is linked. */
  readonly links: readonly string[];
  readonly dataDir: string;
  readonly logFile: string;
  readonly throttleMs: number;
  /** See `lockstep worker --host-threads`. */
  readonly hostThreads: number;
  /** Index or name of its device; absent or null leaves it to the engine. */
  readonly device?: string | null;
}

export interface LocalProcess {
  readonly name: string;
  readonly pid: number;
  /** Resolves when the process has ended, with its exit code (null after a signal) and the last line it said. */
  readonly ended: Promise<{ readonly code: number | null; readonly lastLine: string }>;
  kill(signal: NodeJS.Signals): void;
}

export function startLocalWorker(options: LocalWorkerOptions): LocalProcess {
  const { name, links, token, dataDir, logFile, throttleMs, hostThreads, device } = options;
  const flags = [...links, '--data', dataDir, '--name', name, '--log-file', logFile];
  flags.push('--host-threads', String(hostThreads));
  if (device != null) flags.push('--device', device);
  if (throttleMs > 0) flags.push('--throttle', String(throttleMs));
  return startLocalProcess(name, ['worker', ...flags], { [TOKEN_VARIABLE]: token });
}

/**
 * Starts `lockstep ARGS` with `environment` beside this process's own; `onLine` hears its standard error. It
 * does not outlive this process, frozen or not.
 */
export function startLocalProcess(
  name: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  onLine?: (line: string) => void,
): LocalProcess {
  // Its own process group: a Ctrl-C reaches the launcher, which lets the step finish. The IPC channel
  // tells a worker should the launcher die; the kernel ends whoever cannot listen.
  const [command, ...rest] = endingWithParent('KILL', [process.execPath, MAIN, ...args]);
  const child = spawn(command!, rest, {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, ...environment },
  });
  if (onLine !== undefined && child.stderr !== null) createInterface(child.stderr).on('line', onLine);
  return { name, pid: child.pid ?? 0, ended: endOf(child), kill: (signal) => child.kill(signal) };
}

function endOf(child: ChildProcess): Promise<{ code: number | null; lastLine: string }> {
  let tail = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    tail = (tail + chunk.toString()).slice(-4096);
  });
  const lastLine = () => tail.trim().split('\n').at(-1) ?? '';
  return new Promise((resolve) => {
    child.once('close', (code) => resolve({ code, lastLine: lastLine() }));
    child.once('error', (error) => resolve({ code: null, lastLine: error.message }));
  });
}
