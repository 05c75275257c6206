/**
 * Cuts the documents of a data set into parts of at most `sequenceLength - 2` tokens and puts the parts of one split
 * into samples: one part each, or packed, as many whole parts as `sequenceLength` holds with `<s>` in front
 * and `</s>` after each. Cuts fall after a sentence where one ends in the part's latter half, else before a word,
 * else anywhere. Two neighbouring parts of one document never fit into one sample, so that every `</s>` but a
 * sample's last is the end of a document.
 *
 * A data set of pairs has two documents for each sample, source and target. Neither is divided: what exceeds its limit
 * is cut off.
 *
 * The table of samples is flat bytes, little-endian, so that it is read here and from afar in the same way:
 *
 *   firstPart of each sample and of the end: (samples + 1) x u32, absent where sample i is part i
 *   each part: f64 first token of the data set, u32 tokens
 */
import { assert } from '../base/index.ts';
import type { DataConfig } from '../config/index.ts';
import { type Split, splitOf } from './split.ts';
import type { TokenKinds } from './token-kinds.ts';

/** What decides the samples of a data set. */
export interface SampleSpec {
  readonly sequenceLength: number;
  readonly targetLength: number | null;
  readonly packing: DataConfig['packing'];
  readonly validationShare: number;
  readonly split: Split;
}

export interface SampleCounts {
  readonly samples: number;
  readonly parts: number;
}

export interface SampleTable extends SampleCounts {
  readonly bytes: Uint8Array;
}

/** A run of the data set's tokens. */
export interface TokenRange {
  readonly first: number;
  readonly count: number;
}

const PART_BYTES = 12;

type LengthLimits = Pick<SampleSpec, 'sequenceLength' | 'targetLength'>;

/** Tokens of the longest source between `<s>` and `</s>`. */
export const sourceTokensMax = ({ sequenceLength }: LengthLimits): number => sequenceLength - 2;

/** Tokens of the longest target before `</s>`. */
export const targetTokensMax = ({ sequenceLength, targetLength }: LengthLimits): number =>
  (targetLength ?? sequenceLength) - 1;

export class SampleTableBuilder {
  readonly #spec: SampleSpec;
  readonly #kinds: TokenKinds;
  readonly #isPairs: boolean;
  /** Tokens of the longest part of a text: it is source and target at once. */
  readonly #capacity: number;
  readonly #parts = new GrowingBytes();
  readonly #firstParts = new GrowingBytes();
  #numParts = 0;
  #numSamples = 0;
  /** Tokens left in the last sample; 0 when it is closed. */
  #room = 0;
  /** The data set's number of the next document's first token. */
  #position = 0;

  constructor(spec: SampleSpec, kinds: TokenKinds, isPairs: boolean) {
    this.#spec = spec;
    this.#kinds = kinds;
    this.#isPairs = isPairs;
    this.#capacity = Math.min(sourceTokensMax(spec), targetTokensMax(spec));
    assert(this.#capacity >= 4, `a sample of ${this.#capacity} tokens holds no sentence`);
  }

  /** The next document of the data set, of whichever split. */
  add(ids: Int32Array, hash: number): void {
    if (splitOf(hash, this.#spec.validationShare) === this.#spec.split) {
      if (this.#isPairs) this.#addHalf(ids.length);
      else this.#addText(ids);
    }
    this.#position += ids.length;
  }

  finish(): SampleTable {
    const counts = { samples: this.#numSamples, parts: this.#numParts };
    if (counts.samples === counts.parts) return { ...counts, bytes: this.#parts.toBytes() };
    this.#firstParts.append(4).setUint32(0, this.#numParts, true);
    return { ...counts, bytes: Buffer.concat([this.#firstParts.toBytes(), this.#parts.toBytes()]) };
  }

  #addText(ids: Int32Array): void {
    const { sequenceLength, packing } = this.#spec;
    const roomMax = Math.min(sequenceLength - 1, targetTokensMax(this.#spec) + 1);
    for (let start = 0; start < ids.length; ) {
      const end = cutAfter(ids, start, this.#capacity, this.#kinds);
      const count = end - start;
      if (packing === 'documents' || count + 1 > this.#room) {
        this.#beginSample();
        this.#room = roomMax;
      }
      this.#room -= count + 1;
      this.#addPart(this.#position + start, count);
      start = end;
    }
  }

  /** A source, or the target that follows it: the two are of one split, for they have one hash. */
  #addHalf(tokens: number): void {
    const isSource = this.#numParts % 2 === 0;
    if (isSource) this.#beginSample();
    const limit = isSource ? sourceTokensMax(this.#spec) : targetTokensMax(this.#spec);
    this.#addPart(this.#position, Math.min(tokens, limit));
  }

  #beginSample(): void {
    if (this.#isPairs || this.#spec.packing === 'packed') {
      this.#firstParts.append(4).setUint32(0, this.#numParts, true);
    }
    this.#numSamples += 1;
  }

  #addPart(first: number, count: number): void {
    const part = this.#parts.append(PART_BYTES);
    part.setFloat64(0, first, true);
    part.setUint32(8, count, true);
    this.#numParts += 1;
  }
}

/** Where the parts of `sample` lie; `read` gives `length` bytes of the table from `offset`. */
export async function partsOfSample(
  counts: SampleCounts,
  sample: number,
  read: (offset: number, length: number) => Promise<Uint8Array> | Uint8Array,
): Promise<TokenRange[]> {
  assert(sample >= 0 && sample < counts.samples, `sample ${sample} is not below ${counts.samples}`);
  let firstPart = sample;
  let endPart = sample + 1;
  let partsAt = 0;
  if (counts.samples !== counts.parts) {
    const bounds = viewOf(await read(sample * 4, 8));
    firstPart = bounds.getUint32(0, true);
    endPart = bounds.getUint32(4, true);
    partsAt = (counts.samples + 1) * 4;
  }
  const count = endPart - firstPart;
  const rows = viewOf(await read(partsAt + firstPart * PART_BYTES, count * PART_BYTES));
  return Array.from({ length: count }, (_, index) => ({
    first: rows.getFloat64(index * PART_BYTES, true),
    count: rows.getUint32(index * PART_BYTES + 8, true),
  }));
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Where the part that begins at `start` ends (exclusive). */
function cutAfter(ids: Int32Array, start: number, capacity: number, kinds: TokenKinds): number {
  const left = ids.length - start;
  if (left <= capacity) return ids.length;
  // The rest of the document shall not be a scrap of a few tokens.
  const longest = start + Math.min(capacity, left - (capacity >> 3));
  const shortest = start + (capacity >> 1);
  for (let end = longest; end > shortest; end -= 1) {
    if (kinds.endsSentence[ids[end - 1]!] === 1 && kinds.endsSentence[ids[end]!] !== 1) return end;
  }
  for (let end = longest; end > shortest; end -= 1) {
    if (kinds.startsWord[ids[end]!] === 1) return end;
  }
  return longest;
}

/** Bytes that double: tables have millions of rows. */
class GrowingBytes {
  #bytes = new Uint8Array(64 * 1024);
  #length = 0;

  /** Room for `count` more bytes. */
  append(count: number): DataView {
    if (this.#length + count > this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    const start = this.#length;
    this.#length += count;
    return new DataView(this.#bytes.buffer, start, count);
  }

  toBytes(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}
