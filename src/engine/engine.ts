/**
 * Loading a compute engine: TensorFlow.js with one of its backends behind it. This room is the only
 * place that loads a backend; everything else receives `tf` and stays engine-neutral.
 *
 * One engine per process: tfjs keeps its backend in a module-wide registry. A further engine is one more
 * entry in LOADERS and one more name in `ENGINE_NAMES` of the configuration.
 */
import type * as tfjs from '@tensorflow/tfjs';
import { LockstepError, messageOf } from '../base/index.ts';
import type { EngineName, MatmulPrecision } from '../config/index.ts';
import { probeEngine } from './probe.ts';
import { loadTensorflow } from './tensorflow/tensorflow.ts';
import { loadWasm } from './wasm.ts';
import { loadWebgpu } from './webgpu/webgpu.ts';

export interface EngineOptions {
  /**
   * Threads within one operation. Part of the run's meaning: a library may split a sum by the number
   * of threads and so round it differently. 1 unless the whole run says otherwise.
   */
  readonly threads: number;
  /** Which of the machine's devices, by index or name; absent or null leaves it to the engine. */
  readonly device?: string | null;
  /** webgpu: gives a shader no more of a buffer than this many bytes, as a small device would; for tests. */
  readonly bindingBytesMax?: number;
  /**
   * What operands of own products are rounded to, float32 if absent. float16 (10 bits of fraction, up to 65,504) only
   * with webgpu; part of the engine's version, for it changes the bits.
   */
  readonly matmulPrecision?: MatmulPrecision;
}

/** What becomes of a device in use: it is gone, full, or refuses what it is asked. */
export interface DeviceTrouble {
  readonly kind: 'lost' | 'outOfMemory' | 'failed';
  readonly reason: string;
}

/** One gradient on the device: a tensor for each parameter, in order, null for one of zeros. */
export type DeviceGradient = readonly (tfjs.Tensor | null)[];

/** Sums of gradients that never leave the device until they are read, with the bits of the host's kernels. */
export interface DeviceSums {
  /** A leaf of the reduction tree, which takes the gradient's place, and whether all of it is finite. */
  leaf(gradient: DeviceGradient): Promise<{ readonly leaf: DeviceGradient; readonly allFinite: boolean }>;
  /** left + right, in the memory of both: neither is to be used again. */
  add(left: DeviceGradient, right: DeviceGradient): DeviceGradient;
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
  /** Whether values are read beside computing: a read that is asked for within a pass does not hold it up. */
  readonly readsBeside: boolean;
  /** Copies the values of a float32 tensor to `target`, the shortest way that the engine knows. */
  readInto(tensor: tfjs.Tensor, target: Float32Array): Promise<void>;
  /** Null where gradients are better added up on the host, or the device adds otherwise than the host does. */
  deviceSums(): Promise<DeviceSums | null>;
  /** Largest tensor that it can hold, in bytes. */
  readonly tensorBytesMax: number;
  /** What a failed computation says about the device; null when it is about something else. */
  troubleOf(error: unknown): DeviceTrouble | null;
  /** Goes on with a fresh device; tensors from before hold nothing any more. Throws ENGINE_UNAVAILABLE. */
  restart(): Promise<void>;
}

/** What a backend's loader finds out. */
export type LoadedBackend = Omit<Engine, 'name'>;

const LOADERS: Readonly<Record<EngineName, (options: EngineOptions) => Promise<LoadedBackend>>> = {
  tensorflow: loadTensorflow,
  webgpu: loadWebgpu,
  wasm: loadWasm,
};

/**
 * The engine that `auto` stands for on this machine, and a line that says why it is not a better one.
 * First of all tensorflow on a GPU, then webgpu on a graphics card, tensorflow on the CPU, wasm; never a
 * software driver of graphics cards, which is slower than any of these.
 */
export async function settleEngine(): Promise<{
  readonly name: EngineName;
  readonly warning: string | null;
}> {
  const [tensorflow, webgpu] = await Promise.all([probeEngine('tensorflow'), probeEngine('webgpu')]);
  if (tensorflow.available && tensorflow.isGpu) return { name: 'tensorflow', warning: null };
  if (webgpu.available && webgpu.isGpu) return { name: 'webgpu', warning: null };
  if (tensorflow.available) return { name: 'tensorflow', warning: null };
  const reason = `engine wasm, because tensorflow cannot be loaded: ${tensorflow.reason}; \`npm run setup\` installs it`;
  return { name: 'wasm', warning: reason };
}

/** Throws CONFIG_INVALID for a precision of products that no device of this engine has. */
export function requirePrecision(name: EngineName, matmulPrecision: MatmulPrecision): void {
  if (matmulPrecision === 'float32' || name === 'webgpu') return;
  throw new LockstepError(
    'CONFIG_INVALID',
    `matmulPrecision is ${matmulPrecision}: engine ${name} multiplies in float32 only; leave it at float32, or choose --engine webgpu`,
    { context: { field: 'matmulPrecision', value: matmulPrecision } },
  );
}

/**
 * Loads an engine into this process. Throws ENGINE_UNAVAILABLE, or CONFIG_INVALID for a device that is not there or
 * lacks what is asked of it.
 */
export async function loadEngine(name: EngineName | 'auto', options: EngineOptions): Promise<Engine> {
  if (name !== 'auto') return loadNamed(name, options);
  const { name: settled, warning } = await settleEngine();
  const engine = await loadNamed(settled, options);
  return warning === null ? engine : { ...engine, warnings: [warning, ...engine.warnings] };
}

async function loadNamed(name: EngineName, options: EngineOptions): Promise<Engine> {
  requirePrecision(name, options.matmulPrecision ?? 'float32');
  try {
    return { name, ...(await LOADERS[name](options)) };
  } catch (error) {
    if (error instanceof LockstepError) throw error;
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
