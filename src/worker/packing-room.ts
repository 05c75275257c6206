/**
 * Memory for what an attempt at a reduction packs, the same for every attempt: frames of one that is over
 * are void, and dropped if they arrive torn (net/peer.ts). New memory for each frame would cost more than
 * the packing. Grows to what a whole attempt packs: half a vector for each fragment, and a share of one.
 */
export class PackingRoom {
  readonly #buffers: Uint16Array[] = [];
  #numTaken = 0;

  /** The attempt before is over: all that was taken is free. */
  clear(): void {
    this.#numTaken = 0;
  }

  /** Room for `length` values, whatever they are at first. */
  take(length: number): Uint16Array {
    const at = this.#numTaken;
    this.#numTaken += 1;
    let buffer = this.#buffers[at];
    if (buffer === undefined || buffer.length < length) {
      buffer = new Uint16Array(length);
      this.#buffers[at] = buffer;
    }
    return buffer.subarray(0, length);
  }
}
