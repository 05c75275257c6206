/**
 * Step 4: the native half of @tensorflow/tfjs-node-gpu, which makes the fast engine. In this order:
 *
 *   1. what is in node_modules loads: nothing to do
 *   2. the per-user cache has it (another clone made it): link it
 *   3. the package's own download, if its host answers: run its install script, move the result into the cache, link it
 *   4. else a TensorFlow wheel that pip finds: take the C library and its headers out, compile the package's few C++ files
 *      against them, keep both in the cache, link it. No Python code of TensorFlow is ever run.
 *
 * No failure here stops the set-up: the wasm engine needs none of this. What happened is recorded for `lockstep doctor`.
 *
 *   <cache>/libtensorflow-<version>-<flavor>-<platform>-<arch>-<hash of the C++ files>/
 *     entry.json  { version, source }    lib/  the shared libraries    tfjs_binding.node
 */
import { createHash, randomUUID } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { megabytes } from './progress.mjs';
import { run, watchSize, which, withLock } from './system.mjs';
import {
  bindingFile,
  bindingSources,
  bindingVersion,
  linkBinding,
  NODE_API_VERSION,
  packageFolder,
  Unavailable,
} from './tensorflow-package.mjs';
import { makeFromWheel, TENSORFLOW_VERSION } from './tensorflow-wheel.mjs';

/**
 * @typedef {import('./progress.mjs').Note} Note
 * @typedef {{ ok: true, version: string, source: string }} Found
 * @typedef {{ ok: false, reason: string, triedAt: string }} Missing
 * @typedef {'cpu' | 'cuda' | 'package'} Flavor
 */

const PROBE_TIMEOUT_MS = 5_000;
/** A failed attempt is not repeated for so long unless asked to, so that every `npm test` does not wait for a dead network. */
const RETRY_AFTER_MS = 60 * 60_000;

/**
 * @param {string} root
 * @param {Note} note
 * @param {{ retry: boolean }} options
 * @returns {Promise<import('./progress.mjs').Outcome>}
 */
export async function ensureTensorflow(root, note, { retry }) {
  const reportFile = path.join(root, 'node_modules', '.lockstep-setup.json');
  const earlier = await readReport(reportFile);
  const wasm = 'the wasm engine will be used';

  const loaded = await bindingVersion(root);
  if (loaded !== undefined) {
    const source = earlier?.ok === true ? earlier.source : 'found in node_modules';
    await writeReport(reportFile, earlier, { ok: true, version: loaded, source });
    return { did: false, said: `${loaded}, ${source}` };
  }
  if (process.env.LOCKSTEP_SKIP_TENSORFLOW === '1') {
    const reason = 'skipped, as LOCKSTEP_SKIP_TENSORFLOW=1 says';
    await writeReport(reportFile, earlier, { ok: false, reason, triedAt: new Date(0).toISOString() });
    return { did: false, lacking: true, said: `${reason}; ${wasm}` };
  }
  if (earlier?.ok === false && !retry) {
    const ageMs = Date.now() - Date.parse(earlier.triedAt);
    if (ageMs < RETRY_AFTER_MS) {
      const minutes = Math.max(1, Math.round(ageMs / 60_000));
      return {
        did: false,
        lacking: true,
        said: `${earlier.reason} (${minutes} min ago; npm run setup -- --retry); ${wasm}`,
      };
    }
  }
  try {
    const found = await obtain(root, note);
    await writeReport(reportFile, earlier, found);
    return { did: true, said: `${found.version}, ${found.source}` };
  } catch (error) {
    const cause = /** @type {NodeJS.ErrnoException} */ (error);
    // A full disk or a folder that may not be written is a reason like any other; a mistake in this file is not.
    if (!(error instanceof Unavailable) && cause.code === undefined) throw error;
    const reason = cause.message.split('\n')[0] ?? '';
    await writeReport(reportFile, earlier, { ok: false, reason, triedAt: new Date().toISOString() });
    return { did: true, lacking: true, said: `${reason}; ${wasm}` };
  }
}

/**
 * @param {string} root
 * @param {Note} note
 * @returns {Promise<Found>}
 */
async function obtain(root, note) {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    throw new Unavailable(`no TensorFlow library is set up on ${process.platform} ${process.arch}`);
  }
  const cache = path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'lockstep');
  const hasGpu = await wantsCuda();
  await mkdir(cache, { recursive: true });
  return withLock(
    path.join(cache, 'lock'),
    () => note('waiting for another set-up'),
    async () => {
      // Under the lock, whatever lies here is what an interrupted set-up left.
      for (const name of await readdir(cache)) {
        if (name.startsWith('tmp-')) await rm(path.join(cache, name), { recursive: true, force: true });
      }
      for (const entry of await findCached(root, cache, hasGpu)) {
        note('linking from the cache');
        if ((await linkBinding(root, entry)) === undefined) return readEntry(entry);
      }
      const work = path.join(cache, `tmp-${randomUUID()}`);
      await mkdir(work);
      try {
        /** @type {Flavor} */
        let flavor = 'package';
        // For GPUs the package's authors built TensorFlow 2.9 for CUDA 11.2: too old for the cards of today.
        let made = hasGpu ? undefined : await takeOwnDownload(root, work, note);
        if (made === undefined) {
          flavor = hasGpu ? 'cuda' : 'cpu';
          made = await makeFromWheel(root, work, hasGpu, note);
        }
        const entry = await keep(root, cache, work, flavor, made);
        const problem = await linkBinding(root, entry);
        if (problem === undefined) return await readEntry(entry);
        await rm(entry, { recursive: true, force: true });
        throw new Unavailable(`the library was set up but does not work: ${problem}`);
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    },
  );
}

