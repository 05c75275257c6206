/**
 * Reading and writing files that must outlive a crash: whole writes, whole reads, synced folders,
 * and one translation of what an operating system says when a disk does not take more.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { InvariantError, LockstepError, messageOf, systemCodeOf } from '../base/index.ts';

/** Small enough that hashing a piece (about 3 ms) does not keep heartbeats waiting. */
const PIECE_BYTES = 1024 * 1024;

/** Opens a file for reading only. Throws DATA_MISSING naming it. */
export async function openToRead(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (systemCodeOf(error) === null) throw error;
    throw new LockstepError(
      'DATA_MISSING',
      `${path}: cannot be opened: ${messageOf(error)}; check the path and its permissions`,
      { context: { path }, cause: error },
    );
  }
}

/** Writes all of `bytes` at `position`; a single write may take only part of them. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Fills `target` from `position`; false when the file ends before that. */
export async function readFully(handle: FileHandle, target: Uint8Array, position: number): Promise<boolean> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await handle.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

/**
 * Feeds bytes `first` to `end` of a file to `take`, piece by piece in order, with a turn of the event
 * loop between pieces. `take` must not keep its argument. False when the file ends before `end`.
 */
export async function readPieces(
  handle: FileHandle,
  first: number,
  end: number,
  take: (piece: Uint8Array) => void,
): Promise<boolean> {
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, end - first));
  for (let position = first; position < end; position += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, end - position));
    if (!(await readFully(handle, piece, position))) return false;
    take(piece);
  }
  return true;
}

/** Makes renames and new names within a folder durable. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * What to throw when writing `path` failed: DISK_FULL for anything the operating system reported,
 * else `error` as it is.
 */
export function diskFailure(error: unknown, path: string): unknown {
  if (error instanceof LockstepError || error instanceof InvariantError) return error;
  const systemCode = systemCodeOf(error);
  if (systemCode === null) return error;
  const full = systemCode === 'ENOSPC' || systemCode === 'EDQUOT';
  const reason = full ? `no space left on the disk (${systemCode})` : messageOf(error);
  const remedy = full ? 'free space' : 'check the disk and its permissions';
  return new LockstepError(
    'DISK_FULL',
    `${path}: cannot be written: ${reason}; what was complete before is intact: ${remedy}, then start again with --resume`,
    { context: { path, systemCode }, cause: error },
  );
}

/** Runs writes concerning `path` and translates their failure. */
export async function writing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw diskFailure(error, path);
  }
}

/**
 * Writes a small file so that its name holds either all of it or what was there before, also after a crash.
 * Throws DISK_FULL.
 */
export async function writeWhole(path: string, text: string): Promise<void> {
  const partial = `${path}.partial`;
  await writing(path, async () => {
    try {
      await writeSynced(partial, text);
      await rename(partial, path);
      await syncDirectory(dirname(path));
    } catch (error) {
      await rm(partial, { force: true });
      throw error;
    }
  });
}

/** Writes a file of which nothing reads anything yet, and flushes it to disk. */
export async function writeSynced(path: string, text: string): Promise<void> {
  const handle = await open(path, 'w');
  try {
    await writeFully(handle, new TextEncoder().encode(text), 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
