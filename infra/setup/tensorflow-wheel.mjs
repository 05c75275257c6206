/**
 * The TensorFlow C library out of a Python wheel, and the binding of @tensorflow/tfjs-node-gpu compiled against it. The wheel
 * is only a carrier that every pip index has: no Python code of TensorFlow is run, and the wheel is deleted once unpacked.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { megabytes } from './progress.mjs';
import { aptInstall, run, watchSize, which } from './system.mjs';
import { bindingSources, NODE_API_VERSION, Unavailable } from './tensorflow-package.mjs';

/** @typedef {import('./progress.mjs').Note} Note */

/** The version asked for first: nodes of one cluster that run the same one compute the same bits. */
export const TENSORFLOW_VERSION = '2.21.0';
/** The wheel and what is taken out of it, for a moment both on disk. */
const FREE_BYTES_MIN = 2.5e9;
const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
// Without retries an index that cannot be reached costs little when there are others; only at -vv pip says that it was so.
const PIP_DOWNLOAD = [
  ...['-m', 'pip', 'download', '-vv', '--no-deps', '--only-binary=:all:', '--retries', '0', '--no-cache-dir'],
  ...['--no-input', '--disable-pip-version-check', '--progress-bar', 'off'],
];

/**
 * Leaves lib/ and tfjs_binding.node in an empty folder.
 * @param {string} root the repository
 * @param {string} work the folder
 * @param {boolean} hasGpu take the larger wheel, whose library can use CUDA
 * @param {Note} note
 * @returns {Promise<{ version: string, source: string }>}
 */
export async function makeFromWheel(root, work, hasGpu, note) {
  const { bavail, bsize } = await statfs(work);
  if (bavail * bsize < FREE_BYTES_MIN) {
    const free = megabytes(bavail * bsize);
    throw new Unavailable(`${path.dirname(work)} has ${free} free, ${megabytes(FREE_BYTES_MIN)} are needed`);
  }
  const { python, compiler } = await ensureTools(note);
  const wheel = await downloadWheel(python, work, hasGpu, note);
  note('unpacking');
  await unpackWheel(python, wheel, work);
  await rm(path.join(work, 'wheel'), { recursive: true });
  note('compiling');
  await compile(root, compiler, work);
  await rm(path.join(work, 'include'), { recursive: true });
  // tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl
  const [name = '', version = ''] = path.basename(wheel).split('-');
  return { version, source: `compiled against the ${name.replace('_', '-')} ${version} wheel` };
}

/**
 * @param {Note} note
 * @returns {Promise<{ python: string, compiler: string }>}
 */
async function ensureTools(note) {
  let python = await findPython();
  let compiler = findCompiler();
  const lacking = [...(python ? [] : ['python3', 'python3-pip']), ...(compiler ? [] : ['g++'])];
  let whyNot = '';
  if (lacking.length > 0) {
    whyNot = await aptInstall(lacking, { onStart: () => note(`installing ${lacking.join(', ')}`) });
    python = await findPython();
    compiler = findCompiler();
  }
  if (python === undefined || compiler === undefined) {
    const remedy = `sudo apt-get install ${lacking.join(' ')}`;
    throw new Unavailable(
      `tools to build it are missing (${whyNot || 'not found once installed'}); type: ${remedy}`,
    );
  }
  return { python, compiler };
}

/** A Python that has pip: the one on PATH may be somebody's own, without. */
async function findPython() {
  for (const python of ['python3', '/usr/bin/python3']) {
    if ((await run(python, ['-m', 'pip', '--version'])).ok) return python;
  }
  return undefined;
}

function findCompiler() {
  return [process.env.CXX ?? '', 'g++', 'c++', 'clang++'].find(
    (name) => name !== '' && which(name) !== undefined,
  );
}

/**
 * @param {string} python
 * @param {string} work
 * @param {boolean} hasGpu
 * @param {Note} note
 * @returns {Promise<string>} the wheel's path
 */
