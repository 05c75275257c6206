/**
 * The `tensorflow` engine: libtensorflow through @tensorflow/tfjs-node-gpu, on an NVIDIA GPU where
 * the library finds one, else on the CPU.
 *
 * The library reads its settings from the environment when it is loaded, so they are set just before.
 * They fix the order of sums: threads within an operation, no operations side by side, and refusal of
 * GPU kernels whose result depends on the order in which threads finish.
 */
import { createRequire } from 'node:module';
import type * as tfjs from '@tensorflow/tfjs';
import { LockstepError, messageOf } from '../../base/index.ts';
import { keepFreedMemory } from '../../memory/index.ts';
import { ON_THE_CPU } from '../cpu.ts';
import type { DeviceTrouble, Engine, EngineOptions, LoadedBackend } from '../engine.ts';
import { nvidiaCards } from '../nvidia.ts';
import type { Binding } from './binding.ts';
import { registerTensorflowKernels } from './kernels.ts';
import { recordOperations } from './recording.ts';

const require = createRequire(import.meta.url);
export const TENSORFLOW_PACKAGE = '@tensorflow/tfjs-node-gpu';

/** The part of the Node backend that is asked here; its own types declare it private. */
interface NodeBackend {
  readonly isUsingGpuDevice: boolean;
  binding: Binding;
  getInputTensorIds(tensors: readonly tfjs.TensorInfo[]): number[];
}

/**
 * Environment for the library, from the number of threads within one operation. oneDNN is named because
 * it decides the bits, so that no setting of one machine's may: it is the faster on CPUs, and gave the
 * same bits with one and two threads, which the library's own products did not. It announces itself
 * with two lines on stderr that no log level silences.
 *
 * On GPUs: TF32, which keeps 10 of a factor's 23 bits, is off, so that all engines compute the same to
 * float32's rounding; cuBLAS gets the workspace under which NVIDIA promises equal results of equal calls.
 */
export function tensorflowEnvironment({ threads, device }: EngineOptions): Record<string, string> {
  return {
    TF_NUM_INTRAOP_THREADS: String(threads),
    TF_NUM_INTEROP_THREADS: '1',
    TF_DETERMINISTIC_OPS: '1',
    TF_ENABLE_ONEDNN_OPTS: '1',
    TF_CPP_MIN_LOG_LEVEL: '2',
    // Else the first worker of a card takes all of its memory.
    TF_FORCE_GPU_ALLOW_GROWTH: 'true',
    NVIDIA_TF32_OVERRIDE: '0',
    CUBLAS_WORKSPACE_CONFIG: ':4096:8',
    // As `nvidia-smi` counts the cards.
    CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
    ...(device == null ? {} : { CUDA_VISIBLE_DEVICES: device }),
  };
}

export async function loadTensorflow(options: EngineOptions): Promise<LoadedBackend> {
  const card = options.device == null ? null : requireCard(options.device);
  Object.assign(process.env, tensorflowEnvironment(options));
  // The CommonJS builds: the ES build of tfjs has imports without extensions, which Node refuses.
  const tf = require('@tensorflow/tfjs') as typeof tfjs;
  withoutArguments(() => require(TENSORFLOW_PACKAGE));
  await tf.ready();
  const backend = tf.backend() as unknown as NodeBackend;
  const { isUsingGpuDevice } = backend;
  const version = `TensorFlow ${backend.binding.TF_Version}`;
  if (!isUsingGpuDevice) {
    if (card !== null) throw new Error(`TensorFlow does not see ${card}; its build may be one for CPUs`);
    const recording = recordOperations(backend);
    registerTensorflowKernels(tf);
    keepFreedMemory();
    const readInto: Engine['readInto'] = async (tensor, target) => {
      recording.readInto(backend.getInputTensorIds([tensor])[0]!, target);
    };
    const warnings = ['no GPU is visible to TensorFlow; it computes on the CPU'];
    return { version, device: `CPU, ${threadsText(options.threads)}`, tf, warnings, ...ON_THE_CPU, readInto };
  }
  // Not recorded: what goes into a graph and comes out of it passes through the host's memory.
  registerTensorflowKernels(tf);
  const name = card ?? nvidiaCards()[0] ?? 'GPU';
  const onGpu = { ...ON_THE_CPU, troubleOf };
  return { version: `${version} on ${name}`, device: name, tf, warnings: [], ...onGpu };
}

/** The card of that index. Throws CONFIG_INVALID where there is none. */
function requireCard(device: string): string {
  const cards = nvidiaCards();
  const card = /^\d+$/.test(device) ? cards[Number(device)] : undefined;
  if (card !== undefined) return card;
  const those = cards.length === 0 ? 'none' : cards.map((name, index) => `${index} ${name}`).join(', ');
  throw new LockstepError(
    'CONFIG_INVALID',
    `--device ${device}: engine tensorflow takes the index of an NVIDIA card; this machine has: ${those}`,
    { context: { field: '--device', value: device } },
  );
}

/** TensorFlow tells what failed in the message only. */
function troubleOf(error: unknown): DeviceTrouble | null {
  const reason = messageOf(error);
  return /OOM when allocating|out of memory|RESOURCE_EXHAUSTED/i.test(reason)
    ? { kind: 'outOfMemory', reason: reason.slice(0, 200) }
    : null;
}

/**
 * The package finds its binary through node-pre-gyp, which reads the whole process's command line: a
 * flag of ours such as `--dir` is an abbreviation of one of its own, and would send it elsewhere.
 */
function withoutArguments(load: () => void): void {
  const { argv } = process;
  process.argv = argv.slice(0, 2);
  try {
    load();
  } finally {
    process.argv = argv;
  }
}

function threadsText(threads: number): string {
  return threads === 1 ? '1 thread' : `${threads} threads`;
}
