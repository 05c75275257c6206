/**
 * What the set-up steps share: running a program, finding one on PATH, a lock between two set-ups, apt.
 * Programs run asynchronously on purpose: while one runs, the lock's heartbeat must go on.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { accessSync, constants, statSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rm, stat, utimes } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * @typedef {{ ok: boolean, output: string, stdout: string, problem: string }} Ran
 *   `output`: standard output and error together. `problem`: how it ended, when not ok.
 */

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();

/**
 * Passes a signal on to the programs that run now: none may go on in a folder that the next set-up clears.
 * @param {NodeJS.Signals} signal
 */
export function stopPrograms(signal) {
  for (const child of running) child.kill(signal);
}

/**
 * Runs a program to its end; never throws, a program that cannot be started is a result that is not ok.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: Record<string, string | undefined>, timeoutMs?: number, onOutput?: (text: string) => void }} [options]
 *   `env` is added to the present environment
 * @returns {Promise<Ran>}
 */
export function run(command, args, { cwd, env, timeoutMs = 20 * 60_000, onOutput } = {}) {
  return new Promise((resolve) => {
    let output = '';
    let stdout = '';
    let isTimedOut = false;
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    const timer = setTimeout(() => {
      isTimedOut = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (/** @type {string} */ text) => {
        output += text;
        if (stream === child.stdout) stdout += text;
        onOutput?.(text);
      });
    }
    const finish = (/** @type {string} */ problem) => {
      clearTimeout(timer);
      running.delete(child);
      resolve({ ok: problem === '', output, stdout, problem });
    };
    child.on('error', (error) => finish(error.message));
    child.on('close', (code, signal) => {
      if (isTimedOut) finish(`took longer than ${timeoutMs / 1000} s`);
      else if (signal !== null) finish(`was ended by ${signal}`);
      else finish(code === 0 ? '' : `exit status ${code}`);
    });
  });
}

/**
 * The full path of a program on PATH.
 * @param {string} name
 * @returns {string | undefined}
 */
export function which(name) {
  for (const directory of (process.env.PATH ?? '').split(path.delimiter)) {
    const file = path.join(directory, name);
    try {
      accessSync(file, constants.X_OK);
      if (statSync(file).isFile()) return file;
    } catch {
      // Not in this directory: the next one may have it.
    }
  }
  return undefined;
}

/**
 * Calls back with the size of the largest file below a folder, twice a second, until stopped: how far a download is.
 * @param {string} folder
 * @param {(bytes: number) => void} onSize
 * @returns {() => void}
 */
export function watchSize(folder, onSize) {
  const timer = setInterval(async () => {
    let bytes = 0;
    for (const name of await readdir(folder, { recursive: true }).catch(() => [])) {
      const found = await stat(path.join(folder, name)).catch(() => undefined);
      if (found?.isFile()) bytes = Math.max(bytes, found.size);
    }
    if (bytes > 1e6) onSize(bytes);
  }, 500);
  return () => clearInterval(timer);
}

const HEARTBEAT_MS = 5_000;
const STALE_MS = 30_000;

/**
 * Runs `body` while no other process that uses the same lock file does. A lock whose owner is gone (dead on this host, or
 * silent for 30 s wherever it was) is taken over. Two waiters may take over the same dead lock at the same instant; what is
 * done under a lock is therefore also written under temporary names and renamed, so that at worst it is done twice.
 * @template T
 * @param {string} file
 * @param {() => void} onWait called once if somebody else holds it
 * @param {() => Promise<T>} body
 * @returns {Promise<T>}
 */
export async function withLock(file, onWait, body) {
  await mkdir(path.dirname(file), { recursive: true });
  const mine = JSON.stringify({ pid: process.pid, host: os.hostname(), token: randomUUID() });
  let hasWaited = false;
  while (!(await createExclusively(file, mine))) {
    if (await isAbandoned(file)) {
      await rm(file, { force: true });
      continue;
    }
    if (!hasWaited) onWait();
    hasWaited = true;
    await sleep(250);
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    utimes(file, now, now).catch(() => {});
  }, HEARTBEAT_MS);
  try {
    return await body();
  } finally {
    clearInterval(heartbeat);
    if ((await readFile(file, 'utf8').catch(() => '')) === mine) await rm(file, { force: true });
  }
}

/**
 * @param {string} file
 * @param {string} content
 */
async function createExclusively(file, content) {
  try {
    const handle = await open(file, 'wx');
    await handle.writeFile(content);
    await handle.close();
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EEXIST') return false;
    throw error;
  }
}

/** @param {string} file */
async function isAbandoned(file) {
  try {
    const { mtimeMs } = await stat(file);
    if (Date.now() - mtimeMs > STALE_MS) return true;
    const owner = JSON.parse(await readFile(file, 'utf8'));
    return owner.host === os.hostname() && !isAlive(owner.pid);
  } catch {
    // Released meanwhile, or its owner has not written it yet: look again.
    return false;
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

// $1: a service that must not stay enabled, or empty; the rest: packages. policy-rc.d keeps any service from starting while
// packages are unpacked, and is taken away again only if it was put there here.
const APT_SCRIPT = `
set -e
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
service=$1; shift
policy=/usr/sbin/policy-rc.d
wrote=
trap 'test -z "$wrote" || rm -f "$policy"' EXIT
trap 'exit 130' HUP INT TERM
if ! test -e "$policy"; then
  wrote=1
  printf '#!/bin/sh\\nexit 101\\n' >"$policy"
  chmod 755 "$policy"
fi
apt-get -q -o Acquire::Retries=1 -o Acquire::http::Timeout=20 update || :
apt-get -q -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
if test -n "$service"; then
  systemctl disable "$service" >/dev/null 2>&1 || update-rc.d "$service" disable >/dev/null 2>&1 || :
fi
`;

/**
 * Installs Debian packages where this user may do so without being asked for a password.
 * @param {readonly string[]} packages
 * @param {{ service?: string, onStart: () => void }} options `service`: left disabled and not started
 * @returns {Promise<string>} '' when installed, else why not
 */
export async function aptInstall(packages, { service = '', onStart }) {
  if (which('apt-get') === undefined) return 'there is no apt-get here';
  const isRoot = process.getuid?.() === 0;
  const maySudo = !isRoot && which('sudo') !== undefined && (await run('sudo', ['-n', 'true'])).ok;
  if (!isRoot && !maySudo) return 'this user may not install packages';
  onStart();
  const words = [...(isRoot ? [] : ['sudo', '-n']), 'sh', '-c', APT_SCRIPT, 'sh', service, ...packages];
  const ran = await withLock(
    path.join(os.tmpdir(), `lockstep-apt-${process.getuid?.()}.lock`),
    () => {},
    () => run(/** @type {string} */ (words[0]), words.slice(1)),
  );
  if (ran.ok) return '';
  const complaint = ran.output.split('\n').findLast((line) => line.startsWith('E: '));
  return `apt-get: ${complaint?.slice(3) ?? ran.problem}`;
}
