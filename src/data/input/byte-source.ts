/**
 * The bytes of an input file, decompressed on the way when its name ends in `.bz2`, with the size
 * and SHA-256 of the file as it lies on disk taken in passing. Memory is bounded by a few chunks.
 * bzip2 runs as a child process: lbzip2 uses every core, bzip2 is nearly everywhere, and both give
 * out the whole blocks of a damaged file before they complain.
 */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { LockstepError, messageOf, systemCodeOf } from '../../base/index.ts';

const CHUNK_BYTES = 256 * 1024;
const STDERR_CHARACTERS_MAX = 2000;
const DECOMPRESSORS = ['lbzip2', 'bzip2'] as const;

export interface ReaderContext {
  /** The input's path as the user gave it, for messages. */
  readonly file: string;
  /** Use what is whole of a file that was cut short, and warn, instead of failing. */
  readonly allowTruncated: boolean;
  warn(message: string): void;
}

/** One line for a file that ends too early: an error, or a warning when the user allowed it. */
export function reportTruncation(context: ReaderContext, what: string, offset: number): void {
  const message = `${context.file}: ${what} at byte ${offset}`;
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

export class ByteSource {
  readonly #context: ReaderContext;
  readonly #hash = createHash('sha256');
  readonly fileBytes: number;
  #bytesRead = 0;
  #sha256: string | null = null;

  /** Throws DATA_MISSING when `context.file` is not a readable file. */
  constructor(context: ReaderContext) {
    this.#context = context;
    this.fileBytes = fileSize(context.file);
  }

  /** Bytes of the file (compressed, if it is) taken so far. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** SHA-256 (hex) of the whole file; null until `chunks()` has come to its end. */
  get sha256(): string | null {
    return this.#sha256;
  }

  /** The decompressed bytes, in order; to be iterated once. Stopping early ends the child process. */
  async *chunks(): AsyncGenerator<Buffer> {
    if (this.#context.file.endsWith('.bz2')) yield* this.#decompressed();
    else yield* this.#raw();
    this.#sha256 = this.#hash.digest('hex');
  }

  async *#raw(): AsyncGenerator<Buffer> {
    const stream: AsyncIterable<Buffer> = createReadStream(this.#context.file, {
      highWaterMark: CHUNK_BYTES,
    });
    try {
      for await (const chunk of stream) {
        this.#hash.update(chunk);
        this.#bytesRead += chunk.length;
        yield chunk;
      }
    } catch (error) {
      if (systemCodeOf(error) === null) throw error;
      throw cannotRead(this.#context.file, error);
    }
  }

  async *#decompressed(): AsyncGenerator<Buffer> {
    const child = spawnDecompressor(this.#context.file);
    let complaint = '';
    child.stderr.on('data', (text: Buffer) => {
      if (complaint.length < STDERR_CHARACTERS_MAX) complaint += text.toString();
    });
    const exit = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
    // A failure to read the file must not be lost, nor surface while nobody awaits it.
    const feeding = this.#feed(child.stdin).then(
      () => null,
      (error: unknown) => error,
    );
    let bytesOut = 0;
    try {
      for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
        bytesOut += chunk.length;
        yield chunk;
      }
      const failure = await feeding;
      if (failure !== null) throw failure;
      if ((await exit) !== 0) this.#reportDamage(complaint, bytesOut);
    } finally {
      child.kill();
    }
  }

  /** Reads the file to its end, for its hash, even when the child stops listening at a damaged block. */
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
      if (open && !stdin.write(chunk)) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = null;
      }
    }
    if (open) stdin.end();
  }

  #reportDamage(complaint: string, bytesOut: number): void {
    const reason = complaint
      .split('\n')
      .find((line) => /unexpect|integrity|corrupt|CRC|not a bzip2|trunc/i.test(line));
    const detail = reason === undefined ? '' : ` (${reason.trim()})`;
    reportTruncation(
      this.#context,
      `bzip2 data are cut short or damaged${detail}; the decompressed text ends`,
      bytesOut,
    );
  }
}

function fileSize(file: string): number {
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

function cannotRead(file: string, cause: unknown): LockstepError {
  const missing = systemCodeOf(cause) === 'ENOENT';
  const message = missing
    ? `${file} does not exist: check the path of the input`
    : `${file} cannot be read (${messageOf(cause)}): check its permissions and the disk`;
  return new LockstepError('DATA_MISSING', message, { context: { file }, cause });
}

type Decompressor = ChildProcessByStdio<Writable, Readable, Readable>;

function spawnDecompressor(file: string): Decompressor {
  for (const command of DECOMPRESSORS) {
    const probe = spawnSync(command, ['--help'], { stdio: 'ignore' });
    if (probe.error === undefined) return spawn(command, ['-dc'], { stdio: ['pipe', 'pipe', 'pipe'] });
  }
  throw new LockstepError(
    'DATA_MISSING',
    `${file} needs bzip2, which is not on PATH: install bzip2 or lbzip2, or decompress the file first`,
    { context: { file } },
  );
}
