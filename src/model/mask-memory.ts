/**
 * Where a micro-batch's dropout masks are drawn: the same memory for each, in place of tens of megabytes of new
 * arrays, which are cleared first, make the garbage collector run, and are copied where they are not aligned.
 */

/** 16 MiB; a larger mask gets a chunk of its own size. */
const CHUNK_FLOATS = 2 ** 22;
/** Engines read in place what begins at a multiple of 64 bytes, if the chunk does. */
const ALIGNED_FLOATS = 16;

export function alignedFloats(floats: number): number {
  return Math.ceil(floats / ALIGNED_FLOATS) * ALIGNED_FLOATS;
}

export class MaskMemory {
  readonly #allocate: (floats: number) => Float32Array;
  readonly #chunks: Float32Array[] = [];
  #current = 0;
  #used = 0;

  constructor(allocate: (floats: number) => Float32Array) {
    this.#allocate = allocate;
  }

  /** Memory of any content, until `reset`. */
  take(floats: number): Float32Array {
    while (this.#current < this.#chunks.length && this.#chunks[this.#current]!.length < this.#used + floats) {
      this.#current += 1;
      this.#used = 0;
    }
    if (this.#current === this.#chunks.length)
      this.#chunks.push(this.#allocate(Math.max(floats, CHUNK_FLOATS)));
    const taken = this.#chunks[this.#current]!.subarray(this.#used, this.#used + floats);
    this.#used += alignedFloats(floats);
    return taken;
  }

  /** Nothing reads any more what was taken. */
  reset(): void {
    this.#current = 0;
    this.#used = 0;
  }
}
