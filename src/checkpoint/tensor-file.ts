/**
 * One float32 safetensors file open for reading: its header checked at opening, its data read by ranges of
 * floats.
 * Source of the format: safetensors.ts.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import {
  assert,
  LockstepError,
  layoutSize,
  messageOf,
  type ParameterLayout,
  systemCodeOf,
} from '../base/index.ts';
import { openToRead, readFully, readPieces } from '../storage/index.ts';
import {
  FLOAT_BYTES,
  LENGTH_BYTES,
  parseTensorHeader,
  type TensorHeader,
  tensorHeaderBytes,
} from './safetensors.ts';

export class TensorFile {
  readonly path: string;
  /** Size of the whole file. */
  readonly bytes: number;
  readonly #header: TensorHeader;
  readonly #handle: FileHandle;

  private constructor(path: string, bytes: number, header: TensorHeader, handle: FileHandle) {
    this.path = path;
    this.bytes = bytes;
    this.#header = header;
    this.#handle = handle;
  }

  /** Throws DATA_MISSING when there is no such file, CHECKPOINT_INVALID when its header is damaged. */
  static async open(path: string): Promise<TensorFile> {
    const handle = await openToRead(path);
    try {
      const { size } = await handle.stat();
      const prefix = await readHeaderBytes(handle, size, path);
      return new TensorFile(path, size, parseTensorHeader(prefix, size, path), handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get layout(): ParameterLayout {
    return this.#header.layout;
  }

  get metadata(): TensorHeader['metadata'] {
    return this.#header.metadata;
  }

  /** Fills `target` (whole floats, little-endian) from float `firstFloat` of the data on. */
  async read(firstFloat: number, target: Uint8Array): Promise<void> {
    const size = layoutSize(this.layout);
    const count = target.length / FLOAT_BYTES;
    const inside = Number.isSafeInteger(firstFloat) && firstFloat >= 0 && firstFloat + count <= size;
    assert(Number.isInteger(count), `${target.length} bytes are not whole floats`);
    assert(inside, `floats ${firstFloat} to ${firstFloat + count} lie outside ${this.path} of ${size}`);
    await readAll(this.#handle, target, this.#header.dataStart + firstFloat * FLOAT_BYTES, this.path);
  }

  /** SHA-256 (hex) of the file and of its data section alone, in one pass over the file. */
  async sha256(): Promise<{ readonly file: string; readonly data: string }> {
    const file = createHash('sha256');
    const data = createHash('sha256');
    const { dataStart } = this.#header;
    await this.#pieces(0, dataStart, (piece) => file.update(piece));
    await this.#pieces(dataStart, this.bytes, (piece) => {
      file.update(piece);
      data.update(piece);
    });
    return { file: file.digest('hex'), data: data.digest('hex') };
  }

  async #pieces(first: number, end: number, take: (piece: Uint8Array) => void): Promise<void> {
    await reading(this.path, () => readPieces(this.#handle, first, end, take));
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** All of a safetensors file before its data. Throws CHECKPOINT_INVALID. */
export async function readHeaderBytes(handle: FileHandle, fileBytes: number, path: string) {
  const length = new Uint8Array(Math.min(LENGTH_BYTES, fileBytes));
  await readAll(handle, length, 0, path);
  const prefix = new Uint8Array(tensorHeaderBytes(length, fileBytes, path));
  await readAll(handle, prefix, 0, path);
  return prefix;
}

/** Fills `target` from byte `position` of the file; throws CHECKPOINT_INVALID when the disk does not give it. */
export async function readAll(handle: FileHandle, target: Uint8Array, position: number, path: string) {
  await reading(path, () => readFully(handle, target, position));
}

/** A disk that fails to give a file back has damaged it just as much as one that gives back less. */
async function reading(path: string, work: () => Promise<boolean>): Promise<void> {
  let cause: unknown;
  try {
    if (await work()) return;
  } catch (error) {
    if (systemCodeOf(error) === null) throw error;
    cause = error;
  }
  const what = cause === undefined ? 'became shorter while it was read' : messageOf(cause);
  throw new LockstepError('CHECKPOINT_INVALID', `${path}: ${what}; take another checkpoint`, {
    context: { path },
    cause,
  });
}
