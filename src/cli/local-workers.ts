/** Worker processes on this machine, started and watched by `train`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
/** The token travels in the environment, where other users cannot read it off the process list. */
export const TOKEN_VARIABLE = 'LOCKSTEP_TOKEN';

export interface LocalWorkerOptions {
  readonly name: string;
  readonly coordinator: string;
  readonly token: string;
  readonly dataDir: string;
  readonly logFile: string;
  readonly throttleMs: number;
}

export interface LocalWorker {
  readonly name: string;
  readonly pid: number;
  /** Resolves when the process has ended, with its exit code and the last line it said. */
  readonly ended: Promise<{ readonly code: number | null; readonly lastLine: string }>;
  kill(signal: NodeJS.Signals): void;
}

export function startLocalWorker(options: LocalWorkerOptions): LocalWorker {
  const { name, coordinator, token, dataDir, logFile, throttleMs } = options;
  const flags = ['--coordinator', coordinator, '--data', dataDir, '--name', name, '--log-file', logFile];
  if (throttleMs > 0) flags.push('--throttle', String(throttleMs));
  // Its own process group: a Ctrl-C reaches the launcher, which lets the step finish. The IPC channel
  // tells the worker should the launcher die.
  const child = spawn(process.execPath, [MAIN, 'worker', ...flags], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, [TOKEN_VARIABLE]: token },
  });
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
