/**
 * Loading a compute engine: TensorFlow.js with one of its backends behind it. This room is the only
 * place that loads a backend; everything else receives `tf` and stays engine-neutral.
 *
 * One engine per process: tfjs keeps its backend in a module-wide registry. A further engine (webgpu)
 * is one more entry in LOADERS and one more name in `ENGINE_NAMES` of the configuration.
 */
import type * as tfjs from '@tensorflow/tfjs';
import { LockstepError, messageOf } from '../base/index.ts';
import type { EngineName } from '../config/index.ts';
import { probeEngine } from './probe.ts';
import { loadTensorflow } from './tensorflow.ts';
import { loadWasm } from './wasm.ts';

export interface EngineOptions {
  /**
   * Threads within one operation. Part of the run's meaning: a library may split a sum by the number
   * of threads and so round it differently. 1 unless the whole run says otherwise.
   */
  readonly threads: number;
}

export interface Engine {
  readonly name: EngineName;
  /** Of the library that computes, as `TensorFlow 2.21.0`. */
  readonly version: string;
  /** What it computes on. */
  readonly device: string;
  readonly tf: typeof tfjs;
  /** What a person should know about this choice, one line each. */
  readonly warnings: readonly string[];
}

/** What a backend's loader finds out. */
export type LoadedBackend = Omit<Engine, 'name'>;

const LOADERS: Readonly<Record<EngineName, (options: EngineOptions) => Promise<LoadedBackend>>> = {
  tensorflow: loadTensorflow,
  wasm: loadWasm,
};

/**
 * Loads an engine into this process. `auto` takes tensorflow where a trial in a child process loads
 * it, else wasm with the reason among the warnings. Throws ENGINE_UNAVAILABLE.
 */
export async function loadEngine(name: EngineName | 'auto', options: EngineOptions): Promise<Engine> {
  if (name !== 'auto') return loadNamed(name, options);
  const trial = await probeEngine('tensorflow');
  if (trial.available) return loadNamed('tensorflow', options);
  const engine = await loadNamed('wasm', options);
  const reason = `engine wasm, because tensorflow cannot be loaded: ${trial.reason}; npm run setup installs it`;
  return { ...engine, warnings: [reason, ...engine.warnings] };
}

async function loadNamed(name: EngineName, options: EngineOptions): Promise<Engine> {
  try {
    return { name, ...(await LOADERS[name](options)) };
  } catch (error) {
    throw new LockstepError(
      'ENGINE_UNAVAILABLE',
      `engine ${name} cannot be loaded: ${firstLine(error)}; run \`npm run setup\` or choose another --engine`,
      { context: { engine: name }, cause: error },
    );
  }
}

/** Node.js adds the chain of requiring files below the first line. */
function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return messageOf(text.split('\n', 1)[0]);
}
