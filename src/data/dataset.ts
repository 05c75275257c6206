/**
 * A prepared data set, opened for reading: manifest and sizes are always checked, hashes unless told
 * not to. Tokens are read by position from the shards, so that memory does not grow with them; the
 * operating system's page cache is the only cache.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { LockstepError, messageOf, systemCodeOf } from '../base/index.ts';
import { type ArticleSample, parseArticleSamples } from './article-samples.ts';
import { type FileEntry, filesOf, MANIFEST_FILE, type Manifest, parseManifest } from './manifest.ts';
import { requireUnpacked } from './pair-settings.ts';
import { type SampleSpec, type SampleTable, SampleTableBuilder } from './samples.ts';
import { type TokenKinds, tokenKindsOf } from './token-kinds.ts';
import { type BpeTokenizer, tokenizerFromJson } from './tokenizer/index.ts';
import { requireSamples, Samples, TokenReader, type TrainingData } from './training-data.ts';

export interface OpenDatasetOptions {
  /** False skips the SHA-256 of shards and index, a second for each half gigabyte. Default true. */
  readonly verifyHashes?: boolean;
  /** Refuses a data set whose manifest has another SHA-256 (hex). */
  readonly expectedSha256?: string;
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
  for (const file of filesOf(manifest)) {
    checkSize(directory, file);
    // The tokenizer is small, and a wrong one gives wrong text without a sign.
    if (verifyHashes || file === manifest.tokenizer) await checkHash(directory, file);
  }
  return new Dataset(directory, manifest, sha256);
}

export class Dataset implements TrainingData {
  readonly directory: string;
  readonly manifest: Manifest;
  readonly sha256: string;
  readonly tokenizer: BpeTokenizer;
  readonly tokenKinds: TokenKinds;
  readonly #documentLengths: Uint32Array;
  readonly #documentHashes: Uint32Array;
  readonly #tokens: TokenReader;
  /** By shard file. */
  readonly #descriptors = new Map<string, number>();
  readonly #samples = new Map<string, Promise<Samples>>();

  /** Use `openDataset`, which has checked the files. */
  constructor(directory: string, manifest: Manifest, sha256: string) {
    this.directory = directory;
    this.manifest = manifest;
    this.sha256 = sha256;
    const tokenizerPath = join(directory, manifest.tokenizer.file);
    this.tokenizer = tokenizerFromJson(readWhole(tokenizerPath, REMEDY).toString('utf8'), tokenizerPath);
    if (this.tokenizer.vocabSize !== manifest.vocabSize) {
      throw corrupt(
        tokenizerPath,
        `has ${this.tokenizer.vocabSize} tokens, the manifest says ${manifest.vocabSize}`,
      );
    }
    this.tokenKinds = tokenKindsOf(this.tokenizer);
    this.#documentLengths = readNumbers(directory, manifest.documentIndex, manifest.documents);
    this.#documentHashes = readNumbers(directory, manifest.documentHashes, manifest.documents);
    const tokens = this.#documentLengths.reduce((sum, length) => sum + length, 0);
    if (tokens !== manifest.tokens) {
      const path = join(directory, manifest.documentIndex.file);
      throw corrupt(path, `adds up to ${tokens} tokens, the manifest says ${manifest.tokens}`);
    }
    this.#tokens = new TokenReader(manifest, directory, (file, offset, length) =>
      this.#readBytes(file, offset, length),
    );
  }

  get vocabSize(): number {
    return this.manifest.vocabSize;
  }

  /** Ids `first .. first + count - 1` of the data set's tokens; they may span shards. */
  readTokens(first: number, count: number): Promise<Int32Array> {
    return this.#tokens.read(first, count);
  }

  samples(spec: SampleSpec): Promise<Samples> {
    const key = JSON.stringify(spec);
    let samples = this.#samples.get(key);
    if (samples === undefined) {
      samples = this.sampleTable(spec).then((table) => {
        const read = (offset: number, length: number) => table.bytes.subarray(offset, offset + length);
        return new Samples(table, read, this.#tokens);
      });
      this.#samples.set(key, samples);
    }
    return samples;
  }

  /** The table of the samples that `spec` describes; reads all tokens once, with turns of the event loop between. */
  async sampleTable(spec: SampleSpec): Promise<SampleTable> {
    requireUnpacked(this.manifest, spec);
    const builder = new SampleTableBuilder(spec, this.tokenKinds, this.manifest.pairs !== undefined);
    for await (const { ids, hash } of this.documents()) builder.add(ids, hash);
    const table = builder.finish();
    requireSamples(table, spec);
    return table;
  }

  /** Each document's ids in order, without `<s>` and `</s>`, and its hash. */
  async *documents(): AsyncGenerator<{ ids: Int32Array; hash: number }> {
    let first = 0;
    let page: Int32Array = new Int32Array(0);
    let pageFirst = 0;
    for (const [index, length] of this.#documentLengths.entries()) {
      if (first + length > pageFirst + page.length) {
        const count = Math.max(length, Math.min(SCAN_TOKENS, this.manifest.tokens - first));
        page = await this.readTokens(first, count);
        await new Promise((resolve) => setImmediate(resolve));
        pageFirst = first;
      }
      const ids = page.subarray(first - pageFirst, first - pageFirst + length);
      yield { ids, hash: this.#documentHashes[index]! };
      first += length;
    }
  }

  /** How many tokens each document has. */
  get documentLengths(): Uint32Array {
    return this.#documentLengths;
  }

  /** What decides each document's split. */
  get documentHashes(): Uint32Array {
    return this.#documentHashes;
  }

  /** Articles before and after cleaning. Throws DATA_CORRUPT. */
  articleSamples(): ArticleSample[] {
    const path = join(this.directory, this.manifest.articleSamples.file);
    return parseArticleSamples(readWhole(path, REMEDY).toString('utf8'), path);
  }

  close(): void {
    for (const descriptor of this.#descriptors.values()) closeSync(descriptor);
    this.#descriptors.clear();
  }

  #readBytes(file: string, offset: number, length: number): Uint8Array {
    const path = join(this.directory, file);
    const descriptor = this.#descriptors.get(file) ?? openForReading(path);
    this.#descriptors.set(file, descriptor);
    const bytes = new Uint8Array(length);
    for (let read = 0; read < length; ) {
      const count = readSync(descriptor, bytes, read, length - read, offset + read);
      if (count === 0) throw corrupt(path, `ends at byte ${offset + read}, before the manifest says`);
      read += count;
    }
    return bytes;
  }
}

/** Tokens read at a time when all documents are gone through. */
const SCAN_TOKENS = 1024 * 1024;
const REMEDY = 'fetch the file again, or prepare the data set again';

/** A file of one u32 for each document. */
function readNumbers(directory: string, { file }: FileEntry, documents: number): Uint32Array {
  const path = join(directory, file);
  const bytes = readWhole(path, REMEDY);
  if (bytes.length !== documents * 4) {
    throw corrupt(path, `has ${bytes.length} bytes for ${documents} documents of 4`);
  }
  const numbers = new Uint32Array(documents);
  new Uint8Array(numbers.buffer).set(bytes);
  return numbers;
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
