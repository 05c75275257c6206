/**
 * Step 5: dist/ from the sources, when their content differs from that of the last build. Times of files mean nothing after a
 * checkout, so a hash decides. dist/ is written over rather than removed: something may be running from it.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { SetupError } from './progress.mjs';
import { run } from './system.mjs';

const SOURCE_FOLDERS = ['src', 'web'];
const SOURCE_FILES = /^(package\.json|package-lock\.json|tsconfig.*\.json)$/;

/**
 * @param {string} root
 * @param {import('./progress.mjs').Note} note
 * @returns {Promise<import('./progress.mjs').Outcome>}
 */
export async function ensureBuild(root, note) {
  const stampFile = path.join(root, 'dist', '.lockstep-build');
  // Taken before the build, so that an edit made while it runs is seen by the next one.
  const stamp = await hashSources(root);
  if ((await readFile(stampFile, 'utf8').catch(() => '')) === stamp) return { did: false };
  note('npm run build');
  const ran = await run('npm', ['run', '--silent', 'build'], { cwd: root });
  if (!ran.ok) throw new SetupError(`npm run build: ${ran.problem}`, ran.output);
  await writeFile(stampFile, stamp);
  return { did: true };
}

/** @param {string} root */
async function hashSources(root) {
  const files = (await readdir(root)).filter((name) => SOURCE_FILES.test(name));
  files.push('infra/build-kernels.mjs');
  for (const folder of SOURCE_FOLDERS) {
    const entries = await readdir(path.join(root, folder), { recursive: true, withFileTypes: true }).catch(
      () => [],
    );
    for (const entry of entries) {
      // Dirent.path is the older name of parentPath, which Node 20.11 lacks.
      if (entry.isFile())
        files.push(path.relative(root, path.join(entry.parentPath ?? entry.path, entry.name)));
    }
  }
  const hash = createHash('sha256');
  for (const file of files.sort()) {
    const content = await readFile(path.join(root, file)).catch(() => Buffer.alloc(0));
    hash.update(`${file} ${content.length}\n`).update(content);
  }
  return hash.digest('hex');
}
