/** How malloc keeps memory, for all of the process: TensorFlow's tensors too. */
import { cLibrary } from './c-library.ts';

/** Names of glibc's malloc.h. */
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;
/** Larger than any tensor that malloc is asked for; the most that fits its argument. */
const NEVER = 2 ** 31 - 1;

type Mallopt = (parameter: number, value: number) => number;

/**
 * Keeps freed memory in the process. By default a large block is mapped for each allocation and unmapped when it
 * is freed, and its pages are cleared by the kernel every time: a tenth of the time of a base model's gradient.
 * Does nothing where the C library is another than glibc.
 */
export function keepFreedMemory(): void {
  let mallopt: Mallopt | undefined;
  try {
    mallopt = cLibrary()?.func('int mallopt(int parameter, int value)') as Mallopt | undefined;
  } catch {
    return;
  }
  mallopt?.(M_MMAP_THRESHOLD, NEVER);
  mallopt?.(M_TRIM_THRESHOLD, NEVER);
}
