/**
 * A file that grows at its end without anyone waiting for the disk: what comes while a write is under way
 * goes out with the next one. Memory is bounded: beyond the limit, and after a failure, what comes is dropped,
 * counted, and said once. For records that may be lost; the commit log has a writer of its own.
 */
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf } from '../base/index.ts';
import { writing } from '../storage/index.ts';

const PENDING_BYTES_MAX = 8 * 1024 * 1024;

export class AppendFile {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #onTrouble: (reason: string) => void;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #work: Promise<void> | null = null;
  #isBroken = false;
  #closed = false;

  /** Makes folder and file if need be. Throws DISK_FULL. */
  static async open(path: string, onTrouble: (reason: string) => void): Promise<AppendFile> {
    return writing(path, async () => {
      await mkdir(dirname(path), { recursive: true });
      return new AppendFile(path, await open(path, 'a+'), onTrouble);
    });
  }

  private constructor(path: string, handle: FileHandle, onTrouble: (reason: string) => void) {
    this.path = path;
    this.#handle = handle;
    this.#onTrouble = onTrouble;
  }

  /** Whether the file is empty or ends with `byte`. */
  async endsWith(byte: number): Promise<boolean> {
    const { size } = await this.#handle.stat();
    if (size === 0) return true;
    const last = new Uint8Array(1);
    await this.#handle.read(last, 0, 1, size - 1);
    return last[0] === byte;
  }

  append(bytes: Uint8Array): void {
    if (this.#isBroken || this.#closed) return;
    if (this.#pendingBytes + bytes.length > PENDING_BYTES_MAX) {
      this.#break(`the disk takes less than is written, and ${PENDING_BYTES_MAX} bytes are waiting`);
      return;
    }
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    this.#work ??= this.#write();
  }

  /** Waits for what was appended. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#work;
    await this.#handle.close();
  }

  async #write(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        const bytes = Buffer.concat(this.#pending);
        this.#pending = [];
        this.#pendingBytes = 0;
        await this.#handle.appendFile(bytes);
      }
    } catch (error) {
      this.#break(messageOf(error));
    } finally {
      this.#work = null;
    }
  }

  #break(reason: string): void {
    this.#isBroken = true;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#onTrouble(`${this.path}: ${reason}`);
  }
}
