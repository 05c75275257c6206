/**
 * Named tensors in one file, whatever its format: where each lies and how its numbers are written. Values
 * come out by range, as little-endian float32; float16 and bfloat16 widen exactly. Nothing is kept in memory.
 */
import type { FileHandle } from 'node:fs/promises';
import { assert } from '../base/index.ts';
import { FLOAT_BYTES, readAll } from '../checkpoint/index.ts';

/** Bytes of a number, by type, under the names of the safetensors format. */
export const TYPE_BYTES = {
  ...{ F64: 8, F32: 4, F16: 2, BF16: 2 },
  ...{ I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 },
} as const;
export type TensorType = keyof typeof TYPE_BYTES;

export interface StoredTensor {
  /** As the file has it. */
  readonly name: string;
  readonly type: TensorType;
  /** Row-major and without gaps. */
  readonly shape: readonly number[];
  /** Byte of the file at which its numbers begin. */
  readonly position: number;
}

/** How a tensor's numbers become float32; a type that is absent cannot be read. */
const WIDENED: Partial<Record<TensorType, (bits: number) => number>> = {
  F16: float16Bits,
  BF16: (bits) => (bits << 16) >>> 0,
};

export function isReadable(type: TensorType): boolean {
  return type === 'F32' || WIDENED[type] !== undefined;
}

export class TensorArchive {
  readonly path: string;
  /** Of the file, for a person. */
  readonly format: string;
  readonly tensors: readonly StoredTensor[];
  readonly #handle: FileHandle;

  /** The archive owns `handle`. */
  constructor(path: string, format: string, tensors: readonly StoredTensor[], handle: FileHandle) {
    this.path = path;
    this.format = format;
    this.tensors = tensors;
    this.#handle = handle;
  }

  /**
   * Fills `target` with the tensor's numbers from the `first` on, as little-endian float32. The caller stays
   * within the tensor and asks for a readable type. Throws CHECKPOINT_INVALID when the file has become shorter.
   */
  async read({ type, position }: StoredTensor, first: number, target: Uint8Array): Promise<void> {
    const start = position + first * TYPE_BYTES[type];
    if (type === 'F32') {
      await readAll(this.#handle, target, start, this.path);
      return;
    }
    const widen = WIDENED[type];
    assert(widen !== undefined, `numbers of type ${type} become float32`);
    const count = target.length / FLOAT_BYTES;
    const narrow = new Uint8Array(count * TYPE_BYTES[type]);
    await readAll(this.#handle, narrow, start, this.path);
    const from = new DataView(narrow.buffer);
    const to = new DataView(target.buffer, target.byteOffset, target.byteLength);
    for (let index = 0; index < count; index += 1) {
      to.setUint32(index * FLOAT_BYTES, widen(from.getUint16(index * 2, true)), true);
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** Numbers of a tensor of this shape. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

/** The float32 bits of the number that these float16 bits are (IEEE 754 binary16). */
function float16Bits(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (fraction << 13)) >>> 0;
  if (exponent > 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0;
  if (fraction === 0) return sign >>> 0;
  // Subnormal there, normal here: its highest bit becomes the hidden one.
  const shift = Math.clz32(fraction) - 21;
  return (sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)) >>> 0;
}
