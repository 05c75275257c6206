/**
 * A prepared data set, opened for reading: manifest and sizes are always checked, hashes unless told
 * not to. Tokens are read by position from the shards, so that memory does not grow with them; the
 * operating system's page cache is the only cache.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { assert, LockstepError, messageOf, systemCodeOf } from '../base/index.ts';
import { type FileEntry, MANIFEST_FILE, type Manifest, parseManifest } from './manifest.ts';
import { indexSamples, type SampleIndex } from './samples.ts';
import { type TokenKinds, tokenKindsOf } from './token-kinds.ts';
import { type BpeTokenizer, tokenizerFromJson } from './tokenizer/index.ts';

export interface OpenDatasetOptions {
  /** False skips the SHA-256 of shards and index, a second for each half gigabyte. Default true. */
  readonly verifyHashes?: boolean;
  /** Refuses a data set whose manifest has another SHA-256 (hex). */
  readonly expectedSha256?: string;
}

interface OpenShard {
  readonly path: string;
  readonly descriptor: number;
  /** The data set's token number of its first token. */
  readonly firstToken: number;
  readonly tokens: number;
}

/**
 * Opens the data set in `directory`. Throws DATA_MISSING for an absent folder or file, DATA_CORRUPT
 * for one that is not what the manifest says, CONFIG_MISMATCH when `expectedSha256` is not its identity.
 */
export async function openDataset(directory: string, options: OpenDatasetOptions = {}): Promise<Dataset> {
  const { verifyHashes = true, expectedSha256 } = options;
  const manifestPath = join(directory, MANIFEST_FILE);
  const manifestBytes = readWhole(manifestPath, 'run `lockstep prepare`, or check the path');
  const manifest = parseManifest(manifestBytes.toString('utf8'), manifestPath);
  const sha256 = createHash('sha256').update(manifestBytes).digest('hex');
  if (expectedSha256 !== undefined && sha256 !== expectedSha256) {
    throw new LockstepError(
      'CONFIG_MISMATCH',
      `${manifestPath} has SHA-256 ${sha256}, but ${expectedSha256} is expected: use the data set that the run began with`,
      { context: { file: manifestPath, sha256, expectedSha256 } },
    );
  }
  const files = [manifest.tokenizer, manifest.documentIndex, ...manifest.shards];
  for (const file of files) {
    checkSize(directory, file);
    // The tokenizer is small, and a wrong one gives wrong text without a sign.
    if (verifyHashes || file === manifest.tokenizer) await checkHash(directory, file);
  }
  return new Dataset(directory, manifest, sha256);
}

export class Dataset {
  readonly directory: string;
  readonly manifest: Manifest;
  /** SHA-256 (hex) of the manifest: the data set's identity. */
  readonly sha256: string;
  readonly tokenizer: BpeTokenizer;
  readonly tokenKinds: TokenKinds;
  readonly #documentLengths: Uint32Array;
  readonly #shards: OpenShard[] = [];
  readonly #sampleIndexes = new Map<number, SampleIndex>();

  /** Use `openDataset`, which has checked the files. */
  constructor(directory: string, manifest: Manifest, sha256: string) {
    this.directory = directory;
    this.manifest = manifest;
    this.sha256 = sha256;
    const tokenizerPath = join(directory, manifest.tokenizer.file);
    this.tokenizer = tokenizerFromJson(readWhole(tokenizerPath, REMEDY).toString('utf8'), tokenizerPath);
    this.tokenKinds = tokenKindsOf(this.tokenizer);
    this.#documentLengths = readDocumentLengths(directory, manifest);
    let firstToken = 0;
    for (const { file, tokens } of manifest.shards) {
      const path = join(directory, file);
      this.#shards.push({ path, descriptor: openForReading(path), firstToken, tokens });
      firstToken += tokens;
    }
    if (this.tokenizer.vocabSize !== manifest.vocabSize) {
      this.close();
      throw corrupt(
        tokenizerPath,
        `has ${this.tokenizer.vocabSize} tokens, the manifest says ${manifest.vocabSize}`,
      );
    }
  }

  get vocabSize(): number {
    return this.manifest.vocabSize;
  }

  /** Ids `first .. first + count - 1` of the data set's tokens, read at once; they may span shards. */
  readTokens(first: number, count: number): Int32Array {
    assert(
      first >= 0 && count >= 0 && first + count <= this.manifest.tokens,
      `tokens ${first}+${count} are out of range`,
    );
    const out = new Int32Array(count);
    for (let done = 0; done < count; ) {
      const shard = this.#shardOf(first + done);
      const from = first + done - shard.firstToken;
      const here = Math.min(count - done, shard.tokens - from);
      this.#readShard(shard, from, out.subarray(done, done + here));
      done += here;
    }
    return out;
  }

