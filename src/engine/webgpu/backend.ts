/// <reference types="@webgpu/types" />
/**
 * tfjs's WebGPU backend, watched. WebGPU reports a failed allocation or a lost device beside the course
 * of the program: work that was recorded on top goes on with nothing, and reads back zeros. Here such a
 * report makes every later read of the backend throw, so that no wrong gradient leaves it.
 *
 * It also bounds the pool of freed buffers, which the backend keeps for ever, a list for each size:
 * micro-batches of ever other lengths would fill any card. What the work before a read-back did not use
 * goes after it.
 */
import type { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import { LockstepError } from '../../base/index.ts';
import type { DeviceTrouble } from '../engine.ts';
import { ReadBack } from './read-back.ts';
import { Recorder, type RecorderOptions } from './recorder.ts';

export interface WatchedBackend extends WebGPUBackend {
  /** The first thing that went wrong on this device; null while all is well. */
  readonly trouble: DeviceTrouble | null;
  /** Records own shaders on this device. */
  readonly recorder: Recorder;
}

type Watching = new (device: GPUDevice, info: GPUAdapterInfo) => WatchedBackend;

const TROUBLE_TEXTS: Readonly<Record<DeviceTrouble['kind'], string>> = {
  lost: 'was lost',
  outOfMemory: 'is out of memory',
  failed: 'refused an operation',
};

/** A class made from its base at run time: the package can be loaded only after `navigator` is set. */
export function watchedBackend(Base: typeof WebGPUBackend, options: RecorderOptions = {}): Watching {
  return class Watched extends Base {
    trouble: DeviceTrouble | null = null;
    readonly recorder: Recorder;
    readonly #pool: BufferPool;
    readonly #readBack: ReadBack;
    #readsUnderWay = 0;

    constructor(device: GPUDevice, info: GPUAdapterInfo) {
      super(device, info);
      this.#readBack = new ReadBack(this);
      this.recorder = new Recorder(this, options);
      this.#pool = new BufferPool(this.bufferManager as unknown as BufferManager);
      const report = (kind: DeviceTrouble['kind'], message: string) => {
        this.trouble ??= { kind, reason: message.split('\n', 1)[0]! };
      };
      void device.lost.then(({ message }) => report('lost', message));
      device.onuncapturederror = (event) => {
        // What Dawn would print beside.
        event.preventDefault();
        report(event.error instanceof GPUOutOfMemoryError ? 'outOfMemory' : 'failed', event.error.message);
      };
    }

    override async read(dataId: object): ReturnType<WebGPUBackend['read']> {
      this.#readsUnderWay += 1;
      let values: Awaited<ReturnType<WebGPUBackend['read']>>;
      try {
        values = await this.#valuesOf(dataId);
      } catch (error) {
        // What a read fails with says less than what happened to the device.
        this.#requireWell();
        throw error;
      } finally {
        this.#readsUnderWay -= 1;
        if (this.#readsUnderWay === 0) this.#pool.trim();
      }
      this.#requireWell();
      return values;
    }

    async #valuesOf(dataId: object): ReturnType<WebGPUBackend['read']> {
      const data = this.tensorMap.has(dataId) ? this.tensorMap.get(dataId) : null;
      const array = data?.dtype === 'float32' ? Float32Array : data?.dtype === 'int32' ? Int32Array : null;
      if (array === null || data?.values != null || !(data?.resource instanceof GPUBuffer)) {
        return super.read(dataId);
      }
      return new array(await this.#readBack.read(data.resource));
    }

    #requireWell(): void {
      if (this.trouble === null) return;
      const { kind, reason } = this.trouble;
      throw new LockstepError('DEVICE_FAILED', `the GPU ${TROUBLE_TEXTS[kind]}: ${reason}`, {
        context: { kind },
      });
    }
  };
}

/** The parts of the backend's buffer manager that are used here; its types declare some private. */
interface BufferManager {
  /** By size and usage. */
  readonly freeBuffers: Map<string, GPUBuffer[]>;
  numFreeBuffers: number;
  numBytesAllocated: number;
  acquireBuffer(size: number, usage: number, mappedAtCreation?: boolean, reuse?: boolean): GPUBuffer;
}

class BufferPool {
  readonly #manager: BufferManager;
  readonly #sizesInUse = new Set<number>();

  constructor(manager: BufferManager) {
    this.#manager = manager;
    const acquire = manager.acquireBuffer.bind(manager);
    manager.acquireBuffer = (size, ...others) => {
      this.#sizesInUse.add(size);
      return acquire(size, ...others);
    };
  }

  /** Destroys the free buffers of sizes that nothing has asked for since the last time. */
  trim(): void {
    for (const buffers of this.#manager.freeBuffers.values()) {
      const size = buffers[0]?.size;
      if (size === undefined || this.#sizesInUse.has(size)) continue;
      for (const buffer of buffers.splice(0)) {
        buffer.destroy();
        this.#manager.numFreeBuffers -= 1;
        this.#manager.numBytesAllocated -= size;
      }
    }
    this.#sizesInUse.clear();
  }
}
