/**
 * Parts of encoded documents: for each a frame of two u32 (bytes of its description, number of its ids), the
 * description as JSON and the ids as u32, all little-endian. The last frame has no ids: it is the
 * summary, with the number of those before it, so that a part that lost its end is not taken for a whole one.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { LockstepError } from '../../base/index.ts';
import type { ArticleSample } from '../article-samples.ts';
import type { PartSummary } from './document-parts.ts';
import type { UnitRef, WorkFolder } from './work-folder.ts';

export interface EncodedDocument {
  readonly id: string;
  readonly title: string;
  /** See `CleanDocument`. */
  readonly digest: string;
  /** UTF-16 units of its text, and pieces of markup left in it. */
  readonly characters: number;
  readonly leftovers: number;
  readonly hash: number;
  readonly sample: ArticleSample | null;
  /** Without `<s>` and `</s>`. */
  readonly ids: Uint32Array;
}

const READ_BYTES = 1024 * 1024;
const FRAME_BYTES = 8;

export async function writeEncoded(
  work: WorkFolder,
  ref: UnitRef,
  documents: AsyncGenerator<EncodedDocument, PartSummary>,
): Promise<PartSummary> {
  const part = work.createPart('encoded', ref);
  const frame = (description: unknown, ids: Uint32Array) => {
    const text = Buffer.from(JSON.stringify(description));
    part.append(new Uint8Array(Uint32Array.of(text.length, ids.length).buffer));
    part.append(text);
    part.append(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
  };
  try {
    for (;;) {
      const next = await documents.next();
      if (next.done === true) {
        frame({ summary: next.value }, new Uint32Array(0));
        part.commit();
        return next.value;
      }
      const { ids, ...description } = next.value;
      frame(description, ids);
    }
  } finally {
    part.abort();
  }
}

/** The documents of a part, in order, then its summary. Throws DATA_CORRUPT for a part that is not whole. */
export function* readEncoded(work: WorkFolder, ref: UnitRef): Generator<EncodedDocument, PartSummary> {
  const path = work.partPath('encoded', ref);
  const reader = new BufferedReader(path);
  try {
    for (let count = 0; ; count += 1) {
      const sizes = reader.take(FRAME_BYTES);
      const text = reader.take(sizes.readUInt32LE(0)).toString('utf8');
      const ids = reader.take(sizes.readUInt32LE(4) * 4);
      const description = JSON.parse(text) as
        | Omit<EncodedDocument, 'ids'>
        | { readonly summary: PartSummary };
      if ('summary' in description) {
        if (description.summary.documents !== count) throw notWhole(path);
        return description.summary;
      }
      const aligned = new Uint32Array(ids.length / 4);
      new Uint8Array(aligned.buffer).set(ids);
      yield { ...description, ids: aligned };
    }
  } finally {
    reader.close();
  }
}

/** Reads a file front to back in large steps. */
class BufferedReader {
  readonly #path: string;
  readonly #descriptor: number;
  #buffer: Buffer = Buffer.alloc(0);

  constructor(path: string) {
    this.#path = path;
    this.#descriptor = openSync(path, 'r');
  }

  /** The next `count` bytes, valid until the next call. */
  take(count: number): Buffer {
    if (this.#buffer.length < count) this.#fill(count);
    const taken = this.#buffer.subarray(0, count);
    this.#buffer = this.#buffer.subarray(count);
    return taken;
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #fill(count: number): void {
    const larger = Buffer.alloc(Math.max(count, READ_BYTES));
    let filled = this.#buffer.copy(larger);
    while (filled < count) {
      const read = readSync(this.#descriptor, larger, filled, larger.length - filled, null);
      if (read === 0) throw notWhole(this.#path);
      filled += read;
    }
    this.#buffer = larger.subarray(0, filled);
  }
}

function notWhole(path: string): LockstepError {
  return new LockstepError(
    'DATA_CORRUPT',
    `${path} is not whole: delete it and run \`lockstep prepare\` again`,
  );
}