  /** The samples of at most `sequenceLength - 2` tokens; the first call for a length reads all tokens once. */
  samplesFor(sequenceLength: number): SampleIndex {
    let index = this.#sampleIndexes.get(sequenceLength);
    if (index === undefined) {
      index = indexSamples(this.documents(), sequenceLength - 2, this.tokenKinds);
      if (index.count === 0)
        throw corrupt(join(this.directory, MANIFEST_FILE), 'the data set holds no tokens');
      this.#sampleIndexes.set(sequenceLength, index);
    }
    return index;
  }

  /** Each document's ids in order, without `<s>` and `</s>`. */
  *documents(): Generator<Int32Array> {
    let first = 0;
    let page: Int32Array = new Int32Array(0);
    let pageFirst = 0;
    for (const length of this.#documentLengths) {
      if (first + length > pageFirst + page.length) {
        const count = Math.max(length, Math.min(SCAN_TOKENS, this.manifest.tokens - first));
        page = this.readTokens(first, count);
        pageFirst = first;
      }
      yield page.subarray(first - pageFirst, first - pageFirst + length);
      first += length;
    }
  }

  /** Idempotent. */
  close(): void {
    for (const { descriptor } of this.#shards.splice(0)) closeSync(descriptor);
  }

  #shardOf(token: number): OpenShard {
    let low = 0;
    let high = this.#shards.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#shards[middle]!.firstToken <= token) low = middle;
      else high = middle - 1;
    }
    const shard = this.#shards[low];
    assert(shard !== undefined, 'the data set is closed');
    return shard;
  }

  #readShard(shard: OpenShard, from: number, out: Int32Array): void {
    const { idBytes, vocabSize } = this.manifest;
    const packed = idBytes === 2 ? new Uint16Array(out.length) : new Uint32Array(out.length);
    const bytes = new Uint8Array(packed.buffer);
    for (let read = 0; read < bytes.length; ) {
      const count = readSync(shard.descriptor, bytes, read, bytes.length - read, from * idBytes + read);
      if (count === 0)
        throw corrupt(shard.path, `ends at byte ${from * idBytes + read}, before the manifest says`);
      read += count;
    }
    for (let index = 0; index < out.length; index += 1) {
      const id = packed[index]!;
      if (id >= vocabSize) {
        throw corrupt(
          shard.path,
          `has id ${id} at byte ${(from + index) * idBytes}, but the vocabulary has ${vocabSize}`,
        );
      }
      out[index] = id;
    }
  }
}

/** Tokens read at a time when all documents are gone through. */
const SCAN_TOKENS = 1024 * 1024;
const REMEDY = 'fetch the file again, or prepare the data set again';

function readDocumentLengths(directory: string, manifest: Manifest): Uint32Array {
  const path = join(directory, manifest.documentIndex.file);
  const bytes = readWhole(path, REMEDY);
  if (bytes.length !== manifest.documents * 4) {
    throw corrupt(path, `has ${bytes.length} bytes for ${manifest.documents} documents of 4`);
  }
  const lengths = new Uint32Array(manifest.documents);
  new Uint8Array(lengths.buffer).set(bytes);
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  if (tokens !== manifest.tokens)
    throw corrupt(path, `adds up to ${tokens} tokens, the manifest says ${manifest.tokens}`);
  return lengths;
}

function checkSize(directory: string, { file, bytes }: FileEntry): void {
  const path = join(directory, file);
  const descriptor = openForReading(path);
  try {
    const size = fstatSync(descriptor).size;
    if (size < bytes) throw corrupt(path, `is cut short: it ends at byte ${size} of ${bytes}`);
    if (size > bytes) throw corrupt(path, `has ${size} bytes, ${size - bytes} more than the manifest says`);
  } finally {
    closeSync(descriptor);
  }
}

async function checkHash(directory: string, { file, sha256, bytes }: FileEntry): Promise<void> {
  const path = join(directory, file);
  const hash = createHash('sha256');
  const stream: AsyncIterable<Buffer> = createReadStream(path, { highWaterMark: 1024 * 1024 });
  for await (const chunk of stream) hash.update(chunk);
  const found = hash.digest('hex');
  if (found !== sha256) {
    throw corrupt(path, `has SHA-256 ${found} over its ${bytes} bytes, the manifest says ${sha256}`);
  }
}

function readWhole(path: string, remedy: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw missing(path, remedy, cause);
  }
}

function openForReading(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw missing(path, REMEDY, cause);
  }
}

function missing(path: string, remedy: string, cause: unknown): LockstepError {
  const what = systemCodeOf(cause) === 'ENOENT' ? 'does not exist' : `cannot be read (${messageOf(cause)})`;
  return new LockstepError('DATA_MISSING', `${path} ${what}: ${remedy}`, { context: { file: path }, cause });
}

function corrupt(path: string, what: string): LockstepError {
  return new LockstepError('DATA_CORRUPT', `${path} ${what}: ${REMEDY}`, { context: { file: path } });
}
