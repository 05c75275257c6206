/**
 * Memory for what an attempt at a reduction writes in order to send it: ranges that are packed, and sums of a
 * host's fragments. The same for every attempt: frames of one that is over are void, and dropped if they arrive
 * torn (net/peer.ts). New memory for each frame would cost more than the writing. Grows to what a whole attempt
 * takes: half a vector for each fragment that is packed, and this rank's share of each sum.
 */
import type { GradientPrecision } from '../config/index.ts';
import type { RangeValues } from '../kernels/index.ts';

export class SendingRoom {
  readonly #buffers: ArrayBuffer[] = [];
  #numTaken = 0;

  /** The attempt before is over: all that was taken is free. */
  clear(): void {
    this.#numTaken = 0;
  }

  /** Room for `length` values as they travel, whatever they are at first. */
  take(length: number, precision: GradientPrecision): RangeValues {
    const Values = precision === 'bfloat16' ? Uint16Array : Float32Array;
    const at = this.#numTaken;
    this.#numTaken += 1;
    let buffer = this.#buffers[at];
    if (buffer === undefined || buffer.byteLength < length * Values.BYTES_PER_ELEMENT) {
      buffer = new ArrayBuffer(length * Values.BYTES_PER_ELEMENT);
      this.#buffers[at] = buffer;
    }
    return new Values(buffer, 0, length);
  }
}
