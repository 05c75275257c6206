/** Obviously right twins of the clever parts of src/checkpoint. */
import type { ParameterLayout } from '../../src/base/index.ts';

/** One mark per float. */
export class NaiveCoverage {
  readonly #taken: boolean[];

  constructor(size: number) {
    this.#taken = Array.from({ length: size }, () => false);
  }

  /** Whether the range could be taken; a refused range takes nothing. */
  add(first: number, count: number): boolean {
    if (count < 1 || first < 0 || first + count > this.#taken.length) return false;
    if (this.#taken.slice(first, first + count).some(Boolean)) return false;
    this.#taken.fill(true, first, first + count);
    return true;
  }

  firstMissing(): { first: number; end: number } | null {
    const first = this.#taken.indexOf(false);
    if (first === -1) return null;
    const length = this.#taken.slice(first).indexOf(true);
    return { first, end: length === -1 ? this.#taken.length : first + length };
  }
}

/** A whole safetensors file the short way, for names that are no array indices. */
export function naiveSafetensors(layout: ParameterLayout, data: Uint8Array): Uint8Array {
  const header = Object.fromEntries(
    layout.map(({ name, shape, offset, size }) => [
      name,
      { dtype: 'F32', shape, data_offsets: [4 * offset, 4 * (offset + size)] },
    ]),
  );
  return safetensorsFile(JSON.stringify(header), data);
}

/** A file of any header text, for what no writer of ours would make. */
export function safetensorsFile(json: string, data: Uint8Array): Uint8Array {
  let text = Buffer.from(json);
  while (text.length % 8 !== 0) text = Buffer.concat([text, Buffer.from(' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return new Uint8Array(Buffer.concat([length, text, data]));
}
