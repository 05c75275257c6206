/** Of the C library that TensorFlow shares with this process, through koffi: what decides how memory is moved. */
import { createRequire } from 'node:module';
import { addressOf, canReachMemory } from '../../kernels/index.ts';

/** Names of glibc's malloc.h. */
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;
/** Larger than any tensor that malloc is asked for; the most that fits its argument. */
const NEVER = 2 ** 31 - 1;

interface Library {
  mallopt(parameter: number, value: number): number;
}

let library: Library | null | undefined;

/** Null where koffi has no build for this system, or the C library is another. */
function libc(): Library | null {
  if (library === undefined) {
    try {
      const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
      const self = koffi.load(null);
      // The prototype is that of the interface.
      library = { mallopt: self.func('int mallopt(int parameter, int value)') } as Library;
    } catch {
      library = null;
    }
  }
  return library;
}

/** Whether `values` begin at a multiple of `bytes`; false where that cannot be told. */
export function isAligned(values: Float32Array, bytes: number): boolean {
  return canReachMemory() && addressOf(values) % bytes === 0;
}

/**
 * Keeps freed memory in the process. By default a large block is mapped for each allocation and unmapped when it
 * is freed, and its pages are cleared by the kernel every time: a tenth of the time of a base model's gradient.
 */
export function keepFreedMemory(): void {
  const found = libc();
  found?.mallopt(M_MMAP_THRESHOLD, NEVER);
  found?.mallopt(M_TRIM_THRESHOLD, NEVER);
}
