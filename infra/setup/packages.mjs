/**
 * Step 2: node_modules as package-lock.json says, installed without anybody's install scripts (.npmrc says why).
 * A folder that npm's own record shows to be complete is left alone, so that no network is needed; one that must be replaced
 * is kept until its successor is there.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { SetupError } from './progress.mjs';
import { run } from './system.mjs';

/** Packages with native code: they bring it prebuilt, and must load although their install scripts did not run. */
const NATIVE_PACKAGES = ['zeromq', 'msgpackr', '@node-rs/crc32'];

/**
 * @param {string} root
 * @param {import('./progress.mjs').Note} note
 * @returns {Promise<import('./progress.mjs').Outcome>}
 */
export async function ensurePackages(root, note) {
  const modules = path.join(root, 'node_modules');
  const stampFile = path.join(modules, '.lockstep-packages');
  const lock = await readFile(path.join(root, 'package-lock.json'), 'utf8');
  // The ABI is part of the stamp: another Node may need other prebuilt files than those that were seen to load.
  const stamp = [
    createHash('sha256').update(lock).digest('hex'),
    process.versions.modules,
    process.platform,
    process.arch,
  ].join(' ');

  // Only an install that was cut short leaves this.
  if (existsSync(previousModules(root))) {
    await rm(modules, { recursive: true, force: true });
    await rename(previousModules(root), modules);
  }
  const missing = await firstMismatch(root, lock);
  if (missing === undefined) {
    if ((await readFile(stampFile, 'utf8').catch(() => '')) === stamp) return { did: false };
    if ((await loadProblem(root)) === undefined) {
      await writeFile(stampFile, stamp);
      return { did: false };
    }
  }
  await install(root, modules, note);
  const problem = await loadProblem(root);
  if (problem !== undefined) throw new SetupError(`a package with native code does not load: ${problem}`);
  await writeFile(stampFile, stamp);
  return { did: true };
}

/**
 * The first package that the lock names and node_modules lacks or has in another version. Optional ones may be absent: they
 * are for other platforms.
 * @param {string} root
 * @param {string} lock text of package-lock.json
 * @returns {Promise<string | undefined>}
 */
async function firstMismatch(root, lock) {
  /** @typedef {Record<string, { version?: string, integrity?: string, optional?: boolean, devOptional?: boolean }>} Packages */
  const record = await readFile(path.join(root, 'node_modules/.package-lock.json'), 'utf8').catch(() => '{}');
  /** @type {Packages} */
  const wanted = JSON.parse(lock).packages ?? {};
  /** @type {Packages} */
  const present = JSON.parse(record).packages ?? {};
  for (const [name, entry] of Object.entries(wanted)) {
    if (name === '') continue;
    const found = present[name];
    if (found === undefined && (entry.optional || entry.devOptional)) continue;
    const isSame = found?.version === entry.version && found?.integrity === entry.integrity;
    if (!isSame || !existsSync(path.join(root, name, 'package.json'))) return name;
  }
  return undefined;
}

/**
 * `npm ci`, which begins by deleting node_modules: the old one is moved aside and comes back if that fails.
 * @param {string} root
 * @param {string} modules
 * @param {import('./progress.mjs').Note} note
 */
async function install(root, modules, note) {
  const previous = previousModules(root);
  await mkdir(path.dirname(previous), { recursive: true });
  const discarded = `${previous}.discarded`;
  await rm(discarded, { recursive: true, force: true });
  const hadModules = existsSync(modules);
  if (hadModules) await rename(modules, previous);

  const flags = ['--ignore-scripts', '--include=dev', '--no-audit', '--no-fund'];
  note('npm ci');
  let ran = await run('npm', ['ci', ...flags], { cwd: root });
  if (!ran.ok && /\bEUSAGE\b/.test(ran.output)) {
    // npm leaves optional packages of other platforms out of a lock that it writes where the registry lacks them, and then
    // refuses that lock elsewhere. `install` takes the locked versions all the same, and --no-save keeps the lock as it is.
    note('npm install');
    ran = await run('npm', ['install', '--no-save', ...flags], { cwd: root });
  }
  if (!ran.ok) {
    await rm(modules, { recursive: true, force: true });
    if (hadModules) await rename(previous, modules);
    const complaints = ran.output
      .split('\n')
      .filter((line) => /^npm (ERR!|error) (?!A complete log)/.test(line));
    const kept = hadModules ? '; node_modules is as it was' : '';
    throw new SetupError(
      `npm packages cannot be installed (${ran.problem})${kept}`,
      complaints.slice(0, 6).join('\n'),
    );
  }
  // Renamed first: half deleted it must not be taken for what was there before.
  if (hadModules) await rename(previous, discarded);
  await rm(discarded, { recursive: true, force: true });
}

/** @param {string} root */
function previousModules(root) {
  return path.join(root, '.cache', 'node_modules.previous');
}

/**
 * @param {string} root
 * @returns {Promise<string | undefined>} why a native package does not load
 */
async function loadProblem(root) {
  const script = `for (const name of ${JSON.stringify(NATIVE_PACKAGES)}) require(name)`;
  const ran = await run(process.execPath, ['-e', script], { cwd: root, timeoutMs: 60_000 });
  if (ran.ok) return undefined;
  return ran.output.split('\n').find((line) => /Error/.test(line)) ?? ran.problem;
}
