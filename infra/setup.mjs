/**
 * `npm run setup`: everything between a fresh clone and a working Lockstep, in five steps. Each does nothing when it finds
 * its work done, so that `npm test` and `npm run quickstart` can run all of them every time, without a network too.
 *
 *   --quiet   print only what is done or wrong        --retry   try the TensorFlow library again although it failed lately
 *
 * Plain JavaScript on node: built-ins only: it runs before anything is installed or compiled.
 */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureBuild } from './setup/build.mjs';
import { ensurePackages } from './setup/packages.mjs';
import { Progress, SetupError } from './setup/progress.mjs';
import { ensureRedis } from './setup/redis.mjs';
import { stopPrograms, withLock } from './setup/system.mjs';
import { ensureTensorflow } from './setup/tensorflow.mjs';

export { SetupError };

const REPOSITORY = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/**
 * Runs the steps in order. A missing TensorFlow library is no failure; everything else rejects with a SetupError whose
 * message has been printed. Two calls for the same clone run one after the other.
 * @param {{ root?: string, quiet?: boolean, retry?: boolean }} [options]
 *   root: the repository, by default the one this file is in
 * @returns {Promise<void>}
 */
export async function setup({ root = REPOSITORY, quiet = false, retry = false } = {}) {
  const progress = new Progress({ quiet, total: 5 });
  await progress.step(`Node.js ${process.versions.node}`, () => checkNode(root));
  const clone = createHash('sha256').update(root).digest('hex').slice(0, 16);
  const lock = path.join(os.tmpdir(), `lockstep-setup-${process.getuid?.()}-${clone}.lock`);
  const onWait = () => process.stderr.write('another set-up of this clone is running: waiting for it\n');
  for (const signal of SIGNALS) process.on(signal, stop);
  await withLock(lock, onWait, async () => {
    await progress.step('npm packages', (note) => ensurePackages(root, note));
    await progress.step('Redis server', (note) => ensureRedis(note));
    await progress.step('TensorFlow library', (note) => ensureTensorflow(root, note, { retry }));
    await progress.step('build', (note) => ensureBuild(root, note));
  }).finally(() => {
    for (const signal of SIGNALS) process.off(signal, stop);
  });
}

/** @type {NodeJS.Signals[]} */
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM'];

/**
 * Ends the set-up and what it runs. Locks and half-made folders stay: the next set-up sees that their owner is gone.
 * @param {NodeJS.Signals} signal
 */
function stop(signal) {
  stopPrograms(signal);
  for (const name of SIGNALS) process.off(name, stop);
  process.kill(process.pid, signal);
}

/**
 * @param {string} root
 * @returns {Promise<import('./setup/progress.mjs').Outcome>}
 */
async function checkNode(root) {
  const { engines } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'));
  const range = /^>=(\d+)\.(\d+) <(\d+)$/.exec(engines.node);
  if (range === null) throw new Error(`package.json: engines.node is ${engines.node}, expected ">=A.B <C"`);
  const [lowMajor = 0, lowMinor = 0, high = 0] = range.slice(1).map(Number);
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < lowMajor || (major === lowMajor && minor < lowMinor) || major >= high) {
    throw new SetupError(
      `Lockstep needs Node.js ${engines.node}; install version ${high - 1} or ${lowMajor} and run this again`,
    );
  }
  return { did: false };
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const known = ['--quiet', '--retry'];
  const unknown = process.argv.slice(2).filter((word) => !known.includes(word));
  if (unknown.length > 0) {
    process.stderr.write(`setup: unknown option ${unknown.join(' ')}; known: ${known.join(', ')}\n`);
    process.exit(2);
  }
  setup({ quiet: process.argv.includes('--quiet'), retry: process.argv.includes('--retry') }).catch(
    (error) => {
      if (!(error instanceof SetupError)) process.stderr.write(`${error.stack}\n`);
      process.exitCode = 1;
    },
  );
}
