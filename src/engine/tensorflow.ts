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
import type { EngineOptions, LoadedBackend } from './engine.ts';
import { registerTensorflowKernels } from './tensorflow-kernels.ts';

const require = createRequire(import.meta.url);
export const TENSORFLOW_PACKAGE = '@tensorflow/tfjs-node-gpu';

/** The part of the Node backend that is asked here; its own types declare it private. */
interface NodeBackend {
  readonly isUsingGpuDevice: boolean;
  readonly binding: { readonly TF_Version: string };
}

/**
 * Environment for the library, from the number of threads within one operation. oneDNN is named because
 * it decides the bits, so that no setting of one machine's may: it is the faster on CPUs, and gave the
 * same bits with one and two threads, which the library's own products did not. It announces itself
 * with two lines on stderr that no log level silences.
 */
export function tensorflowEnvironment({ threads }: EngineOptions): Record<string, string> {
  return {
    TF_NUM_INTRAOP_THREADS: String(threads),
    TF_NUM_INTEROP_THREADS: '1',
    TF_DETERMINISTIC_OPS: '1',
    TF_ENABLE_ONEDNN_OPTS: '1',
    TF_CPP_MIN_LOG_LEVEL: '2',
  };
}

export async function loadTensorflow(options: EngineOptions): Promise<LoadedBackend> {
  Object.assign(process.env, tensorflowEnvironment(options));
  // The CommonJS builds: the ES build of tfjs has imports without extensions, which Node refuses.
  const tf = require('@tensorflow/tfjs') as typeof tfjs;
  withoutArguments(() => require(TENSORFLOW_PACKAGE));
  await tf.ready();
  registerTensorflowKernels(tf);
  const backend = tf.backend() as unknown as NodeBackend;
  return {
    version: `TensorFlow ${backend.binding.TF_Version}`,
    device: backend.isUsingGpuDevice ? 'GPU' : `CPU, ${threadsText(options.threads)}`,
    tf,
    warnings: backend.isUsingGpuDevice ? [] : ['no GPU is visible to TensorFlow; it computes on the CPU'],
  };
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
