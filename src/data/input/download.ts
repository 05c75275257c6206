/**
 * Fetches an input over HTTP into a folder: streamed to a temporary file, gone on with by range after a break, in this
 * run or the next, as long as the server's file is the same (RFC 9110 sections 13.1.5 and 14). It gets its name
 * when it is whole: its size is what the server said, and its checksum the published one if there is any.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { LockstepError, messageOf } from '../../base/index.ts';
import { diskFailure, writing } from '../../storage/index.ts';
import { readBytes } from './byte-source.ts';

/** No byte for so long is taken for a broken connection. */
const IDLE_MS = 60_000;
/** Attempts in a row that bring not one byte. */
const FRUITLESS_MAX = 5;

export interface Checksum {
  readonly algorithm: 'sha1' | 'md5';
  readonly hex: string;
}

export interface DownloadOptions {
  readonly url: string;
  readonly directory: string;
  /** What the file must have; null when nothing is published. */
  readonly checksum: Checksum | null;
  /** Waited after an attempt without a byte, doubled each time. */
  readonly retryMs: number;
  onProgress(bytes: number, total: number | null): void;
}

const stateSchema = z.object({ url: z.string(), validator: z.string().nullable() });

/**
 * Downloads `url`, unless it lies in `directory` already, and resolves with its path. Throws DATA_MISSING when the server
 * has no such file or does not answer, DATA_CORRUPT for a wrong size or checksum, DISK_FULL.
 */
export async function download(options: DownloadOptions): Promise<string> {
  const { url, directory, checksum } = options;
  const path = join(directory, fileNameOf(url));
  if (existsSync(path)) return path;
  await writing(directory, async () => {
    await mkdir(directory, { recursive: true });
  });
  const partial = `${path}.partial`;
  const attempt = new Attempt(options, partial);
  let fruitless = 0;
  for (let delayMs = options.retryMs; ; ) {
    const before = attempt.bytes;
    const failure = await attempt.run();
    if (failure === null) break;
    fruitless = attempt.bytes > before ? 0 : fruitless + 1;
    if (fruitless >= FRUITLESS_MAX) {
      throw new LockstepError(
        'DATA_MISSING',
        `${url}: broke off at byte ${attempt.bytes} and does not go on (${messageOf(failure)}): run the same command again to go on from there`,
        { cause: failure },
      );
    }
    if (fruitless === 0) delayMs = options.retryMs;
    await setTimeout(delayMs);
    delayMs *= 2;
  }
  if (checksum !== null) await verify(url, partial, checksum);
  await writing(path, () => rename(partial, path));
  await rm(`${partial}.json`, { force: true });
  return path;
}

/** A temporary file and what is known of the server's. */
class Attempt {
  readonly #options: DownloadOptions;
  readonly #path: string;
  readonly #statePath: string;
  /** The server's ETag or date of the file that the bytes here belong to. */
  #validator: string | null = null;
  bytes = 0;

  constructor(options: DownloadOptions, path: string) {
    this.#options = options;
    this.#path = path;
    this.#statePath = `${path}.json`;
  }

