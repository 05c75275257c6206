/**
 * The bytes of an input file, decompressed on the way when its name says so,
 * with a count of the file's own bytes for progress. Memory is bounded by a few chunks.
 */
import { createReadStream, statSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { LockstepError, messageOf, systemCodeOf } from '../../base/index.ts';
import { compressionOf, startDecompressor } from './compression.ts';

const CHUNK_BYTES = 256 * 1024;

export interface ReaderContext {
  /** The input's path as the user gave it, for messages. */
  readonly file: string;
  /** Use what is whole of a file that was cut short, and warn, instead of failing. */
  readonly allowTruncated: boolean;
  warn(message: string): void;
}

/** One line for a file that ends too early: an error, or a warning when the user allowed it. */
export function reportTruncation(context: ReaderContext, what: string, offset: number, within = ''): void {
  const message = `${context.file}: ${what} at byte ${offset}${within}`;
  if (context.allowTruncated) {
    context.warn(`${message}; everything whole before it is used`);
    return;
  }
  throw new LockstepError(
    'DATA_CORRUPT',
    `${message}: fetch the file again, or pass --allow-truncated to use what is whole before it`,
    { context: { file: context.file, offset } },
  );
}

/** The same for a damaged part; `owned` is false for a range that only passes over it. */
export function reportDamage(context: ReaderContext, what: string, offset: number, owned: boolean): void {
  const message = `${context.file}: ${what}`;
  if (context.allowTruncated) {
    if (owned) context.warn(`${message}; the articles that it touches are left out`);
    return;
  }
  throw new LockstepError(
    'DATA_CORRUPT',
    `${message}: fetch the file again, or pass --allow-truncated to leave out the articles that it touches`,
    { context: { file: context.file, offset } },
  );
}

export class ByteSource {
  readonly #context: ReaderContext;
  readonly fileBytes: number;
  #bytesRead = 0;

  /** Throws DATA_MISSING when `context.file` is not a readable file. */
  constructor(context: ReaderContext) {
    this.#context = context;
    this.fileBytes = fileSize(context.file);
  }

  /** Bytes of the file (compressed, if it is) taken so far. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** The decompressed bytes, in order; to be iterated once. Stopping early ends the child process. */
  async *chunks(): AsyncGenerator<Buffer> {
    if (compressionOf(this.#context.file) !== '') yield* this.#decompressed();
    else yield* this.#raw();
  }

  async *#raw(): AsyncGenerator<Buffer> {
    for await (const chunk of readBytes(this.#context.file)) {
      this.#bytesRead += chunk.length;
      yield chunk;
    }
  }

  async *#decompressed(): AsyncGenerator<Buffer> {
    const decompressor = startDecompressor(this.#context.file);
    // A failure to read the file must not be lost, nor surface while nobody awaits it.
    const feeding = this.#feed(decompressor.input).then(
      () => null,
      (error: unknown) => error,
    );
    let bytesOut = 0;
    try {
      for await (const chunk of decompressor.output) {
        bytesOut += chunk.length;
        yield chunk;
      }
      const failure = await feeding;
      if (failure !== null) throw failure;
      const complaint = await decompressor.complaint();
      if (complaint !== null) this.#reportDamage(complaint, bytesOut);
    } finally {
      decompressor.stop();
    }
  }

  /** Until the file's end, or until the other side stops listening. */
  async #feed(stdin: Writable): Promise<void> {
    let open = true;
    let wake: (() => void) | null = null;
    const closed = () => {
      open = false;
      wake?.();
    };
    stdin.on('error', closed).on('close', closed);
    stdin.on('drain', () => wake?.());
    for await (const chunk of this.#raw()) {
      if (!open) return;
      if (!stdin.write(chunk)) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = null;
      }
    }
    if (open) stdin.end();
  }

  #reportDamage(complaint: string, bytesOut: number): void {
    const kind = compressionOf(this.#context.file).replace('.', '');
    const detail = complaint === '' ? '' : ` (${complaint})`;
    reportTruncation(
      this.#context,
      `${kind} data are cut short or damaged${detail}; the decompressed text ends`,
      bytesOut,
    );
  }
}

/** A file's bytes from `start`, as they are. Throws DATA_MISSING. */
export async function* readBytes(file: string, start = 0): AsyncGenerator<Buffer> {
  const stream: AsyncIterable<Buffer> = createReadStream(file, { start, highWaterMark: CHUNK_BYTES });
  try {
    yield* stream;
  } catch (error) {
    if (systemCodeOf(error) === null) throw error;
    throw cannotRead(file, error);
  }
}

export function fileSize(file: string): number {
  let stat: ReturnType<typeof statSync>;
  try {
    stat = statSync(file);
  } catch (error) {
    throw cannotRead(file, error);
  }
  if (!stat.isFile()) {
    throw new LockstepError('DATA_MISSING', `${file} is not a file: name the dump or text file itself`, {
      context: { file },
    });
  }
  return stat.size;
}

export function cannotRead(file: string, cause: unknown): LockstepError {
  const missing = systemCodeOf(cause) === 'ENOENT';
  const message = missing
    ? `${file} does not exist: check the path of the input`
    : `${file} cannot be read (${messageOf(cause)}): check its permissions and the disk`;
  return new LockstepError('DATA_MISSING', message, { context: { file }, cause });
}
