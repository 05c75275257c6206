/**
 * `metrics.jsonl` in a run's folder: its telemetry, one JSON object per line, for the dashboard and for
 * whatever else reads JSON lines. A line that is not whole or not understood is passed over and counted:
 * the file is a record to look at, never the truth.
 */
import { open } from 'node:fs/promises';
import { systemCodeOf } from '../base/index.ts';
import { AppendFile } from './append-file.ts';
import { type Telemetry, telemetrySchema } from './view/record.ts';

export const METRICS_FILE = 'metrics.jsonl';
const CHUNK_BYTES = 1024 * 1024;
/** No record comes near; a longer line is not one of ours. */
const LINE_BYTES_MAX = 4 * 1024 * 1024;
const NEWLINE = 0x0a;

export class MetricsWriter {
  readonly #file: AppendFile;

  private constructor(file: AppendFile) {
    this.#file = file;
  }

  /** Appends to what is there. `onTrouble` hears once when no more can be written. Throws DISK_FULL. */
  static async open(path: string, onTrouble: (reason: string) => void): Promise<MetricsWriter> {
    const file = await AppendFile.open(path, onTrouble);
    // A process that died within a line leaves it open; the next record must not continue it.
    if (!(await file.endsWith(NEWLINE))) file.append(Uint8Array.of(NEWLINE));
    return new MetricsWriter(file);
  }

  append(record: Telemetry): void {
    this.#file.append(Buffer.from(`${JSON.stringify(record)}\n`));
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** Reads the file from its beginning, then what is appended, whenever it is asked. One call at a time. */
export class MetricsReader {
  readonly #path: string;
  #offset = 0;
  #partial: Buffer = Buffer.alloc(0);
  #numSkipped = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Lines passed over so far. */
  get numSkipped(): number {
    return this.#numSkipped;
  }

  /**
   * Hands each new record to `take`, in order. False when the file is shorter than what was read of it, or
   * gone: another run has taken its place, and the reader begins anew with the next call.
   */
  async readNew(take: (record: Telemetry) => void): Promise<boolean> {
    const handle = await open(this.#path, 'r').catch((error: unknown) => {
      if (systemCodeOf(error) === 'ENOENT') return null;
      throw error;
    });
    if (handle === null) return this.#restart();
    try {
      if ((await handle.stat()).size < this.#offset) return this.#restart();
      const chunk = Buffer.alloc(CHUNK_BYTES);
      for (;;) {
        const { bytesRead } = await handle.read(chunk, 0, chunk.length, this.#offset);
        if (bytesRead === 0) return true;
        this.#offset += bytesRead;
        this.#takeLines(Buffer.concat([this.#partial, chunk.subarray(0, bytesRead)]), take);
      }
    } finally {
      await handle.close();
    }
  }

  #restart(): boolean {
    const isNew = this.#offset === 0;
    this.#offset = 0;
    this.#partial = Buffer.alloc(0);
    return isNew;
  }

  #takeLines(bytes: Buffer, take: (record: Telemetry) => void): void {
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, start)) {
      const record = parseLine(bytes.toString('utf8', start, end));
      if (record === null) this.#numSkipped += 1;
      else take(record);
      start = end + 1;
    }
    const rest = bytes.subarray(start);
    this.#partial = rest.length > LINE_BYTES_MAX ? Buffer.alloc(0) : Buffer.from(rest);
  }
}

function parseLine(line: string): Telemetry | null {
  try {
    return telemetrySchema.parse(JSON.parse(line));
  } catch {
    // The caller counts it.
    return null;
  }
}
