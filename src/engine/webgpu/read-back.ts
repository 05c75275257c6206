/// <reference types="@webgpu/types" />
/**
 * Reading tensors back, bucket by bucket: each is copied into a mapped buffer that many share, behind what computes
 * it and before what comes after. A bucket is handed to the device when it is full, or once the host comes
 * to rest, so that a gradient asked for in the middle of the backward pass arrives while the device goes on.
 */
import type { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';

/** Large enough that a mapping's cost does not count, small enough that the first arrives early. */
const BUCKET_BYTES = 4 * 2 ** 20;

/** The parts of the backend that are used here; its types declare most private. */
interface Backend {
  readonly bufferManager: WebGPUBackend['bufferManager'];
  readonly commandEncoder: GPUCommandEncoder | null;
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
}

interface Reader {
  readonly offset: number;
  readonly size: number;
  readonly resolve: (bytes: ArrayBuffer) => void;
  readonly reject: (error: unknown) => void;
}

interface Bucket {
  readonly staging: GPUBuffer;
  used: number;
  readonly readers: Reader[];
}

export class ReadBack {
  readonly #backend: Backend;
  #open: Bucket | null = null;

  constructor(backend: WebGPUBackend) {
    this.#backend = backend as unknown as Backend;
  }

  /** What `buffer` holds after all that has been recorded so far. It may be freed at once. */
  read(buffer: GPUBuffer): Promise<ArrayBuffer> {
    const { size } = buffer;
    const bucket = this.#bucketFor(size);
    const offset = bucket.used;
    bucket.used += size;
    const backend = this.#backend;
    backend.ensureCommandEncoderReady();
    backend.endComputePassEncoder();
    backend.commandEncoder!.copyBufferToBuffer(buffer, 0, bucket.staging, offset, size);
    return new Promise((resolve, reject) => {
      bucket.readers.push({ offset, size, resolve, reject });
      if (bucket.used >= BUCKET_BYTES) this.#close(bucket);
    });
  }

  /** The open bucket if there is room in it, else a new one. */
  #bucketFor(size: number): Bucket {
    const open = this.#open;
    if (open !== null && open.used + size <= open.staging.size) return open;
    if (open !== null) this.#close(open);
    const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ;
    const staging = this.#backend.bufferManager.acquireBuffer(Math.max(size, BUCKET_BYTES), usage);
    const bucket: Bucket = { staging, used: 0, readers: [] };
    this.#open = bucket;
    // Runs when the code that asks returns to the event loop.
    queueMicrotask(() => this.#close(bucket));
    return bucket;
  }

  /** Hands it to the device, if that has not been done. */
  #close(bucket: Bucket): void {
    if (this.#open !== bucket) return;
    this.#open = null;
    // The backend submits on its own after so many dispatches.
    if (this.#backend.commandEncoder !== null) {
      this.#backend.endComputePassEncoder();
      this.#backend.submitQueue();
    }
    void this.#deliver(bucket);
  }

  async #deliver({ staging, used, readers }: Bucket): Promise<void> {
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, used);
      const mapped = staging.getMappedRange(0, used);
      for (const { offset, size, resolve } of readers) resolve(mapped.slice(offset, offset + size));
      staging.unmap();
      this.#backend.bufferManager.releaseBuffer(staging);
    } catch (error) {
      for (const { reject } of readers) reject(error);
    }
  }
}
