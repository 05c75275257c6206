/**
 * A run's commit log on disk: append-only, one line per record, on disk before `append` resolves.
 * What it says has happened, has; nothing is announced before it is in here (DESIGN section 4).
 *
 * Memory holds a summary and each step's place in the file, never the records themselves.
 */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { assert } from '../base/index.ts';
import { diskFailure, readFully, syncDirectory, writeFully } from '../storage/index.ts';
import { CHAIN_START, decodeLine, encodeLine } from './line-codec.ts';
import type { HistoryRecord, StepRecord } from './record.ts';
import { RunLock } from './run-lock.ts';
import { corrupt, scanHistory } from './scan.ts';
import { EMPTY_HISTORY, faultOf, type HistorySummary, withRecord } from './sequence.ts';

/** Where a committed step's line lies, and what it is chained to. */
interface StepPlace {
  readonly line: number;
  readonly offset: number;
  readonly length: number;
  readonly previousLink: number;
}

/** A log as found at opening, up to its last whole record. */
interface LoadedLog {
  readonly history: HistorySummary;
  /** Step `n` at index `n - 1`. */
  readonly places: StepPlace[];
  readonly lines: number;
  readonly bytes: number;
  readonly link: number;
  readonly note: string | null;
}

export class CommitLog {
  readonly path: string;
  /** One line for the user when opening dropped a record that had not been written as a whole; else null. */
  readonly note: string | null;
  readonly #handle: FileHandle;
  readonly #lock: RunLock;
  readonly #places: StepPlace[];
  #history: HistorySummary;
  #lines: number;
  #bytes: number;
  #link: number;
  #appending: Promise<void> = Promise.resolve();
  #failure: unknown = null;
  #closing: Promise<void> | null = null;

  private constructor(path: string, handle: FileHandle, lock: RunLock, loaded: LoadedLog) {
    this.path = path;
    this.note = loaded.note;
    this.#handle = handle;
    this.#lock = lock;
    this.#places = loaded.places;
    this.#history = loaded.history;
    this.#lines = loaded.lines;
    this.#bytes = loaded.bytes;
    this.#link = loaded.link;
  }

  /**
   * Opens the log at `path`, making it if need be, takes the run's lock beside it, and checks
   * every record. A torn last record is cut off, see `note`. Throws RUN_IN_USE when
   * another process has the run open, HISTORY_CORRUPT, or DISK_FULL.
   */
  static async open(path: string): Promise<CommitLog> {
    try {
      const created = await mkdir(dirname(path), { recursive: true });
      if (created !== undefined) await syncDirectory(dirname(created));
      const lock = await RunLock.acquire(path);
      try {
        return await CommitLog.#openLocked(path, lock);
      } catch (error) {
        await lock.release();
        throw error;
      }
    } catch (error) {
      throw diskFailure(error, path);
    }
  }

  static async #openLocked(path: string, lock: RunLock): Promise<CommitLog> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT);
    try {
      await syncDirectory(dirname(path));
      const loaded = await load(handle, path);
      if (loaded.note !== null) {
        await handle.truncate(loaded.bytes);
        await handle.sync();
      }
      return new CommitLog(path, handle, lock, loaded);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** What the log says as a whole, appended records included. */
  get history(): HistorySummary {
    return this.#history;
  }

  /**
   * Appends a record; when this resolves it is on disk. Calls queue up in order. A record out of
   * sequence is an InvariantError. Throws DISK_FULL when the disk does not take it: the file is then
   * cut back to its last whole record, and the log takes no more until it is opened anew.
   */
  append(record: HistoryRecord): Promise<void> {
    assert(this.#closing === null, `${this.path} is closed`);
    const appended = this.#appending.then(() => this.#append(record));
    // The caller has the failure; what is queued behind it is refused on its own turn.
    this.#appending = appended.catch(() => {});
    return appended;
  }

  async #append(record: HistoryRecord): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const fault = faultOf(this.#history, record);
    assert(fault === null, `${this.path}: ${fault}`);
    const { bytes, link } = encodeLine(this.#link, record);
    try {
      await writeFully(this.#handle, bytes, this.#bytes);
      await this.#handle.datasync();
    } catch (error) {
      this.#failure = diskFailure(error, this.path);
      // Should this fail as well, the torn record is cut off when the log is opened next.
      await this.#handle.truncate(this.#bytes).catch(() => {});
      throw this.#failure;
    }
    this.#lines += 1;
    if (record.kind === 'committed' || record.kind === 'skipped') {
      this.#places.push({
        line: this.#lines,
        offset: this.#bytes,
        length: bytes.length,
        previousLink: this.#link,
      });
    }
    this.#history = withRecord(this.#history, record);
    this.#bytes += bytes.length;
    this.#link = link;
  }

  /**
   * How a step ended, read from disk; null for one that is not over. A run that
   * resumed from an older checkpoint compares with it (`replayDifferences`) instead of appending.
   */
  async stepRecord(step: number): Promise<StepRecord | null> {
    const place = this.#places[step - 1];
    if (place === undefined) return null;
    const bytes = new Uint8Array(place.length - 1);
    if (!(await readFully(this.#handle, bytes, place.offset))) {
      throw corrupt(this.path, place.line, place.offset, 'is gone: the file became shorter');
    }
    const decoded = decodeLine(place.previousLink, bytes);
    if (decoded.record === null) throw corrupt(this.path, place.line, place.offset, decoded.fault);
    const { record } = decoded;
    const isStep = record.kind === 'committed' || record.kind === 'skipped';
    assert(isStep, `line ${place.line} of ${this.path} ends a step`);
    return record;
  }

  /** Waits for what is being appended, then lets the run go. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#appending.then(async () => {
      await this.#handle.close();
      await this.#lock.release();
    });
    return this.#closing;
  }
}

async function load(handle: FileHandle, path: string): Promise<LoadedLog> {
  const places: StepPlace[] = [];
  let history = EMPTY_HISTORY;
  let lines = 0;
  let bytes = 0;
  let link = CHAIN_START;
  const records = scanHistory(handle, path);
  let next = await records.next();
  while (next.done !== true) {
    const { record, line, offset, length, previousLink } = next.value;
    if (record.kind === 'committed' || record.kind === 'skipped')
      places.push({ line, offset, length, previousLink });
    history = next.value.history;
    link = next.value.link;
    lines = line;
    bytes = offset + length;
    next = await records.next();
  }
  const tail = next.value;
  const note =
    tail === null
      ? null
      : `${path}: dropped ${tail.length} bytes of a last record that was not written whole: ` +
        `line ${tail.line} (byte ${tail.offset}) ${tail.reason}`;
  return { history, places, lines, bytes, link, note };
}
