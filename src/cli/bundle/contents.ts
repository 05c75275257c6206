/**
 * The folder that becomes the archive:
 *
 *   lockstep        starts the program with the Node beside it
 *   bench-gpu       the same for `npm run bench:gpu`
 *   bin/node        the Node that this process runs
 *   lib/            the Vulkan loader, for hosts that have a driver but no loader
 *   app/            package.json, dist/, and node_modules/ with what package.json's dependencies need
 *   SHA256SUMS      of every file
 *
 * TensorFlow is left out: its library alone is ten times as large as all of this.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { LockstepError } from '../../base/index.ts';
import { isForTarget, isRunnable } from './keep.ts';

const LEFT_OUT = ['@tensorflow/tfjs-node-gpu'];
const LOADER_NAME = 'libvulkan.so.1';
const LOADER_FOLDERS = [
  ...['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib', '/lib64'],
];
/** Where a loader is found that is not for everyone's use. */
const PRIVATE_LOADER_FOLDERS = ['/usr/lib/chromium'];

interface PackageJson {
  readonly name: string;
  readonly main?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export interface Staged {
  /** A temporary folder with the staged one in it. */
  readonly parent: string;
  readonly numPackages: number;
}

/** @param root the folder with package.json, dist and node_modules */
export async function stageBundle(root: string, name: string): Promise<Staged> {
  if (!existsSync(join(root, 'dist', 'cli', 'main.js'))) {
    throw new LockstepError(
      'DATA_MISSING',
      `${join(root, 'dist')} is not built: run \`npm run build\` first`,
    );
  }
  const parent = await mkdtemp(join(tmpdir(), 'lockstep-bundle-'));
  const folder = join(parent, name);
  const app = join(folder, 'app');
  await put(process.execPath, join(folder, 'bin', 'node'), 0o755);
  await putFolder(join(root, 'dist'), join(app, 'dist'), (path) => !path.endsWith('.map'));
  await put(join(root, 'package.json'), join(app, 'package.json'));
  const packages = await closure(root);
  const target = { platform: process.platform, arch: process.arch };
  const modules = await realpath(join(root, 'node_modules'));
  for (const [source, { name: packageName, main }] of packages) {
    const place = join(app, 'node_modules', relative(modules, source));
    await putFolder(
      source,
      place,
      (path) => isRunnable(packageName, path, main) && isForTarget(path, target),
    );
  }
  await putLoader(folder);
  await putLauncher(folder, 'lockstep', 'app/dist/cli/main.js');
  await putLauncher(folder, 'bench-gpu', 'app/dist/bench/gpu.js');
  await writeFile(join(folder, 'SHA256SUMS'), await checksums(folder));
  return { parent, numPackages: packages.size };
}

/** The folder of every package that is needed, as Node would resolve it, with its description. */
async function closure(root: string): Promise<ReadonlyMap<string, PackageJson>> {
  const found = new Map<string, PackageJson>();
  const add = async (name: string, from: string, isOptional: boolean): Promise<void> => {
    const folder = await resolveFolder(name, from);
    if (folder === null) {
      if (isOptional) return;
      throw new LockstepError(
        'DATA_MISSING',
        `package ${name} is not installed: run \`npm run setup\` first`,
      );
    }
    if (found.has(folder)) return;
    const description = await describe(folder);
    found.set(folder, description);
    for (const name of Object.keys(description.dependencies ?? {})) await add(name, folder, false);
    for (const name of Object.keys(description.optionalDependencies ?? {})) await add(name, folder, true);
  };
  for (const name of Object.keys((await describe(root)).dependencies ?? {})) {
    if (!LEFT_OUT.includes(name)) await add(name, root, false);
  }
  return found;
}

async function describe(folder: string): Promise<PackageJson> {
  // npm has read it before.
  return JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as PackageJson;
}

async function resolveFolder(name: string, from: string): Promise<string | null> {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', name);
    if (existsSync(join(candidate, 'package.json'))) return realpath(candidate);
    if (folder === dirname(folder)) return null;
  }
}

async function putFolder(from: string, to: string, keeps: (path: string) => boolean): Promise<void> {
  const visit = async (path: string): Promise<void> => {
    for (const entry of await readdir(join(from, path), { withFileTypes: true })) {
      const inner = path === '' ? entry.name : `${path}/${entry.name}`;
      // Packages within a package are in the closure themselves.
      if (entry.isDirectory() && entry.name !== 'node_modules') await visit(inner);
      else if (entry.isFile() && keeps(inner)) await put(join(from, inner), join(to, inner));
    }
  };
  await visit('');
}

async function put(from: string, to: string, mode?: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await copyFile(from, to);
  if (mode !== undefined) await chmod(to, mode);
}

async function putLoader(folder: string): Promise<void> {
  if (process.platform !== 'linux') return;
  const source = [...LOADER_FOLDERS, ...PRIVATE_LOADER_FOLDERS].find((at) =>
    existsSync(join(at, LOADER_NAME)),
  );
  if (source !== undefined) await put(join(source, LOADER_NAME), join(folder, 'lib', LOADER_NAME));
}

/** Of the shell's own words only: there may be nothing on the PATH. The host's own loader goes first. */
async function putLauncher(folder: string, name: string, program: string): Promise<void> {
  const file = join(folder, name);
  const text = `#!/bin/sh
case $0 in */*) here=\${0%/*} ;; *) here=. ;; esac
here=$(cd -- "$here" && pwd -P) || exit 1
found=
for folder in ${LOADER_FOLDERS.join(' ')}; do
  if [ -e "$folder/${LOADER_NAME}" ]; then found=1; fi
done
if [ -z "$found" ] && [ -e "$here/lib/${LOADER_NAME}" ]; then
  LD_LIBRARY_PATH=\${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$here/lib
  export LD_LIBRARY_PATH
fi
exec "$here/bin/node" "$here/${program}" "$@"
`;
  await writeFile(file, text);
  await chmod(file, 0o755);
}

/** As `sha256sum --check` reads it. */
async function checksums(folder: string): Promise<string> {
  const lines: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const digest = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
    lines.push(`${digest}  ${relative(folder, path)}`);
  }
  return `${lines.sort((a, b) => (a.slice(64) < b.slice(64) ? -1 : 1)).join('\n')}\n`;
}
