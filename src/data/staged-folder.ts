/**
 * Writes a set of files so that a reader never meets half of it: each goes to a temporary name and
 * is flushed to disk; `commit` renames them all, the manifest last. While a folder has no manifest
 * it holds no data set, whatever else lies in it.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { assert, LockstepError, messageOf, systemCodeOf } from '../base/index.ts';

const BUFFER_BYTES = 1024 * 1024;
const TEMPORARY_SUFFIX = '.partial';

export interface FileSummary {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Appends to one temporary file, buffered; `finish` flushes it to disk and tells its size and hash. */
export class StagedFile {
  readonly #name: string;
  readonly path: string;
  readonly #descriptor: number;
  readonly #hash = createHash('sha256');
  readonly #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #buffered = 0;
  #bytes = 0;
  #open = true;

  constructor(directory: string, name: string) {
    this.#name = name;
    this.path = join(directory, name + TEMPORARY_SUFFIX);
    this.#descriptor = writing(this.path, () => openSync(this.path, 'w'));
  }

  get bytes(): number {
    return this.#bytes;
  }

  append(bytes: Uint8Array): void {
    assert(this.#open, `${this.#name} is already finished`);
    this.#bytes += bytes.length;
    let taken = 0;
    while (taken < bytes.length) {
      const count = Math.min(bytes.length - taken, BUFFER_BYTES - this.#buffered);
      this.#buffer.set(bytes.subarray(taken, taken + count), this.#buffered);
      this.#buffered += count;
      taken += count;
      if (this.#buffered === BUFFER_BYTES) this.#flush();
    }
  }

  finish(): FileSummary {
    this.#flush();
    writing(this.path, () => fsyncSync(this.#descriptor));
    this.close();
    return { file: this.#name, bytes: this.#bytes, sha256: this.#hash.digest('hex') };
  }

  /** Idempotent. */
  close(): void {
    if (this.#open) closeSync(this.#descriptor);
    this.#open = false;
  }

  #flush(): void {
    const bytes = this.#buffer.subarray(0, this.#buffered);
    this.#hash.update(bytes);
    writing(this.path, () => {
      // A short write (a full disk may give one before it gives ENOSPC) is continued.
      for (let written = 0; written < bytes.length; ) {
        written += writeSync(this.#descriptor, bytes, written);
      }
    });
    this.#buffered = 0;
  }
}

export class StagedFolder {
  readonly #directory: string;
  readonly #manifestName: string;
  readonly #files = new Map<string, StagedFile>();

  /** Creates the folder where it is missing; throws DISK_FULL when that or a later write fails. */
  constructor(directory: string, manifestName: string) {
    this.#directory = directory;
    this.#manifestName = manifestName;
    writing(directory, () => mkdirSync(directory, { recursive: true }));
  }

  create(name: string): StagedFile {
    assert(!this.#files.has(name), `${name} is staged twice`);
    const file = new StagedFile(this.#directory, name);
    this.#files.set(name, file);
    return file;
  }

  /** Writes a small file whole. */
  write(name: string, content: string): FileSummary {
    const file = this.create(name);
    file.append(Buffer.from(content, 'utf8'));
    return file.finish();
  }

  /** Deletes a staged file that shall not become part of the set. */
  discard(name: string): void {
    const file = this.#files.get(name);
    if (file === undefined) return;
    file.close();
    rmSync(file.path, { force: true });
    this.#files.delete(name);
  }

  /**
   * Puts every staged file in place, the manifest last. What is replaced goes first: an older manifest,
   * then the files that `isStale` says belonged to it.
   */
  commit(manifest: string, isStale: (name: string) => boolean): void {
    this.write(this.#manifestName, manifest);
    writing(this.#directory, () => {
      rmSync(join(this.#directory, this.#manifestName), { force: true });
      syncDirectory(this.#directory);
      for (const name of readdirSync(this.#directory)) {
        if (isStale(name)) rmSync(join(this.#directory, name));
      }
      // The manifest was staged last, and a Map keeps that order.
      for (const [name, file] of this.#files) {
        if (name === this.#manifestName) syncDirectory(this.#directory);
        renameSync(file.path, join(this.#directory, name));
      }
      syncDirectory(this.#directory);
    });
    this.#files.clear();
  }

  /** Deletes what is staged and not committed. Idempotent. */
  abort(): void {
    for (const name of [...this.#files.keys()]) this.discard(name);
  }
}

/** Deletes the temporary files that a process which was killed has left in `directory`, or those `isOurs` names. */
export function removeUnfinished(directory: string, isOurs: (name: string) => boolean = () => true): void {
  for (const name of readdirSync(directory)) {
    if (name.endsWith(TEMPORARY_SUFFIX) && isOurs(name)) rmSync(join(directory, name), { force: true });
  }
}

/** True when something other than a folder lies at `path`. */
export function isNoFolder(path: string): boolean {
  return existsSync(path) && !statSync(path).isDirectory();
}

function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Runs a write and turns a system error into DISK_FULL with its remedy. */
export function writing<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (cause) {
    const code = systemCodeOf(cause);
    if (code === null) throw cause;
    const remedy =
      code === 'ENOSPC' || code === 'EDQUOT'
        ? 'free some space and run it again'
        : 'check the folder and its permissions';
    throw new LockstepError('DISK_FULL', `${path} could not be written (${messageOf(cause)}): ${remedy}`, {
      context: { file: path, systemCode: code },
      cause,
    });
  }
}
