/**
 * What engines this machine has, without loading any into this process: a native library may abort
 * where an exception was hoped for (a CPU without the instructions it was built for). Each trial runs
 * in a child process with a time limit.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ENGINE_NAMES, type EngineName } from '../config/index.ts';
import { TENSORFLOW_PACKAGE, tensorflowEnvironment } from './tensorflow.ts';
import { WASM_PACKAGE } from './wasm.ts';

const TRIAL_LIMIT_MS = 60_000;
/** Marks the result among what libraries print. */
const RESULT_MARK = 'lockstep-engine-trial:';

export type EngineProbe =
  | { readonly name: EngineName; readonly available: true; readonly version: string; readonly device: string }
  | { readonly name: EngineName; readonly available: false; readonly reason: string };

const TRIALS: Readonly<Record<EngineName, string>> = {
  tensorflow: `
    const tf = require('@tensorflow/tfjs');
    require('${TENSORFLOW_PACKAGE}');
    const { binding, isUsingGpuDevice } = tf.backend();
    done({ version: 'TensorFlow ' + binding.TF_Version, device: isUsingGpuDevice ? 'GPU' : 'CPU' });`,
  wasm: `
    const tf = require('@tensorflow/tfjs');
    const { version_wasm } = require('${WASM_PACKAGE}');
    tf.setBackend('wasm').then((started) => {
      if (!started) throw new Error('the wasm backend did not start');
      done({ version: 'tfjs-backend-wasm ' + version_wasm, device: 'CPU' });
    });`,
};

/** Every engine with its version and device, or the reason why not. Takes about a second. */
export async function probeEngines(): Promise<readonly EngineProbe[]> {
  return Promise.all(ENGINE_NAMES.map((name) => probeEngine(name)));
}

export function probeEngine(name: EngineName): Promise<EngineProbe> {
  // The `require` of this file: the child finds the same packages wherever it is started.
  const here = JSON.stringify(fileURLToPath(import.meta.url));
  const script = `
    require = require('node:module').createRequire(${here});
    const done = (result) => console.log(${JSON.stringify(RESULT_MARK)} + JSON.stringify(result));
    ${TRIALS[name]}`;
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['-e', script],
      { env: { ...process.env, ...tensorflowEnvironment({ threads: 1 }) }, timeout: TRIAL_LIMIT_MS },
      (error, stdout, stderr) => {
        const line = stdout.split('\n').find((text) => text.startsWith(RESULT_MARK));
        if (line === undefined) {
          resolve({ name, available: false, reason: reasonOf(error, stderr) });
        } else {
          // Written by the script above.
          const found = JSON.parse(line.slice(RESULT_MARK.length)) as { version: string; device: string };
          resolve({ name, available: true, ...found });
        }
      },
    );
  });
}

/** One line that says why a trial failed: the error it threw, or how it died. */
function reasonOf(error: { killed?: boolean; signal?: string | null } | null, stderr: string): string {
  const thrown = stderr.split('\n').find((line) => /^\w*Error\b/.test(line));
  if (thrown !== undefined) return thrown.replace(/^\w*Error(\s*\[\w+\])?:\s*/, '').trim();
  if (error?.killed) return `loading took more than ${TRIAL_LIMIT_MS / 1000} s`;
  if (error?.signal) return `loading ended in ${error.signal}`;
  return 'the trial process said nothing';
}
