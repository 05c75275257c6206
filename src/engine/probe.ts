/**
 * What engines this machine has, without loading any into this process: a native library may abort
 * where an exception was hoped for (a CPU without the instructions it was built for, a broken graphics
 * driver). Each trial runs in a child process with a time limit.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ENGINE_NAMES, type EngineName } from '../config/index.ts';
import { type Adapter, adapterText, chooseAdapter, LIST_ADAPTERS } from './adapters.ts';
import { TENSORFLOW_PACKAGE, tensorflowEnvironment } from './tensorflow/tensorflow.ts';
import { WASM_PACKAGE } from './wasm.ts';

const TRIAL_LIMIT_MS = 60_000;
/** Marks the result among what libraries print. */
const RESULT_MARK = 'lockstep-engine-trial:';

interface Found {
  readonly version: string;
  readonly device: string;
  /** Whether that is a graphics card. */
  readonly isGpu: boolean;
}

export type EngineProbe =
  | ({ readonly name: EngineName; readonly available: true } & Found)
  | { readonly name: EngineName; readonly available: false; readonly reason: string };

export interface AdapterProbe {
  /** Of the binding and the backend. */
  readonly version: string;
  readonly adapters: readonly Adapter[];
  /** Why there is none; null when there are some. */
  readonly reason: string | null;
}

type Trial<Result> = { readonly result: Result } | { readonly reason: string };

const TRIALS: Readonly<Record<Exclude<EngineName, 'webgpu'>, string>> = {
  tensorflow: `
    const tf = require('@tensorflow/tfjs');
    require('${TENSORFLOW_PACKAGE}');
    const { binding, isUsingGpuDevice: isGpu } = tf.backend();
    done({ version: 'TensorFlow ' + binding.TF_Version, device: isGpu ? 'GPU' : 'CPU', isGpu });`,
  wasm: `
    const tf = require('@tensorflow/tfjs');
    const { version_wasm } = require('${WASM_PACKAGE}');
    tf.setBackend('wasm').then((started) => {
      if (!started) throw new Error('the wasm backend did not start');
      done({ version: 'tfjs-backend-wasm ' + version_wasm, device: 'CPU', isGpu: false });
    });`,
};

const ADAPTER_TRIAL = `
  ${LIST_ADAPTERS}
  const { readFileSync } = require('node:fs');
  const versionOf = (name) => {
    const folder = require.resolve(name).replace(new RegExp('(.*/node_modules/' + name + ')/.*'), '$1');
    return JSON.parse(readFileSync(folder + '/package.json', 'utf8')).version;
  };
  const version = 'tfjs-backend-webgpu ' + versionOf('@tensorflow/tfjs-backend-webgpu') + ', Dawn ' + versionOf('webgpu');
  import(require.resolve('webgpu')).then(async ({ create }) => done({ version, adapters: await listAdapters(create) }));`;

/** Every engine with its version and device, or the reason why not. Takes about a second. */
export async function probeEngines(): Promise<readonly EngineProbe[]> {
  return Promise.all(ENGINE_NAMES.map((name) => probeEngine(name)));
}

export async function probeEngine(name: EngineName): Promise<EngineProbe> {
  if (name === 'webgpu') return webgpuProbe(await probeAdapters());
  const trial = await runTrial<Found>(TRIALS[name]);
  return 'reason' in trial
    ? { name, available: false, ...trial }
    : { name, available: true, ...trial.result };
}

/** The WebGPU adapters, cards and software alike. */
export async function probeAdapters(): Promise<AdapterProbe> {
  const trial = await runTrial<Pick<AdapterProbe, 'version' | 'adapters'>>(ADAPTER_TRIAL);
  if ('reason' in trial) return { version: '', adapters: [], reason: trial.reason };
  const { result, stderr } = trial as { result: AdapterProbe; stderr: string };
  return { ...result, reason: result.adapters.length > 0 ? null : noAdapterReason(stderr) };
}

function webgpuProbe({ version, adapters, reason }: AdapterProbe): EngineProbe {
  if (reason !== null) return { name: 'webgpu', available: false, reason };
  const adapter = chooseAdapter(adapters, null);
  return {
    name: 'webgpu',
    available: true,
    version,
    device: adapterText(adapter),
    isGpu: !adapter.isSoftware,
  };
}

/** Dawn says on standard error that it found no loader of Vulkan drivers; that a driver is missing, it does not say. */
function noAdapterReason(stderr: string): string {
  const loader = /Couldn't load Vulkan: (\S+): cannot open/.exec(stderr)?.[1];
  return loader === undefined ? 'no WebGPU adapter' : `no WebGPU adapter: ${loader} is missing`;
}

function runTrial<Result>(trial: string): Promise<Trial<Result> & { readonly stderr?: string }> {
  // The `require` of this file: the child finds the same packages wherever it is started.
  const here = JSON.stringify(fileURLToPath(import.meta.url));
  const script = `
    require = require('node:module').createRequire(${here});
    const done = (result) => console.log(${JSON.stringify(RESULT_MARK)} + JSON.stringify(result));
    ${trial}`;
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['-e', script],
      { env: { ...process.env, ...tensorflowEnvironment({ threads: 1 }) }, timeout: TRIAL_LIMIT_MS },
      (error, stdout, stderr) => {
        const line = stdout.split('\n').find((text) => text.startsWith(RESULT_MARK));
        if (line === undefined) resolve({ reason: reasonOf(error, stderr) });
        // Written by the script above.
        else resolve({ result: JSON.parse(line.slice(RESULT_MARK.length)) as Result, stderr });
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
