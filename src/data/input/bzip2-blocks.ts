/**
 * Random access to a .bz2 file, of one stream or many: its blocks (at most 900 kB decompressed) begin at any bit,
 * each with a 48-bit magic number, and decompress independently. A scan finds them; a block in a stream
 * of its own is what any bzip2 program reads. So many readers share one file, and a damaged block costs
 * itself only. A magic number within compressed data by chance (once in 2^48 bits) would look like damage.
 * Format: https://github.com/dsnet/compress/blob/master/doc/bzip2-format.pdf
 */
import { type FileHandle, open } from 'node:fs/promises';
import { LockstepError } from '../../base/index.ts';
import { type ReaderContext, reportDamage } from './byte-source.ts';
import { startDecompressor } from './compression.ts';
import type { Piece } from './pieces.ts';

const BLOCK_MAGIC = 0x314159265359n;
const END_MAGIC = 0x177245385090n;
const MAGIC_BYTES = 6;
const HEADER = Buffer.from('BZh9');

/** From a block's magic number to what follows it, in bits of the file; or a whole stream, header and all. */
export type Bzip2Block = [startBit: number, endBit: number];

interface Pattern {
  readonly isBlock: boolean;
  readonly shift: number;
  /** The magic number as it lies in bytes at this shift, with a mask for the bits that are not its own. */
  readonly bytes: Uint8Array;
  readonly masks: Uint8Array;
}

const PATTERNS: readonly Pattern[] = [BLOCK_MAGIC, END_MAGIC].flatMap((magic) =>
  Array.from({ length: 8 }, (_, shift) => ({
    isBlock: magic === BLOCK_MAGIC,
    shift,
    bytes: bytesOf(magic << BigInt(8 - shift)),
    masks: bytesOf(((1n << 48n) - 1n) << BigInt(8 - shift)),
  })),
);

function bytesOf(value: bigint): Uint8Array {
  return Uint8Array.from({ length: MAGIC_BYTES + 1 }, (_, index) =>
    Number((value >> BigInt(8 * (MAGIC_BYTES - index))) & 0xffn),
  );
}

/** Which patterns have these two whole bytes as their second and third: one lookup rejects nearly all places. */
const PATTERNS_OF_PAIR = new Map<number, Pattern[]>();
const IS_CANDIDATE = new Uint8Array(0x10000);
for (const pattern of PATTERNS) {
  const pair = pattern.bytes[1]! * 256 + pattern.bytes[2]!;
  PATTERNS_OF_PAIR.set(pair, [...(PATTERNS_OF_PAIR.get(pair) ?? []), pattern]);
  IS_CANDIDATE[pair] = 1;
}

/** Takes a file's bytes in order and finds its blocks. */
export class Bzip2Scanner {
  #carry: Buffer = Buffer.alloc(0);
  /** Offset within the file of the carry's first byte. */
  #offset = 0;
  readonly #marks: { readonly bit: number; readonly isBlock: boolean }[] = [];

  push(chunk: Buffer): void {
    const bytes = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk]);
    const last = bytes.length - MAGIC_BYTES - 1;
    let pair = (bytes[0] ?? 0) * 256 + (bytes[1] ?? 0);
    for (let at = 0; at <= last; at += 1) {
      pair = ((pair << 8) | bytes[at + 2]!) & 0xffff;
      if (IS_CANDIDATE[pair] === 1) this.#look(bytes, at, pair);
    }
    const kept = Math.max(0, last + 1);
    this.#carry = Buffer.from(bytes.subarray(kept));
    this.#offset += kept;
  }

  /** All blocks, once every byte has been pushed. */
  finish(): Bzip2Block[] {
    // A magic number at the very end has no byte after it for the general pattern to look at.
    this.push(Buffer.alloc(1));
    const fileBits = (this.#offset + this.#carry.length - 1) * 8;
    return this.#marks.flatMap(({ bit, isBlock }, index) =>
      isBlock ? [[bit, this.#marks[index + 1]?.bit ?? fileBits] satisfies Bzip2Block] : [],
    );
  }

  #look(bytes: Buffer, at: number, pair: number): void {
    for (const { bytes: wanted, masks, shift, isBlock } of PATTERNS_OF_PAIR.get(pair) ?? []) {
      if (wanted.every((byte, index) => (bytes[at + index]! & masks[index]!) === byte)) {
        this.#marks.push({ bit: (this.#offset + at) * 8 + shift, isBlock });
      }
    }
  }
}

