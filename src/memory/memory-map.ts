/**
 * Maps files and memory into this process: mmap(2), which Node has no interface for. Pages
 * of a file on tmpfs are memory that all who map them share. Unlike a SharedArrayBuffer's, bytes mapped are
 * copied by plain memmove and begin at a page, which makes kernels that stream over them a quarter faster.
 *
 * An address outlives garbage collection and threads; reading one after `unmap` ends the process.
 */
import { getSystemErrorName } from 'node:util';
import { assert } from '../base/index.ts';
import { cLibrary } from './c-library.ts';

/** As Linux defines them. */
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_FAILED = 2n ** 64n - 1n;

interface SystemCalls {
  mmap(
    address: null,
    bytes: number,
    protection: number,
    flags: number,
    descriptor: number,
    at: number,
  ): bigint | null;
  munmap(address: bigint, bytes: number): number;
  posix_fallocate(descriptor: number, at: number, bytes: number): number;
  view(address: bigint, bytes: number): ArrayBuffer;
}

let loaded: SystemCalls | null = null;

/** Throws where the C library cannot be called. */
function calls(): SystemCalls {
  if (loaded === null) {
    const library = cLibrary();
    assert(library !== null, 'whoever maps memory asks first whether that can be');
    // The prototypes are those of the interface.
    loaded = {
      mmap: library.func(
        'void *mmap(void *address, size_t bytes, int protection, int flags, int fd, int64_t at)',
      ),
      munmap: library.func('int munmap(void *address, size_t bytes)'),
      posix_fallocate: library.func('int posix_fallocate(int fd, int64_t at, int64_t bytes)'),
      view: library.view,
    } as SystemCalls;
  }
  return loaded;
}

/** Whether files can be mapped on this system. */
export function canMap(): boolean {
  return process.platform === 'linux' && cLibrary() !== null;
}

/** Maps bytes of an open file, from a multiple of the page size on; the file must be at least so long. Throws. */
export function map(descriptor: number, at: number, bytes: number, access: 'read' | 'write'): bigint {
  const protection = access === 'write' ? PROT_READ | PROT_WRITE : PROT_READ;
  return checked(calls().mmap(null, bytes, protection, MAP_SHARED, descriptor, at), bytes);
}

/** Maps zeros that are this process's alone. Throws. */
export function mapPrivate(bytes: number): bigint {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  return checked(calls().mmap(null, bytes, PROT_READ | PROT_WRITE, flags, -1, 0), bytes);
}

function checked(address: bigint | null, bytes: number): bigint {
  if (address === null || address === MAP_FAILED) throw new Error(`${bytes} bytes cannot be mapped`);
  return address;
}

export function unmap(address: bigint, bytes: number): void {
  calls().munmap(address, bytes);
}

/** The mapped bytes, in any thread of the process that mapped them. */
export function viewOf(address: bigint, bytes: number): ArrayBuffer {
  return calls().view(address, bytes);
}

/** Makes sure that there is memory for these bytes of a file, lengthening it if need be. Throws when there is none. */
export function reserve(descriptor: number, at: number, bytes: number): void {
  const code = calls().posix_fallocate(descriptor, at, bytes);
  if (code !== 0) throw new Error(`${bytes} bytes cannot be had: ${getSystemErrorName(-code)}`);
}