  /** Fetches what is missing: null when all is there, else why it broke off. */
  async run(): Promise<unknown> {
    const { url } = this.#options;
    await this.#recall();
    const idle = new IdleTimer(IDLE_MS);
    try {
      const response = await fetch(url, { headers: this.#rangeHeaders(), signal: idle.signal });
      const total = await this.#accept(response);
      if (total !== null && this.bytes === total) return null;
      await this.#store(response, total, idle);
      if (total !== null && this.bytes < total) {
        return new Error(`the connection ended at byte ${this.bytes} of ${total}`);
      }
      return null;
    } catch (error) {
      if (error instanceof LockstepError) throw error;
      return error instanceof TypeError && error.cause !== undefined ? error.cause : error;
    } finally {
      idle.stop();
    }
  }

  async #recall(): Promise<void> {
    this.bytes = (await stat(this.#path).catch(() => null))?.size ?? 0;
    const state = readState(this.#statePath);
    this.#validator = state?.url === this.#options.url ? state.validator : null;
    // Nothing tells whether the server's file is still the one that these bytes are from.
    if (this.#validator === null) this.bytes = 0;
  }

  #rangeHeaders(): Record<string, string> {
    // A file that is compressed already shall come as it is.
    const plain = { 'accept-encoding': 'identity' };
    if (this.bytes === 0 || this.#validator === null) return plain;
    return { ...plain, range: `bytes=${this.bytes}-`, 'if-range': this.#validator };
  }

  /** Where the answer's bytes go; returns the size of the whole file, if the server tells it. */
  async #accept(response: Response): Promise<number | null> {
    const { url } = this.#options;
    const { status, headers } = response;
    if (status === 416) {
      await response.body?.cancel();
      const total = Number(/\*\/(\d+)/.exec(headers.get('content-range') ?? '')?.[1] ?? Number.NaN);
      if (total === this.bytes) return total;
      rmSync(this.#path, { force: true });
      throw new Error('the file has become shorter');
    }
    if (status === 206) {
      const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '');
      if (Number(range?.[1]) !== this.bytes)
        throw new Error('the server sent another range than was asked for');
      return range?.[2] === '*' ? null : Number(range?.[2]);
    }
    if (status !== 200) {
      await response.body?.cancel();
      const message = `${url}: the server answered ${status} ${response.statusText}`.trim();
      if (status >= 500 || status === 429) throw new Error(message);
      throw new LockstepError('DATA_MISSING', `${message}: check the address`);
    }
    this.bytes = 0;
    // A weak ETag promises no equal bytes.
    const tag = headers.get('etag');
    this.#validator = tag !== null && !tag.startsWith('W/') ? tag : headers.get('last-modified');
    await writing(this.#statePath, () =>
      writeFile(this.#statePath, JSON.stringify({ url, validator: this.#validator })),
    );
    const length = headers.get('content-length');
    return length === null || headers.has('content-encoding') ? null : Number(length);
  }

  async #store(response: Response, total: number | null, idle: IdleTimer): Promise<void> {
    const handle = await open(this.#path, this.bytes === 0 ? 'w' : 'r+').catch((error: unknown) => {
      throw diskFailure(error, this.#path);
    });
    try {
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        idle.touch();
        const at = this.bytes;
        await writing(this.#path, () => handle.write(chunk, 0, chunk.length, at));
        this.bytes += chunk.length;
        this.#options.onProgress(this.bytes, total);
      }
      await writing(this.#path, () => handle.sync());
    } finally {
      await handle.close();
    }
  }
}

/** What an earlier attempt wrote; null when there was none, or it was killed while it wrote. */
function readState(path: string): z.infer<typeof stateSchema> | null {
  try {
    return stateSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return null;
  }
}

class IdleTimer {
  readonly #controller = new AbortController();
  readonly #limitMs: number;
  #timer: NodeJS.Timeout;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
    this.#timer = this.#start();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  touch(): void {
    this.#timer.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #start(): NodeJS.Timeout {
    return globalThis.setTimeout(() => {
      this.#controller.abort(new Error(`no byte for ${this.#limitMs / 1000} s`));
    }, this.#limitMs);
  }
}

async function verify(url: string, path: string, { algorithm, hex }: Checksum): Promise<void> {
  const hash = createHash(algorithm);
  for await (const chunk of readBytes(path)) hash.update(chunk);
  const found = hash.digest('hex');
  if (found === hex) return;
  await rm(path, { force: true });
  await rm(`${path}.json`, { force: true });
  throw new LockstepError(
    'DATA_CORRUPT',
    `${url}: what was received has ${algorithm.toUpperCase()} ${found}, but ${hex} is published: it has been deleted; fetch it again, or from another mirror`,
    { context: { url, found, expected: hex } },
  );
}

/** The last part of the address, as a plain file name. Throws CONFIG_INVALID when there is none. */
export function fileNameOf(url: string): string {
  const name = decodeURIComponent(new URL(url).pathname.split('/').at(-1) ?? '').replace(/[^\w.+-]/g, '_');
  if (/^[\w+-][\w.+-]*$/.test(name)) return name;
  throw new LockstepError('CONFIG_INVALID', `${url} names no file: give the address of the dump itself`);
}