/** An NVIDIA driver is here, or will be: an image is built on hosts without a card. */
async function wantsCuda() {
  if (process.env.LOCKSTEP_TENSORFLOW === 'cuda') return true;
  return which('nvidia-smi') !== undefined && (await run('nvidia-smi', ['-L'], { timeoutMs: 30_000 })).ok;
}

/**
 * Lets the package download what its authors built, if their host has it for this platform and answers fast. On success the
 * result has moved to `work`, as lib/ and tfjs_binding.node.
 * @param {string} root
 * @param {string} work
 * @param {Note} note
 * @returns {Promise<{ version: string, source: string } | undefined>}
 */
async function takeOwnDownload(root, work, note) {
  if (process.arch !== 'x64') return undefined;
  const folder = packageFolder(root);
  const manifestFile = path.join(folder, 'package.json');
  const manifest = await readFile(manifestFile, 'utf8');
  const { binary, version } = JSON.parse(manifest);
  const place = binary.remote_path
    .replace('{napi_build_version}', String(NODE_API_VERSION))
    .replace('{version}', version)
    .replace(/^\.?\//, '');
  note("asking the package's own host");
  const isThere = await fetch(`${binary.host}/${place}GPU-linux-${version}.tar.gz`, {
    method: 'HEAD',
    signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
  }).then(
    (response) => response.ok,
    () => false,
  );
  if (!isThere) return undefined;

  const downloaded = path.join(folder, 'deps');
  const stopWatching = watchSize(downloaded, (bytes) => note('package download', megabytes(bytes)));
  const ran = await run(process.execPath, ['scripts/install.js', 'gpu', 'download'], {
    cwd: folder,
    env: { PATH: `${path.join(root, 'node_modules', '.bin')}${path.delimiter}${process.env.PATH}` },
  });
  stopWatching();
  // The script edits its own package.json for node-pre-gyp, and leaves it so when it fails.
  await writeFile(manifestFile, manifest);
  const loaded = ran.ok ? await bindingVersion(root) : undefined;
  if (loaded !== undefined) {
    // Not renamed: the cache may be on another file system.
    await run('cp', ['-a', path.join(downloaded, 'lib'), path.join(work, 'lib')]);
    await copyFile(bindingFile(root), path.join(work, 'tfjs_binding.node'));
  }
  await rm(downloaded, { recursive: true, force: true });
  return loaded === undefined ? undefined : { version: loaded, source: "the package's own download" };
}

/**
 * Makes a finished work folder a cache entry, in one rename.
 * @param {string} root
 * @param {string} cache
 * @param {string} work has lib/ and tfjs_binding.node
 * @param {Flavor} flavor
 * @param {{ version: string, source: string }} entry
 * @returns {Promise<string>}
 */
async function keep(root, cache, work, flavor, entry) {
  await writeFile(path.join(work, 'entry.json'), `${JSON.stringify(entry)}\n`);
  const target = path.join(cache, `libtensorflow-${entry.version}-${flavor}-${await entrySuffix(root)}`);
  await rm(target, { recursive: true, force: true });
  await rename(work, target);
  return target;
}

/**
 * Cache entries that fit this machine and this version of the package, best first.
 * @param {string} root
 * @param {string} cache
 * @param {boolean} hasGpu
 */
async function findCached(root, cache, hasGpu) {
  const suffix = await entrySuffix(root);
  const flavors = hasGpu ? ['cuda', 'package'] : ['cpu', 'package'];
  return (await readdir(cache))
    .filter((name) =>
      flavors.some((flavor) => name.startsWith('libtensorflow-') && name.endsWith(`-${flavor}-${suffix}`)),
    )
    .sort(
      (a, b) => Number(b.includes(`-${TENSORFLOW_VERSION}-`)) - Number(a.includes(`-${TENSORFLOW_VERSION}-`)),
    )
    .map((name) => path.join(cache, name));
}

/** @param {string} root */
async function entrySuffix(root) {
  const hash = createHash('sha256').update(String(NODE_API_VERSION));
  for (const file of await bindingSources(root)) hash.update(await readFile(file));
  return `${process.platform}-${process.arch}-${hash.digest('hex').slice(0, 12)}`;
}

/**
 * @param {string} entry
 * @returns {Promise<Found>}
 */
async function readEntry(entry) {
  const { version, source } = JSON.parse(await readFile(path.join(entry, 'entry.json'), 'utf8'));
  return { ok: true, version, source };
}

/**
 * @param {string} file
 * @returns {Promise<Found | Missing | undefined>}
 */
async function readReport(file) {
  try {
    return JSON.parse(await readFile(file, 'utf8')).tensorflow;
  } catch {
    return undefined;
  }
}

/**
 * @param {string} file
 * @param {Found | Missing | undefined} earlier
 * @param {Found | Missing} now
 */
async function writeReport(file, earlier, now) {
  if (JSON.stringify(earlier) === JSON.stringify(now)) return;
  await writeFile(`${file}.${process.pid}`, `${JSON.stringify({ tensorflow: now }, null, 2)}\n`);
  await rename(`${file}.${process.pid}`, file);
}
