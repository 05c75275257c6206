/**
 * A data set in blocks, for workers that do not have its files: each file is cut into blocks of a fixed size, and
 * the SHA-256 of every block is known before the block is asked for. Who holds the files checks them against the
 * manifest before it gives out digests, so that what a worker reads is what the manifest's own hash stands for.
 *
 *   manifest.json, tokenizer.json, tokens-NNNNN.bin, ...    as they lie in the folder
 *   samples-*.bin                                           the table of samples, made where the files are:
 *                                                           f64 samples, f64 parts, then the table (samples.ts)
 */
import { createHash } from 'node:crypto';
import type { SampleCounts, SampleSpec, SampleTable } from './samples.ts';

/** Samples are read in random order, about a kilobyte each: larger blocks would mostly carry what nobody asked for. */
export const DATA_BLOCK_BYTES = 16 * 1024;
export const DIGEST_BYTES = 32;
export const TABLE_HEADER_BYTES = 16;

/** Where blocks come from. */
export interface BlockSource {
  /** The SHA-256 of each block of the file, end to end. May take as long as reading the file. */
  digests(file: string): Promise<Uint8Array>;
  /** Block `index`: `DATA_BLOCK_BYTES` of the file, the last one what is left. */
  block(file: string, index: number): Promise<Uint8Array>;
}

export const blockDigest = (block: Uint8Array): Buffer => createHash('sha256').update(block).digest();

/** The name under which a table of samples is served and cached. */
export function sampleTableFile(spec: SampleSpec): string {
  const { sequenceLength, targetLength, packing, validationShare, split } = spec;
  const lengths = targetLength === null ? sequenceLength : `${sequenceLength}-${targetLength}`;
  return `samples-${lengths}-${packing}-${validationShare}-${split}.bin`;
}

export function sampleTableBytes({ samples, parts, bytes }: SampleTable): Uint8Array {
  const header = Buffer.alloc(TABLE_HEADER_BYTES);
  header.writeDoubleLE(samples, 0);
  header.writeDoubleLE(parts, 8);
  return Buffer.concat([header, bytes]);
}

export function sampleCountsOf(header: Uint8Array): SampleCounts {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  return { samples: view.getFloat64(0, true), parts: view.getFloat64(8, true) };
}