/**
 * Blocks `first` and on, decompressed one by one, owned up to block `end`. A damaged block is reported, or a gap when
 * the context allows it. Throws DATA_MISSING when the file cannot be read.
 */
export async function* piecesOfBlocks(
  context: ReaderContext,
  blocks: readonly Bzip2Block[],
  first: number,
  end: number,
): AsyncGenerator<Piece> {
  const handle = await open(context.file, 'r');
  try {
    for (let index = first; index < blocks.length; index += 1) {
      const block = blocks[index]!;
      const owned = index < end;
      const at = Math.floor(block[0] / 8);
      const result = await decompressBlock(handle, context.file, block);
      if (typeof result === 'string') {
        const detail = result === '' ? '' : ` (${result})`;
        reportDamage(context, `the bzip2 block at byte ${at} is cut short or damaged${detail}`, at, owned);
        yield { kind: 'gap' };
      } else {
        yield { kind: 'bytes', bytes: result, owned, offset: 0, within: ` of the bzip2 block at byte ${at}` };
      }
    }
  } finally {
    await handle.close();
  }
}

/** The block's bytes, or what is wrong with it. */
async function decompressBlock(
  handle: FileHandle,
  file: string,
  [startBit, endBit]: Readonly<Bzip2Block>,
): Promise<Buffer | string> {
  const firstByte = Math.floor(startBit / 8);
  const compressed = Buffer.alloc(Math.ceil(endBit / 8) - firstByte + 1);
  await handle.read(compressed, 0, compressed.length - 1, firstByte);
  const decompressor = startDecompressor(file);
  try {
    decompressor.input.on('error', () => {
      // It stops listening at damage, and says so on its way out.
    });
    const isStream = compressed.subarray(0, 3).equals(HEADER.subarray(0, 3));
    decompressor.input.end(
      isStream ? compressed.subarray(0, -1) : streamOf(compressed, startBit % 8, endBit - startBit),
    );
    const chunks: Buffer[] = [];
    for await (const chunk of decompressor.output) chunks.push(chunk);
    return (await decompressor.complaint()) ?? Buffer.concat(chunks);
  } finally {
    decompressor.stop();
  }
}

/** A stream of its own around `bits` bits of `source` that begin at `shift`: header, block, end magic, checksum. */
function streamOf(source: Buffer, shift: number, bits: number): Buffer {
  const whole = Math.floor(bits / 8);
  const rest = bits % 8;
  const out = Buffer.alloc(HEADER.length + whole + 1 + MAGIC_BYTES + 4);
  HEADER.copy(out);
  const byteAt = (index: number) =>
    ((source[index]! << shift) | ((source[index + 1] ?? 0) >> (8 - shift))) & 0xff;
  for (let index = 0; index < whole; index += 1) out[HEADER.length + index] = byteAt(index);
  // The block's checksum follows its magic; that of a stream of one block is the same.
  const checksum = out.subarray(HEADER.length + MAGIC_BYTES, HEADER.length + MAGIC_BYTES + 4);
  const tail = Buffer.alloc(MAGIC_BYTES + 4);
  tail.writeUIntBE(Number(END_MAGIC), 0, MAGIC_BYTES);
  checksum.copy(tail, MAGIC_BYTES);
  let held = rest === 0 ? 0 : byteAt(whole) & (0xff << (8 - rest));
  tail.forEach((byte, index) => {
    out[HEADER.length + whole + index] = (held | (byte >> rest)) & 0xff;
    held = (byte << (8 - rest)) & 0xff;
  });
  out[HEADER.length + whole + tail.length] = held;
  return out;
}

/** Throws DATA_CORRUPT for a file without a single block. */
export function assertIsBzip2(file: string, blocks: readonly Bzip2Block[]): void {
  if (blocks.length > 0) return;
  throw new LockstepError(
    'DATA_CORRUPT',
    `${file} holds no bzip2 block: it is not what its name says, or cut short; fetch it again`,
    { context: { file } },
  );
}
