/**
 * One checkpoint being written, into a temporary folder beside its final place. Ranges of the three
 * sections arrive in any order, from several workers at once, and must cover each float exactly once.
 *
 * `commit` makes the folder whole and durable (sync, read back, manifest last) and only then has it
 * published under its name; up to there no reader can take it for a checkpoint (DESIGN section 7).
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32c } from '@node-rs/crc32';
import { assert, LockstepError, layoutSize, type ParameterLayout, type Section } from '../base/index.ts';
import { diskFailure, readPieces, syncDirectory, writeFully, writing } from '../storage/index.ts';
import { Coverage } from './coverage.ts';
import {
  type CheckpointFacts,
  type CheckpointManifest,
  encodeManifest,
  type ManifestFile,
  sealManifest,
} from './manifest.ts';
import { encodeTensorHeader, FLOAT_BYTES } from './safetensors.ts';
import {
  layoutOfFile,
  MANIFEST_FILE,
  MODEL_FILE,
  placeOf,
  TENSOR_FILES,
  type TensorFileName,
} from './sections.ts';

/** What `transformers` asks of a file that it is to load. */
const METADATA = { format: 'pt' };

interface OutputFile {
  readonly name: TensorFileName;
  readonly path: string;
  readonly handle: FileHandle;
  readonly header: Uint8Array;
  readonly coverage: Coverage;
}

export class CheckpointWriter {
  readonly step: number;
  readonly #dir: string;
  readonly #layout: ParameterLayout;
  readonly #files: ReadonlyMap<TensorFileName, OutputFile>;
  readonly #publish: (dir: string) => Promise<void>;
  readonly #inFlight = new Set<Promise<void>>();
  #state: 'writing' | 'committing' | 'closed' = 'writing';
  #failure: unknown = null;

  private constructor(
    step: number,
    dir: string,
    layout: ParameterLayout,
    files: readonly OutputFile[],
    publish: (dir: string) => Promise<void>,
  ) {
    this.step = step;
    this.#dir = dir;
    this.#layout = layout;
    this.#files = new Map(files.map((file) => [file.name, file]));
    this.#publish = publish;
  }

  /**
   * Starts a checkpoint in the empty folder `dir`, which the writer owns from here on.
   * `publish` moves the finished folder to its final place. Use `CheckpointStore.begin`.
   */
  static async create(
    step: number,
    dir: string,
    layout: ParameterLayout,
    publish: (dir: string) => Promise<void>,
  ): Promise<CheckpointWriter> {
    const files: OutputFile[] = [];
    try {
      for (const name of TENSOR_FILES) files.push(await createFile(dir, name, layout));
    } catch (error) {
      await discard(dir, files);
      throw diskFailure(error, dir);
    }
    return new CheckpointWriter(step, dir, layout, files, publish);
  }

