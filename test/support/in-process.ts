/**
 * Runs a `lockstep` command of the built program within this process: all of it but the second that a process takes to load
 * what it needs. For what ends before workers, engines or servers start: refused flags, damaged files, reports. Commands run one
 * at a time.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Finished } from './lockstep-command.ts';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** The built program's rooms, which a child process can import: `npm test` has built them from the source as it is. */
export const BUILT = join(ROOT, 'dist');
/** What commands listen for and, as their process ends with them, go on to. */
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;
const PROGRAM = new URL('../../dist/cli/program.js', import.meta.url).href;

/** Thrown in place of ending the process. */
class Exit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

export async function runInProcess(
  args: readonly string[],
  { env = {} }: { env?: NodeJS.ProcessEnv } = {},
): Promise<Finished> {
  const { programFor } = (await import(PROGRAM)) as typeof import('../../src/cli/program.ts');
  const before = {
    env: { ...process.env },
    cwd: process.cwd(),
    exit: process.exit,
    exitCode: process.exitCode,
    out: process.stdout.write,
    err: process.stderr.write,
    listeners: SIGNALS.map((signal) => process.listeners(signal)),
  };
  const said = { stdout: '', stderr: '' };
  const into = (name: keyof typeof said) =>
    ((chunk: string | Uint8Array) => {
      said[name] += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
      return true;
    }) as typeof process.stdout.write;
  process.stdout.write = into('stdout');
  process.stderr.write = into('stderr');
  process.exit = ((code?: number) => {
    throw new Exit(code ?? 0);
  }) as typeof process.exit;
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  process.chdir(ROOT);
  process.exitCode = 0;
  try {
    await (await programFor(args)).parseAsync([...args], { from: 'user' });
    return { code: Number(process.exitCode), signal: null, ...said };
  } catch (error) {
    if (error instanceof Exit) return { code: error.code, signal: null, ...said };
    throw error;
  } finally {
    process.stdout.write = before.out;
    process.stderr.write = before.err;
    process.exit = before.exit;
    process.exitCode = before.exitCode;
    process.chdir(before.cwd);
    for (const [index, signal] of SIGNALS.entries()) {
      const added = process.listeners(signal).filter((one) => !before.listeners[index]!.includes(one));
      for (const listener of added) process.off(signal, listener);
    }
    for (const name of Object.keys(process.env)) if (!(name in before.env)) delete process.env[name];
    Object.assign(process.env, before.env);
  }
}

/** The standard output of a command that must succeed. */
export async function succeedInProcess(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runInProcess(args);
  if (code !== 0) throw new Error(`lockstep ${args.join(' ')} ended with ${code}:\n${stdout}\n${stderr}`);
  return stdout;
}
