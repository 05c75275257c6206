/**
 * A data set as training sees it, wherever its files lie: samples by number, each some parts of documents. What is
 * common to a data set in a folder (dataset.ts) and one that is fetched from the coordinator (remote-dataset.ts)
 * stands here; they differ in where bytes come from.
 */
import { assert, LockstepError } from '../base/index.ts';
import type { Manifest } from './manifest.ts';
import { partsOfSample, type SampleCounts, type SampleSpec, type TokenRange } from './samples.ts';
import type { TokenKinds } from './token-kinds.ts';
import type { BpeTokenizer } from './tokenizer/index.ts';

export interface TrainingData {
  readonly manifest: Manifest;
  /** SHA-256 (hex) of the manifest: the data set's identity. */
  readonly sha256: string;
  readonly tokenizer: BpeTokenizer;
  readonly tokenKinds: TokenKinds;
  /** The samples that `spec` describes; made once. Throws CONFIG_INVALID when there are none. */
  samples(spec: SampleSpec): Promise<Samples>;
  /** Idempotent. */
  close(): void;
}

/** `length` bytes of a file of the data set from `offset`; they are within the file. */
export type ReadBytes = (file: string, offset: number, length: number) => Promise<Uint8Array> | Uint8Array;

/** Samples by number, 0 .. count-1. Concurrent calls are safe. */
export class Samples {
  readonly count: number;
  readonly #counts: SampleCounts;
  readonly #readTable: (offset: number, length: number) => Promise<Uint8Array> | Uint8Array;
  readonly #tokens: TokenReader;

  constructor(
    counts: SampleCounts,
    readTable: (offset: number, length: number) => Promise<Uint8Array> | Uint8Array,
    tokens: TokenReader,
  ) {
    this.count = counts.samples;
    this.#counts = counts;
    this.#readTable = readTable;
    this.#tokens = tokens;
  }

  /** Where the sample's parts lie among the data set's tokens. */
  places(sample: number): Promise<TokenRange[]> {
    return partsOfSample(this.#counts, sample, this.#readTable);
  }

  /** The ids of the sample's parts, without `<s>` and `</s>`. */
  async read(sample: number): Promise<Int32Array[]> {
    const places = await this.places(sample);
    return Promise.all(places.map(({ first, count }) => this.#tokens.read(first, count)));
  }
}

/** Reads tokens by their number in the data set, whatever shards they lie in. */
export class TokenReader {
  readonly #manifest: Manifest;
  readonly #readBytes: ReadBytes;
  readonly #place: string;
  /** The data set's number of each shard's first token. */
  readonly #firstTokens: readonly number[];

  /** `place` says in errors where the files lie: a folder or an address. */
  constructor(manifest: Manifest, place: string, readBytes: ReadBytes) {
    this.#manifest = manifest;
    this.#place = place;
    this.#readBytes = readBytes;
    let first = 0;
    this.#firstTokens = manifest.shards.map(({ tokens }) => {
      const begin = first;
      first += tokens;
      return begin;
    });
  }

  /** Ids `first .. first + count - 1`; they may span shards. Throws DATA_CORRUPT for an id outside the vocabulary. */
  async read(first: number, count: number): Promise<Int32Array> {
    assert(
      first >= 0 && count >= 0 && first + count <= this.#manifest.tokens,
      `tokens ${first}+${count} are out of range`,
    );
    const out = new Int32Array(count);
    for (let done = 0; done < count; ) {
      const index = this.#shardOf(first + done);
      const shard = this.#manifest.shards[index]!;
      const from = first + done - this.#firstTokens[index]!;
      const here = Math.min(count - done, shard.tokens - from);
      await this.#readShard(shard.file, from, out.subarray(done, done + here));
      done += here;
    }
    return out;
  }

  /** The last shard that begins at or before the token. */
  #shardOf(token: number): number {
    let low = 0;
    let high = this.#firstTokens.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#firstTokens[middle]! <= token) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  async #readShard(file: string, from: number, out: Int32Array): Promise<void> {
    const { idBytes, vocabSize } = this.#manifest;
    const bytes = await this.#readBytes(file, from * idBytes, out.length * idBytes);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let index = 0; index < out.length; index += 1) {
      const id = idBytes === 2 ? view.getUint16(index * 2, true) : view.getUint32(index * 4, true);
      if (id >= vocabSize) {
        throw new LockstepError(
          'DATA_CORRUPT',
          `${this.#place}/${file} has id ${id} at byte ${(from + index) * idBytes}, but the vocabulary has ${vocabSize}: prepare the data set again`,
          { context: { file } },
        );
      }
      out[index] = id;
    }
  }
}

/** Throws CONFIG_INVALID when a split has no samples to train on or to evaluate with. */
export function requireSamples(counts: SampleCounts, spec: SampleSpec): void {
  if (counts.samples > 0) return;
  throw new LockstepError(
    'CONFIG_INVALID',
    `data.validationShare is ${spec.validationShare}: it leaves no document for ${spec.split}; choose another share or more data`,
    { context: { field: 'data.validationShare', value: spec.validationShare, split: spec.split } },
  );
}