  /**
   * Writes little-endian floats of a section from its float `offsetFloats` on. Calls may run side by
   * side; `bytes` must stay unchanged until the promise resolves. A range that is out of bounds or
   * overlaps another is an InvariantError and changes nothing. After DISK_FULL only `abort` is left.
   */
  async write(section: Section, offsetFloats: number, bytes: Uint8Array): Promise<void> {
    assert(this.#state === 'writing', `checkpoint ${this.step} takes no more data`);
    if (this.#failure !== null) throw this.#failure;
    const count = bytes.length / FLOAT_BYTES;
    const end = offsetFloats + count;
    const size = layoutSize(this.#layout);
    // The file alone would let a range of one moment run on into the other.
    const inside = offsetFloats >= 0 && end <= size;
    assert(inside, `${section}: floats ${offsetFloats} to ${end} lie outside a vector of ${size}`);
    const { file: name, firstFloat } = placeOf(section, this.#layout);
    const file = this.#files.get(name)!;
    const first = firstFloat + offsetFloats;
    file.coverage.add({ first, count, checksum: crc32c(bytes) });
    await this.#track(file, writeFully(file.handle, bytes, file.header.length + first * FLOAT_BYTES));
  }

  async #track(file: OutputFile, write: Promise<void>): Promise<void> {
    this.#inFlight.add(write);
    try {
      await write;
    } catch (error) {
      this.#failure ??= diskFailure(error, file.path);
      throw this.#failure;
    } finally {
      this.#inFlight.delete(write);
    }
  }

  /**
   * Completes the checkpoint once every float has arrived: syncs, reads back and hashes, writes the
   * manifest, publishes. On any failure the temporary folder is removed and earlier checkpoints are
   * as they were; only when old ones cannot be removed does the new one stand all the same. Throws
   * DISK_FULL, or CHECKPOINT_INVALID when the disk gave back other bytes.
   */
  async commit(facts: CheckpointFacts): Promise<CheckpointManifest> {
    assert(this.#state === 'writing', `checkpoint ${this.step} was committed or aborted before`);
    this.#state = 'committing';
    try {
      await Promise.allSettled(this.#inFlight);
      if (this.#failure !== null) throw this.#failure;
      const manifest = await writing(this.#dir, () => this.#complete(facts));
      await this.#publish(this.#dir);
      return manifest;
    } finally {
      // After publishing the folder is gone from here, and there is nothing left to remove.
      await this.#discard();
    }
  }

  async #complete(facts: CheckpointFacts): Promise<CheckpointManifest> {
    const files: ManifestFile[] = [];
    let weightsSha256 = '';
    for (const file of this.#files.values()) {
      const missing = file.coverage.firstMissing();
      assert(missing === null, `${file.name}: floats ${missing?.first} to ${missing?.end} never arrived`);
      await file.handle.sync();
      const { bytes, sha256, dataSha256 } = await readBack(file);
      files.push({ name: file.name, bytes, sha256 });
      if (file.name === MODEL_FILE) weightsSha256 = dataSha256;
    }
    const path = join(this.#dir, MANIFEST_FILE);
    const manifest = sealManifest({ step: this.step, ...facts, weightsSha256, files }, path);
    const handle = await open(path, 'wx');
    try {
      await writeFully(handle, new TextEncoder().encode(encodeManifest(manifest)), 0);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await syncDirectory(this.#dir);
    return manifest;
  }

  /** Gives the checkpoint up and its space back. Idempotent, and harmless after `commit`. */
  async abort(): Promise<void> {
    if (this.#state !== 'writing') return;
    this.#state = 'closed';
    await Promise.allSettled(this.#inFlight);
    await this.#discard();
  }

  async #discard(): Promise<void> {
    this.#state = 'closed';
    await discard(this.#dir, [...this.#files.values()]);
  }
}

async function createFile(dir: string, name: TensorFileName, layout: ParameterLayout): Promise<OutputFile> {
  const fileLayout = layoutOfFile(name, layout);
  const header = encodeTensorHeader(fileLayout, METADATA);
  const path = join(dir, name);
  const handle = await open(path, 'wx+');
  try {
    await writeFully(handle, header, 0);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return { name, path, handle, header, coverage: new Coverage(layoutSize(fileLayout)) };
}

/**
 * Hashes a file as the disk gives it back, comparing each range with the checksum taken on arrival:
 * otherwise the manifest would vouch for whatever happened to be there.
 */
async function readBack({ path, handle, header, coverage }: OutputFile) {
  const file = createHash('sha256');
  const data = createHash('sha256');
  const compare = async (first: number, end: number, expected: number, take: (piece: Uint8Array) => void) => {
    let checksum = 0;
    const whole = await readPieces(handle, first, end, (piece) => {
      checksum = crc32c(piece, checksum);
      take(piece);
    });
    if (whole && checksum === expected) return;
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${path}: bytes ${first} to ${end} read back differ from what was written; check the disk and its cables`,
      { context: { path } },
    );
  };
  await compare(0, header.length, crc32c(header), (piece) => file.update(piece));
  let end = header.length;
  for (const range of coverage.ranges()) {
    const first = end;
    end += range.count * FLOAT_BYTES;
    await compare(first, end, range.checksum, (piece) => {
      file.update(piece);
      data.update(piece);
    });
  }
  return { bytes: end, sha256: file.digest('hex'), dataSha256: data.digest('hex') };
}

async function discard(dir: string, files: readonly OutputFile[]): Promise<void> {
  for (const { handle } of files) await handle.close();
  await rm(dir, { recursive: true, force: true });
}
