/// <reference types="@webgpu/types" />
/**
 * The `webgpu` engine: @tensorflow/tfjs-backend-webgpu on Dawn's binding for Node, on any Vulkan, Metal
 * or D3D12 device. The backend asks for a device of its own making as it is loaded in browsers; here it
 * is given one, with all that the chosen adapter allows.
 *
 * A gradient depends on the card and its driver, so both are part of the engine's version: all workers of
 * a run have the same.
 */
import { createRequire } from 'node:module';
import type * as tfjs from '@tensorflow/tfjs';
import type * as webgpuPackage from '@tensorflow/tfjs-backend-webgpu';
import { LockstepError } from '../../base/index.ts';
import { ADAPTER_REMEDY, type Adapter, chooseAdapter } from '../adapters.ts';
import { readByCopy } from '../cpu.ts';
import type { DeviceTrouble, EngineOptions, LoadedBackend } from '../engine.ts';
import { probeAdapters } from '../probe.ts';
import { type WatchedBackend, watchedBackend } from './backend.ts';
import { addsAsTheHost, WebgpuSums } from './device-sums.ts';
import { registerLargeMatrices } from './large-matrices.ts';
import { registerOrderedProduct } from './ordered-product.ts';
import { type RecorderOptions, SUBGROUPS_FEATURE } from './recorder.ts';
import { registerFusedKernels } from './register.ts';

const require = createRequire(import.meta.url);
export const WEBGPU_PACKAGE = '@tensorflow/tfjs-backend-webgpu';

/** Used where an adapter has them: to time kernels on the device, and for reductions. */
const WANTED_FEATURES: readonly GPUFeatureName[] = ['timestamp-query', SUBGROUPS_FEATURE];
const HALF_FEATURE: GPUFeatureName = 'shader-f16';

/** Throws CONFIG_INVALID for a device that does not exist, ENGINE_UNAVAILABLE where there is none at all. */
export async function loadWebgpu({
  device,
  bindingBytesMax,
  matmulPrecision = 'float32',
}: EngineOptions): Promise<LoadedBackend> {
  const { adapters, version, reason } = await probeAdapters();
  if (reason !== null)
    throw new LockstepError('ENGINE_UNAVAILABLE', `engine webgpu: ${reason}; ${ADAPTER_REMEDY}`);
  const adapter = chooseAdapter(adapters, device ?? null);
  const halfProducts = matmulPrecision === 'float16';
  if (halfProducts && !adapter.features.includes(HALF_FEATURE)) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `matmulPrecision is ${matmulPrecision}: ${adapter.name} lacks the feature ${HALF_FEATURE}; leave it at float32, or choose another device`,
      { context: { field: 'matmulPrecision', value: matmulPrecision, device: adapter.name } },
    );
  }
  const { create, globals } = await import('webgpu');
  Object.assign(globalThis, globals);
  const gpu = create([`backend=${adapter.api}`, `adapter=${adapter.name}`]);
  // The backend's own code looks for the browser's entrance; Node 21 has a `navigator` that cannot be assigned to.
  Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true });
  const tf = require('@tensorflow/tfjs') as typeof tfjs;
  const { WebGPUBackend, webgpu_util } = require(WEBGPU_PACKAGE) as typeof webgpuPackage;
  registerOrderedProduct(tf, webgpu_util.MatMulProgramType.MatMulPackedProgram);
  registerFusedKernels(tf);
  registerLargeMatrices(tf);
  const Backend = watchedBackend(WebGPUBackend, { bindingBytesMax, halfProducts });
  let backend: WatchedBackend;
  const start = async () => {
    tf.removeBackend('webgpu');
    tf.registerBackend('webgpu', async () => {
      const { gpuDevice, info } = await requestDevice(gpu, adapter, { bindingBytesMax, halfProducts });
      backend = new Backend(gpuDevice, info);
      return backend;
    });
    if (!(await tf.setBackend('webgpu'))) throw new Error(`adapter ${adapter.name} gave no device`);
  };
  await start();
  return {
    version:
      `${version}${halfProducts ? ', float16 products' : ''} on ${adapter.name}, ${adapter.driver}`.slice(
        0,
        128,
      ),
    device: adapter.name,
    tf,
    warnings: adapter.isSoftware
      ? [`engine webgpu computes in software on ${adapter.name}: right, and far slower than any other engine`]
      : [],
    readInto: readByCopy,
    readsBeside: true,
    deviceSums: async () => {
      const sums = new WebgpuSums(tf, () => backend);
      return (await addsAsTheHost(tf, sums)) ? sums : null;
    },
    tensorBytesMax: adapter.tensorBytesMax,
    troubleOf: (error) => backend.trouble ?? allocationTrouble(error),
    restart: start,
  };
}

/** A buffer that is to be filled by the host is refused with an exception, unlike any other. */
function allocationTrouble(error: unknown): DeviceTrouble | null {
  return error instanceof RangeError && /createBuffer/.test(error.message)
    ? { kind: 'outOfMemory', reason: error.message }
    : null;
}

/** A device with every limit that its adapter allows: the defaults of WebGPU refuse the table of a `base` model. */
async function requestDevice(
  gpu: GPU,
  { name }: Adapter,
  { bindingBytesMax = Number.POSITIVE_INFINITY, halfProducts = false }: RecorderOptions,
): Promise<{ gpuDevice: GPUDevice; info: GPUAdapterInfo }> {
  const found = await gpu.requestAdapter();
  if (found === null) throw new LockstepError('ENGINE_UNAVAILABLE', `WebGPU adapter ${name} is gone`);
  const limits: Record<string, number> = {};
  for (const limit of Object.getOwnPropertyNames(Object.getPrototypeOf(found.limits))) {
    const value: unknown = Reflect.get(found.limits, limit);
    if (typeof value === 'number') limits[limit] = value;
  }
  // Less than the defaults are not to be had: WebGPU then grants these.
  limits.maxStorageBufferBindingSize = Math.min(limits.maxStorageBufferBindingSize!, bindingBytesMax);
  const wanted = halfProducts ? [...WANTED_FEATURES, HALF_FEATURE] : WANTED_FEATURES;
  const requiredFeatures = wanted.filter((feature) => found.features.has(feature));
  const gpuDevice = await found.requestDevice({ requiredLimits: limits, requiredFeatures });
  return { gpuDevice, info: found.info };
}
