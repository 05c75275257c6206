/**
 * The side of data-blocks.ts that has the files. Nothing is opened before somebody asks; a file is read through once,
 * checked against the manifest, and its blocks' digests are remembered. Work is done in pieces with turns of the event
 * loop between, because the coordinator's own work must go on meanwhile.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { LockstepError } from '../base/index.ts';
import type { DataConfig } from '../config/index.ts';
import { openToRead, readFully } from '../storage/index.ts';
import {
  type BlockSource,
  blockDigest,
  DATA_BLOCK_BYTES,
  sampleTableBytes,
  sampleTableFile,
} from './data-blocks.ts';
import { openDataset } from './dataset.ts';
import { filesOf, MANIFEST_FILE } from './manifest.ts';
import { sampleSpecOf } from './micro-batch.ts';
import type { SampleSpec } from './samples.ts';
import { SPLITS } from './split.ts';

const PIECE_BYTES = 64 * DATA_BLOCK_BYTES;

/** A file to be served: on disk with its expected hash, or made here. */
type ServedFile =
  | { readonly kind: 'stored'; readonly sha256: string }
  | { readonly kind: 'table'; readonly spec: SampleSpec };

export class ServedDataset implements BlockSource {
  readonly #directory: string;
  readonly #sha256: string;
  readonly #dataConfig: DataConfig;
  readonly #files = new Map<string, Promise<ReadonlyMap<string, ServedFile>>>();
  readonly #digests = new Map<string, Promise<Uint8Array>>();
  readonly #handles = new Map<string, Promise<FileHandle>>();
  readonly #tables = new Map<string, Promise<Uint8Array>>();

  /** The data set in `directory`, which must have the given identity, with the sample tables of `dataConfig`. */
  constructor(directory: string, sha256: string, dataConfig: DataConfig) {
    this.#directory = directory;
    this.#sha256 = sha256;
    this.#dataConfig = dataConfig;
  }

  /** Throws DATA_MISSING for a file that is not served, DATA_CORRUPT for one that is not what the manifest says. */
  digests(file: string): Promise<Uint8Array> {
    return remembered(this.#digests, file, () => this.#makeDigests(file));
  }

  async block(file: string, index: number): Promise<Uint8Array> {
    const served = await this.#find(file);
    const start = index * DATA_BLOCK_BYTES;
    if (served.kind === 'table') {
      const block = (await this.#table(file, served.spec)).subarray(start, start + DATA_BLOCK_BYTES);
      if (block.length > 0) return block;
    } else {
      const handle = await this.#handle(file);
      const block = new Uint8Array(DATA_BLOCK_BYTES);
      const { bytesRead } = await handle.read(block, 0, block.length, start);
      if (bytesRead > 0) return block.subarray(0, bytesRead);
    }
    throw new LockstepError(
      'DATA_MISSING',
      `${join(this.#directory, file)} has no block ${index}: ask for what its digests list`,
    );
  }

  /** Idempotent. */
  async close(): Promise<void> {
    const handles = [...this.#handles.values()];
    this.#handles.clear();
    for (const handle of handles) await (await handle).close();
  }

  async #makeDigests(file: string): Promise<Uint8Array> {
    const served = await this.#find(file);
    if (served.kind === 'table') return digestsOf(await this.#table(file, served.spec));
    const path = join(this.#directory, file);
    const handle = await this.#handle(file);
    const { size } = await handle.stat();
    const whole = createHash('sha256');
    const digests: Buffer[] = [];
    for (let start = 0; start < size; start += PIECE_BYTES) {
      const piece = new Uint8Array(Math.min(PIECE_BYTES, size - start));
      if (!(await readFully(handle, piece, start))) break;
      whole.update(piece);
      digests.push(digestsOf(piece));
    }
    const found = whole.digest('hex');
    if (found !== served.sha256) {
      throw new LockstepError(
        'DATA_CORRUPT',
        `${path} has SHA-256 ${found}, the manifest says ${served.sha256}: prepare the data set again`,
        { context: { file: path } },
      );
    }
    return Buffer.concat(digests);
  }

  #table(file: string, spec: SampleSpec): Promise<Uint8Array> {
    return remembered(this.#tables, file, async () => {
      const dataset = await openDataset(this.#directory, this.#openOptions());
      try {
        return sampleTableBytes(await dataset.sampleTable(spec));
      } finally {
        dataset.close();
      }
    });
  }

  async #find(file: string): Promise<ServedFile> {
    const files = await remembered(this.#files, this.#sha256, () => this.#listFiles());
    const served = files.get(file);
    if (served !== undefined) return served;
    throw new LockstepError('DATA_MISSING', `${file} is no file of the data set ${this.#sha256}`);
  }

  async #listFiles(): Promise<ReadonlyMap<string, ServedFile>> {
    const dataset = await openDataset(this.#directory, this.#openOptions());
    dataset.close();
    const stored = [{ file: MANIFEST_FILE, sha256: this.#sha256 }, ...filesOf(dataset.manifest)];
    const specs = SPLITS.map((split) => sampleSpecOf(this.#dataConfig, split));
    return new Map<string, ServedFile>([
      ...stored.map(({ file, sha256 }) => [file, { kind: 'stored', sha256 }] as const),
      ...specs.map((spec) => [sampleTableFile(spec), { kind: 'table', spec }] as const),
    ]);
  }

  /** Hashes are checked file by file, as files are asked for. */
  #openOptions() {
    return { verifyHashes: false, expectedSha256: this.#sha256 };
  }

  #handle(file: string): Promise<FileHandle> {
    return remembered(this.#handles, file, () => openToRead(join(this.#directory, file)));
  }
}

/** The value under `key`, made once; a failure is not remembered. */
function remembered<T>(values: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const known = values.get(key);
  if (known !== undefined) return known;
  const made = make();
  values.set(key, made);
  made.catch(() => values.delete(key));
  return made;
}

function digestsOf(bytes: Uint8Array): Buffer {
  const digests: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += DATA_BLOCK_BYTES) {
    digests.push(blockDigest(bytes.subarray(start, start + DATA_BLOCK_BYTES)));
  }
  return Buffer.concat(digests);
}
