/**
 * Memory by its address: how one thread of a process reaches vectors that another holds, be
 * they mapped, in a SharedArrayBuffer or in a frame from a socket. An address is good in all threads, for as
 * long as its holder keeps the array; whoever tells it to others waits for them meanwhile.
 */
import { assert } from '../base/index.ts';
import { cLibrary } from './c-library.ts';

/** Numbers at an address; named as those of a typed array, whose place it can take. */
export interface RawValues {
  /** Of the first one, in bytes. Exact: an address of a process has fewer than 53 bits. */
  readonly address: number;
  readonly length: number;
  readonly BYTES_PER_ELEMENT: number;
}

type NumberArray = Float32Array | Uint16Array | BigUint64Array | Float64Array;

interface MemoryCalls {
  /** Returns where `to` lies. */
  locate(to: NumberArray, from: NumberArray, bytes: number): number;
  copy(to: number, from: number, bytes: number): void;
  store(to: number, from: NumberArray, bytes: number): void;
}

let loaded: MemoryCalls | null | undefined;

/** Null where the C library cannot be called. */
function load(): MemoryCalls | null {
  if (loaded === undefined) {
    const library = cLibrary();
    // One function under three prototypes, those of the interface; an integer as wide as a pointer stands for one.
    loaded =
      library === null
        ? null
        : ({
            locate: library.func('uintptr_t memcpy(const void *to, const void *from, size_t bytes)'),
            copy: library.func('void memcpy(uintptr_t to, uintptr_t from, size_t bytes)'),
            store: library.func('void memcpy(uintptr_t to, const void *from, size_t bytes)'),
          } as MemoryCalls);
  }
  return loaded;
}

/** Whether memory can be reached by its address on this system. */
export function canReachMemory(): boolean {
  return load() !== null;
}

function calls(): MemoryCalls {
  const found = load();
  assert(found !== null, 'whoever works by address asks first whether that can be');
  return found;
}

/** Where an array begins, in bytes. It does not move as long as it is held. */
export function addressOf(values: NumberArray): number {
  // memcpy returns where it was asked to copy to.
  return calls().locate(values, values, 0);
}

/** Whether `values` begin at a multiple of `bytes`; false where that cannot be told. */
export function isAligned(values: NumberArray, bytes: number): boolean {
  return canReachMemory() && addressOf(values) % bytes === 0;
}

export function rawOf(values: NumberArray): RawValues {
  const { length, BYTES_PER_ELEMENT } = values;
  return { address: addressOf(values), length, BYTES_PER_ELEMENT };
}

export function partOf({ address, BYTES_PER_ELEMENT }: RawValues, begin: number, end: number): RawValues {
  return { address: address + begin * BYTES_PER_ELEMENT, length: end - begin, BYTES_PER_ELEMENT };
}

export function copyMemory(to: number, from: number, bytes: number): void {
  calls().copy(to, from, bytes);
}

/** Copies an array to an address. */
export function storeAt(address: number, values: NumberArray): void {
  calls().store(address, values, values.byteLength);
}
