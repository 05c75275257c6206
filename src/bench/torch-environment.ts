/**
 * PyTorch and transformers for the peers and for tests of parity, in a virtual environment of its own that outlives
 * them. It is a stranger to the product: whatever goes wrong here is a line that says why the peers are skipped.
 */
import { execFile } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../base/index.ts';
import { cacheFolder } from '../cli/index.ts';

const PACKAGES = ['torch', 'numpy', 'transformers', 'safetensors'];
const INSTALL_LIMIT_MS = 15 * 60_000;
const TRIAL_LIMIT_MS = 60_000;
/** What the peers need of it, and its version in one line. */
const TRIAL =
  'import torch, torch.distributed as d; assert d.is_gloo_available(), "torch has no gloo"; ' +
  'import importlib.util as u; lacking = [p for p in ("numpy", "transformers", "safetensors") if u.find_spec(p) is None]; ' +
  'assert not lacking, lacking; print(torch.__version__)';

export type TorchEnvironment =
  | { readonly available: true; readonly python: string; readonly version: string }
  | { readonly available: false; readonly reason: string };

export type AvailableTorch = Extract<TorchEnvironment, { available: true }>;

/** The environment that is there; nothing is installed. */
export function findTorch(): Promise<TorchEnvironment> {
  return trial(join(environmentFolder(), 'bin', 'python'));
}

/** Takes the environment that is there, or makes it; `note` is told before anything slow. */
export async function ensureTorch(note: (line: string) => void): Promise<TorchEnvironment> {
  const folder = environmentFolder();
  const python = join(folder, 'bin', 'python');
  const present = await trial(python);
  if (present.available) return present;
  note(`installing ${PACKAGES.join(', ')} with pip into ${folder}, once`);
  try {
    await rm(folder, { recursive: true, force: true });
    await mkdir(cacheFolder(), { recursive: true });
    await execute('python3', ['-m', 'venv', folder], INSTALL_LIMIT_MS);
    const quiet = ['--quiet', '--disable-pip-version-check', '--retries', '1'];
    await execute(python, ['-m', 'pip', 'install', ...quiet, ...PACKAGES], INSTALL_LIMIT_MS);
  } catch (error) {
    return { available: false, reason: messageOf(error) };
  }
  return trial(python);
}

function environmentFolder(): string {
  return join(cacheFolder(), 'bench-venv');
}

async function trial(python: string): Promise<TorchEnvironment> {
  try {
    return { available: true, python, version: await execute(python, ['-c', TRIAL], TRIAL_LIMIT_MS) };
  } catch (error) {
    return { available: false, reason: messageOf(error) };
  }
}

/** Standard output without surrounding space. Rejects with one line: the program and its own last word. */
function execute(program: string, args: readonly string[], timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: timeoutMs }, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout.trim());
        return;
      }
      const why = error.killed ? `took more than ${timeoutMs / 1000} s` : lastError(stderr || stdout);
      const command = [program, ...args.slice(0, 3)].join(' ');
      reject(new Error(`${command}: ${why === '' ? messageOf(error) : why}`));
    });
  });
}

/** pip ends in hints; the line that says what failed starts with ERROR. */
function lastError(output: string): string {
  const lines = output.trim().split('\n');
  const failures = lines.filter((line) => /^\s*(ERROR|Error|\w*Error)\b/.test(line));
  return (failures.at(-1) ?? lines.at(-1) ?? '').trim();
}
