/**
 * Blocks that were fetched once, on this machine's disk: one sparse file for each file of the data set, each block at
 * its own place. Nothing says which blocks are there, for whoever reads one checks its digest anyway: a hole, a block
 * cut short by a crash or spoilt by a disk is fetched again. So nothing needs to be synced, and several workers of a
 * host may share one folder. A disk that takes no more is no trouble: what is not kept is fetched again.
 */
import { closeSync, constants, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, systemCodeOf } from '../base/index.ts';
import { DATA_BLOCK_BYTES } from './data-blocks.ts';

export class BlockCache {
  readonly #directory: string;
  readonly #onTrouble: (reason: string) => void;
  /** By file; null where it cannot be opened. */
  readonly #descriptors = new Map<string, number | null>();
  #isFull = false;

  /** `onTrouble` hears once why blocks are not kept. */
  constructor(directory: string, onTrouble: (reason: string) => void) {
    this.#directory = directory;
    this.#onTrouble = onTrouble;
    this.#trying(() => mkdirSync(directory, { recursive: true }));
  }

  /** What lies at the block's place, of at most a block's length; perhaps not the block. */
  read(file: string, index: number): Uint8Array {
    const bytes = new Uint8Array(DATA_BLOCK_BYTES);
    const count = this.#trying(() => {
      const descriptor = this.#open(file);
      return descriptor === null ? 0 : readSync(descriptor, bytes, 0, bytes.length, index * DATA_BLOCK_BYTES);
    });
    return bytes.subarray(0, count ?? 0);
  }

  write(file: string, index: number, block: Uint8Array): void {
    if (this.#isFull) return;
    this.#trying(() => {
      const descriptor = this.#open(file);
      if (descriptor !== null) writeSync(descriptor, block, 0, block.length, index * DATA_BLOCK_BYTES);
    });
  }

  /** Idempotent. */
  close(): void {
    for (const descriptor of this.#descriptors.values()) if (descriptor !== null) closeSync(descriptor);
    this.#descriptors.clear();
  }

  #open(file: string): number | null {
    const known = this.#descriptors.get(file);
    if (known !== undefined) return known;
    this.#descriptors.set(file, null);
    const descriptor = openSync(join(this.#directory, file), constants.O_RDWR | constants.O_CREAT);
    this.#descriptors.set(file, descriptor);
    return descriptor;
  }

  #trying<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      if (systemCodeOf(error) === null) throw error;
      if (!this.#isFull) this.#onTrouble(`${this.#directory}: ${messageOf(error)}`);
      this.#isFull = true;
      return undefined;
    }
  }
}