async function downloadWheel(python, work, hasGpu, note) {
  const name = hasGpu ? 'tensorflow' : 'tensorflow-cpu';
  const pinned = `${name}==${TENSORFLOW_VERSION}`;
  const machine = process.arch === 'x64' ? 'x86_64' : 'aarch64';
  // The C library in a wheel does not depend on the Python that the wheel is for: any will do.
  const anyPython = ['--python-version', '3.11', '--implementation', 'cp', '--abi', 'cp311'];
  anyPython.push('--platform', `manylinux_2_27_${machine}`);
  const wishes = [[pinned], [...anyPython, pinned], [name]];
  if (process.arch === 'arm64' && !hasGpu) wishes.push(['tensorflow']);

  const folder = path.join(work, 'wheel');
  await mkdir(folder);
  let total = '';
  const stopWatching = watchSize(folder, (bytes) =>
    note('downloading the wheel', `${megabytes(bytes)}${total}`),
  );
  try {
    for (const wish of wishes) {
      const download = () => {
        note('downloading the wheel');
        return run(python, [...PIP_DOWNLOAD, '-d', folder, ...wish], {
          // pip downloads below TMPDIR first: on the same disk, and where its size can be seen.
          env: { TMPDIR: folder, PYTHONUNBUFFERED: '1' },
          onOutput: (text) => {
            const size = /\(([\d.]+) MB\)/.exec(text)?.[1];
            if (size !== undefined) total = ` of ${Math.round(Number(size))} MB`;
          },
        });
      };
      let ran = await download();
      // A download that began and broke off deserves a second chance, a search that found nothing does not.
      if (!ran.ok && / Downloading \S+\.whl/.test(ran.output)) ran = await download();
      const wheel = (await readdir(folder)).find((file) => file.endsWith('.whl'));
      if (ran.ok && wheel !== undefined) return path.join(folder, wheel);
      if (!/No matching distribution/.test(ran.output)) {
        const complaint = ran.output.split('\n').findLast((line) => line.startsWith('ERROR: '));
        throw new Unavailable(`pip download ${name}: ${complaint?.slice(7) ?? ran.problem}`);
      }
      if (/\(from versions: none\)/.test(ran.output) && /Could not fetch URL/.test(ran.output)) {
        throw new Unavailable(`pip cannot reach its package index to fetch ${name}`);
      }
    }
    throw new Unavailable(`pip finds no ${name} wheel for this machine`);
  } finally {
    stopWatching();
  }
}

// The two libraries, and of 13,000 headers the folders that the binding's includes lead to.
const UNPACK_SCRIPT = String.raw`
import os, re, shutil, sys, zipfile
wheel, work = sys.argv[1:]
header = re.compile(r'tensorflow/(include/(?:tensorflow/c|tensorflow/core/platform|tsl|xla/tsl)/.*\.h)$')
library = re.compile(r'tensorflow/(libtensorflow\w*\.so\.2)$')
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        found = header.match(name) or library.match(name)
        if not found: continue
        target = os.path.join(work, found[1] if header.match(name) else 'lib/' + found[1])
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with archive.open(name) as source, open(target, 'wb') as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
`;

/**
 * @param {string} python
 * @param {string} wheel
 * @param {string} work receives include/ and lib/
 */
async function unpackWheel(python, wheel, work) {
  const ran = await run(python, ['-c', UNPACK_SCRIPT, wheel, work]);
  if (!ran.ok) {
    throw new Unavailable(`unpacking the wheel: ${ran.output.trim().split('\n').at(-1) || ran.problem}`);
  }
  const needed = [...LIBRARIES.map((name) => `lib/${name}`), 'include/tensorflow/c/c_api.h'];
  for (const file of needed) {
    if (!existsSync(path.join(work, file))) throw new Unavailable(`${path.basename(wheel)} has no ${file}`);
  }
}

/**
 * Compiles the package's C++ files as its binding.gyp would. They use Node-API only, whose four headers are the same for all
 * versions of Node, so neither node-gyp nor the headers of this Node are needed.
 * @param {string} root
 * @param {string} compiler
 * @param {string} work has include/ and lib/, receives tfjs_binding.node
 */
async function compile(root, compiler, work) {
  const headers = [
    path.join(root, 'node_modules', 'node-api-headers', 'include'),
    path.join(path.dirname(path.dirname(process.execPath)), 'include', 'node'),
  ].find((folder) => existsSync(path.join(folder, 'node_api.h')));
  if (headers === undefined) throw new Unavailable('the npm package node-api-headers is missing');
  const sources = (await bindingSources(root)).filter((file) => file.endsWith('.cc'));
  const ran = await run(compiler, [
    ...['-std=c++17', '-O2', '-fPIC', '-shared', '-w'],
    ...['-DBUILDING_NODE_EXTENSION', `-DNAPI_VERSION=${NODE_API_VERSION}`],
    ...[`-I${headers}`, `-I${path.join(work, 'include')}`],
    ...sources,
    ...['-o', path.join(work, 'tfjs_binding.node'), `-L${path.join(work, 'lib')}`],
    ...LIBRARIES.map((name) => `-l:${name}`),
    '-Wl,-rpath,$ORIGIN/../../deps/lib',
  ]);
  if (!ran.ok) {
    const complaint = ran.output.split('\n').find((line) => /error/i.test(line));
    throw new Unavailable(`compiling the TensorFlow binding: ${complaint?.trim() ?? ran.problem}`);
  }
}
