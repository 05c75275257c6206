/**
 * The installed npm package @tensorflow/tfjs-node-gpu as seen from outside: where its native half belongs, whether that loads,
 * and how to point it at libraries that lie elsewhere.
 *
 *   node_modules/@tensorflow/tfjs-node-gpu/
 *     deps/lib/*                      links to the shared libraries
 *     lib/napi-v8/tfjs_binding.node   finds them at ../../deps/lib, by its rpath
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { run } from './system.mjs';

/** The newest Node-API version that the package knows; Node 20 and 22 both offer it. */
export const NODE_API_VERSION = 8;

const QUIET_ENV = { TF_CPP_MIN_LOG_LEVEL: '3' };

/** A reason why the library cannot be had here; one line, for the user. */
export class Unavailable extends Error {}

/** @param {string} root */
export function packageFolder(root) {
  return path.join(root, 'node_modules', '@tensorflow', 'tfjs-node-gpu');
}

/** @param {string} root */
export function bindingFile(root) {
  return path.join(packageFolder(root), 'lib', `napi-v${NODE_API_VERSION}`, 'tfjs_binding.node');
}

/** @param {string} root */
export async function bindingSources(root) {
  const folder = path.join(packageFolder(root), 'binding');
  return (await readdir(folder)).sort().map((name) => path.join(folder, name));
}

/**
 * Loads the binding alone, in a process of its own: a broken library may end the process that loads it.
 * @param {string} root
 * @returns {Promise<string | undefined>} the version of TensorFlow
 */
export async function bindingVersion(root) {
  const file = bindingFile(root);
  if (!existsSync(file)) return undefined;
  const script = 'process.stdout.write(require(process.argv[1]).TF_Version)';
  const ran = await run(process.execPath, ['-e', script, file], { env: QUIET_ENV, timeoutMs: 60_000 });
  return ran.ok ? ran.stdout : undefined;
}

/**
 * Points the package at libraries and a binding, and computes something with them.
 * @param {string} root
 * @param {string} entry folder that has lib/ and tfjs_binding.node
 * @returns {Promise<string | undefined>} why it does not work
 */
export async function linkBinding(root, entry) {
  const folder = packageFolder(root);
  const libraries = path.join(folder, 'deps', 'lib');
  await rm(libraries, { recursive: true, force: true });
  await mkdir(libraries, { recursive: true });
  for (const name of await readdir(path.join(entry, 'lib'))) {
    await symlink(path.join(entry, 'lib', name), path.join(libraries, name));
  }
  const target = bindingFile(root);
  await mkdir(path.dirname(target), { recursive: true });
  await copyFile(path.join(entry, 'tfjs_binding.node'), `${target}.new`);
  await rename(`${target}.new`, target);

  const script = `
    const tf = require('@tensorflow/tfjs-node-gpu');
    const a = tf.tensor2d([[1, 2], [3, 4]]);
    const sums = [...a.matMul(a).dataSync(), ...tf.grad((x) => x.matMul(a).square().sum())(a).dataSync()];
    if (tf.getBackend() !== 'tensorflow') throw new Error('Error: backend is ' + tf.getBackend());
    if (sums.join() !== '7,10,15,22,158,274,266,482') throw new Error('Error: wrong sums ' + sums);`;
  const ran = await run(process.execPath, ['-e', script], { cwd: root, env: QUIET_ENV, timeoutMs: 120_000 });
  if (ran.ok) return undefined;
  await rm(target, { force: true });
  return (
    ran.output
      .split('\n')
      .find((line) => /Error/.test(line))
      ?.trim() ?? ran.problem
  );
}
