/**
 * A data set whose files lie elsewhere: blocks are fetched when a sample needs them, compared with their SHA-256, and
 * kept in a cache on disk. The manifest is compared with the identity that the run names, and every digest comes from
 * whoever holds the files, so that a micro-batch is the same to the bit as one read from a folder.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { LockstepError } from '../base/index.ts';
import { BlockCache } from './block-cache.ts';
import {
  type BlockSource,
  blockDigest,
  DATA_BLOCK_BYTES,
  DIGEST_BYTES,
  sampleCountsOf,
  sampleTableFile,
  TABLE_HEADER_BYTES,
} from './data-blocks.ts';
import { MANIFEST_FILE, type Manifest, parseManifest } from './manifest.ts';
import type { SampleSpec } from './samples.ts';
import { type TokenKinds, tokenKindsOf } from './token-kinds.ts';
import { type BpeTokenizer, tokenizerFromJson } from './tokenizer/index.ts';
import { requireSamples, Samples, TokenReader, type TrainingData } from './training-data.ts';

/** How often a block is asked for anew when it does not match its digest. */
const TRIES = 3;

export interface RemoteDatasetOptions {
  readonly source: BlockSource;
  /** What the source is called in messages: an address. */
  readonly place: string;
  /** SHA-256 (hex) of the manifest. */
  readonly sha256: string;
  /** Folder for the blocks of all data sets; each has a folder of its own in it. */
  readonly cacheDir: string;
  /** Hears once why blocks cannot be kept, if so. */
  readonly onCacheTrouble: (reason: string) => void;
}

/** Throws DATA_CORRUPT when what the source gives is not what it says, CONFIG_MISMATCH for another data set's manifest. */
export async function openRemoteDataset(options: RemoteDatasetOptions): Promise<RemoteDataset> {
  const { source, place, sha256, cacheDir, onCacheTrouble } = options;
  const cache = new BlockCache(join(cacheDir, sha256), onCacheTrouble);
  const blocks = new VerifiedBlocks(source, place, cache);
  try {
    const manifestBytes = await blocks.readWhole(MANIFEST_FILE);
    const found = createHash('sha256').update(manifestBytes).digest('hex');
    if (found !== sha256) {
      throw new LockstepError(
        'CONFIG_MISMATCH',
        `${place}: its data set has SHA-256 ${found}, but the run was started with ${sha256}: give the coordinator the run's data set`,
      );
    }
    const manifest = parseManifest(Buffer.from(manifestBytes).toString('utf8'), `${place}/${MANIFEST_FILE}`);
    const { file } = manifest.tokenizer;
    const text = Buffer.from(await blocks.readWhole(file)).toString('utf8');
    return new RemoteDataset(manifest, sha256, tokenizerFromJson(text, `${place}/${file}`), blocks, place);
  } catch (error) {
    blocks.close();
    throw error;
  }
}

export class RemoteDataset implements TrainingData {
  readonly manifest: Manifest;
  readonly sha256: string;
  readonly tokenizer: BpeTokenizer;
  readonly tokenKinds: TokenKinds;
  readonly #blocks: VerifiedBlocks;
  readonly #tokens: TokenReader;
  readonly #samples = new Map<string, Promise<Samples>>();

  /** Use `openRemoteDataset`. */
  constructor(
    manifest: Manifest,
    sha256: string,
    tokenizer: BpeTokenizer,
    blocks: VerifiedBlocks,
    place: string,
  ) {
    this.manifest = manifest;
    this.sha256 = sha256;
    this.tokenizer = tokenizer;
    this.tokenKinds = tokenKindsOf(tokenizer);
    this.#blocks = blocks;
    this.#tokens = new TokenReader(manifest, place, (file, offset, length) =>
      blocks.read(file, offset, length),
    );
  }

  samples(spec: SampleSpec): Promise<Samples> {
    const file = sampleTableFile(spec);
    let samples = this.#samples.get(file);
    if (samples === undefined) {
      samples = this.#openSamples(file, spec);
      this.#samples.set(file, samples);
    }
    return samples;
  }

  close(): void {
    this.#blocks.close();
  }

  async #openSamples(file: string, spec: SampleSpec): Promise<Samples> {
    const counts = sampleCountsOf(await this.#blocks.read(file, 0, TABLE_HEADER_BYTES));
    requireSamples(counts, spec);
    const read = (offset: number, length: number) =>
      this.#blocks.read(file, TABLE_HEADER_BYTES + offset, length);
    return new Samples(counts, read, this.#tokens);
  }
}

/** Files by range, out of blocks that match their digests. Concurrent calls are safe; a block is fetched once. */
class VerifiedBlocks {
  readonly #source: BlockSource;
  readonly #place: string;
  readonly #cache: BlockCache;
  readonly #digests = new Map<string, Promise<Uint8Array>>();
  readonly #underWay = new Map<string, Promise<Uint8Array>>();

  constructor(source: BlockSource, place: string, cache: BlockCache) {
    this.#source = source;
    this.#place = place;
    this.#cache = cache;
  }

  async readWhole(file: string): Promise<Uint8Array> {
    const count = (await this.#digestsOf(file)).length / DIGEST_BYTES;
    const blocks = Array.from({ length: count }, (_, index) => this.#block(file, index));
    return Buffer.concat(await Promise.all(blocks));
  }

  async read(file: string, offset: number, length: number): Promise<Uint8Array> {
    const first = Math.floor(offset / DATA_BLOCK_BYTES);
    const last = Math.floor((offset + Math.max(1, length) - 1) / DATA_BLOCK_BYTES);
    const blocks = Array.from({ length: last - first + 1 }, (_, index) => this.#block(file, first + index));
    const bytes = Buffer.concat(await Promise.all(blocks));
    const start = offset - first * DATA_BLOCK_BYTES;
    if (bytes.length >= start + length) return bytes.subarray(start, start + length);
    throw this.#corrupt(
      `${file} ends at byte ${first * DATA_BLOCK_BYTES + bytes.length}, before the manifest says`,
    );
  }

  close(): void {
    this.#cache.close();
  }

  #block(file: string, index: number): Promise<Uint8Array> {
    const key = `${index} ${file}`;
    const underWay = this.#underWay.get(key);
    if (underWay !== undefined) return underWay;
    const block = this.#verifiedBlock(file, index).finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, block);
    return block;
  }

  async #verifiedBlock(file: string, index: number): Promise<Uint8Array> {
    const digests = await this.#digestsOf(file);
    const expected = digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
    if (expected.length < DIGEST_BYTES) throw this.#corrupt(`${file} has no block ${index}`);
    const kept = this.#cache.read(file, index);
    if (blockDigest(kept).equals(expected)) return kept;
    for (let left = TRIES; left > 0; left -= 1) {
      const block = await this.#source.block(file, index);
      if (!blockDigest(block).equals(expected)) continue;
      this.#cache.write(file, index, block);
      return block;
    }
    throw this.#corrupt(`block ${index} of ${file} does not match its SHA-256, ${TRIES} times in a row`);
  }

  #digestsOf(file: string): Promise<Uint8Array> {
    let digests = this.#digests.get(file);
    if (digests === undefined) {
      digests = this.#source.digests(file);
      this.#digests.set(file, digests);
    }
    return digests;
  }

  #corrupt(what: string): LockstepError {
    return new LockstepError(
      'DATA_CORRUPT',
      `${this.#place}: ${what}: check the data set on the coordinator's host with \`lockstep inspect\``,
    );
  }
}
