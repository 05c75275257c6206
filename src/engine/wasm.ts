/**
 * The `wasm` engine: @tensorflow/tfjs-backend-wasm on one CPU core, for machines where nothing else
 * loads. It computes on a single thread in Node, whatever is asked for.
 */
import { createRequire } from 'node:module';
import type * as tfjs from '@tensorflow/tfjs';
import { ON_THE_CPU } from './cpu.ts';
import type { EngineOptions, LoadedBackend } from './engine.ts';
import { registerWasmKernels } from './wasm-kernels.ts';

const require = createRequire(import.meta.url);
export const WASM_PACKAGE = '@tensorflow/tfjs-backend-wasm';

export async function loadWasm({ threads }: EngineOptions): Promise<LoadedBackend> {
  const tf = require('@tensorflow/tfjs') as typeof tfjs;
  const { version_wasm } = require(WASM_PACKAGE) as { version_wasm: string };
  if (!(await tf.setBackend('wasm'))) throw new Error('the wasm backend did not start');
  await tf.ready();
  registerWasmKernels(tf);
  return {
    version: `tfjs-backend-wasm ${version_wasm}`,
    device: 'CPU, 1 thread',
    tf,
    warnings: threads > 1 ? [`engine wasm computes on 1 thread; ${threads} were asked for`] : [],
    ...ON_THE_CPU,
  };
}
