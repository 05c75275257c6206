/**
 * What a rank sends in one attempt at a reduction: a header alone where the peer can read this worker's
 * memory and the floats lie there, and header and floats through the socket to all others. What was summed
 * in bfloat16 goes through sockets packed.
 */
import { assert } from '../base/index.ts';
import type { AllReduceEffect } from '../collective/index.ts';
import { combineDigests, type Kernels, numBlocks, type RangeValues } from '../kernels/index.ts';
import type { GradientMemory, PeerMemories, PeerSender } from '../net/index.ts';
import type { GradientHeader } from '../protocol/index.ts';
import type { ReduceOrder } from './lifecycle-state.ts';
import type { SharedFragment } from './thread-messages.ts';

type Sent<Type> = Omit<Extract<AllReduceEffect, { type: Type }>, 'type'>;
type HeaderPart = Pick<GradientHeader, 'type' | 'first' | 'count' | 'offset' | 'length'>;

/** What a header tells of its floats, and the floats if they travel. */
interface Written extends Pick<GradientHeader, 'digest' | 'memoryAt'> {
  readonly values: RangeValues | null;
}

export interface OutgoingContext {
  readonly order: ReduceOrder;
  readonly incarnation: string;
  /** In slot order. */
  readonly fragments: readonly SharedFragment[];
  readonly reduced: Float32Array;
  readonly kernels: Pick<Kernels, 'sumTree' | 'gradientPrecision'>;
  /** Where fragments and reduced vector may lie for peers to read. */
  readonly memory: GradientMemory;
  readonly peerMemories: PeerMemories;
  senderTo(endpoint: string): PeerSender;
}

export class OutgoingFrames {
  readonly #context: OutgoingContext;
  readonly #rank: number;
  /** By rank. */
  readonly #readsMemory: boolean[];
  /** Finished pieces by offset: each is packed once for all peers. */
  readonly #packedPieces = new Map<number, RangeValues>();

  constructor(context: OutgoingContext, rank: number) {
    const { order, peerMemories } = context;
    this.#context = context;
    this.#rank = rank;
    this.#readsMemory = order.members.map((member, other) => other !== rank && peerMemories.isReadBy(member));
  }

  sendFragment({ to, node, offset, length }: Sent<'sendFragment'>): void {
    const { fragments } = this.#context;
    const held = fragments.find(({ first }) => first === node.first);
    assert(held !== undefined, `the fragment that starts at slot ${node.first} is held`);
    const values = held.value.subarray(offset, offset + length);
    const memoryAt = this.#positionFor(to, values);
    this.#send(to, { type: 'fragment', ...node, offset, length }, () => {
      // In memory it is as safe as where it was computed.
      if (memoryAt !== null) return { digest: null, memoryAt, values: null };
      const blockDigests = new BigUint64Array(numBlocks(length));
      const packed = this.#packed(values, blockDigests);
      return { digest: combineDigests(blockDigests), memoryAt, values: packed };
    });
  }

  sendReduced({ to, offset, length }: Sent<'sendReduced'>, digest: string): void {
    const { order, reduced } = this.#context;
    const root = { first: 0, count: order.slotOwners.length };
    const values = reduced.subarray(offset, offset + length);
    const memoryAt = this.#positionFor(to, values);
    this.#send(to, { type: 'reduced', ...root, offset, length }, () => {
      if (memoryAt !== null) return { digest, memoryAt, values: null };
      const packed = this.#packedPieces.get(offset) ?? this.#packed(values, null);
      this.#packedPieces.set(offset, packed);
      return { digest, memoryAt, values: packed };
    });
  }

  /** Asks the sender of a frame for its floats, as they cannot be read where they are. */
  askForFloats(header: GradientHeader): void {
    const { first, count, offset, length, memoryAt } = header;
    const type = header.type === 'fragment' ? 'fragmentUnread' : 'reducedUnread';
    const part = { type, first, count, offset, length } as const;
    this.#send(header.rank, part, () => ({ digest: null, memoryAt, values: null }));
  }

  /** From here on this rank is sent the floats themselves, in later attempts too. */
  stopSharingWith(rank: number): void {
    this.#readsMemory[rank] = false;
    this.#context.peerMemories.setBlind(this.#context.order.members[rank]!);
  }

  /** Where this rank finds the values in this worker's memory; null if it has to be sent them. */
  #positionFor(to: number, values: Float32Array): number | null {
    return this.#readsMemory[to] ? this.#context.memory.positionOf(values) : null;
  }

  /** The values as they travel, and their blocks' digests where somebody asks, in one pass. */
  #packed(values: Float32Array, blockDigests: BigUint64Array | null): RangeValues {
    const { kernels } = this.#context;
    const packed = kernels.gradientPrecision === 'bfloat16' ? new Uint16Array(values.length) : null;
    const measures = { blockDigests, blockSums: null, firstBlock: 0 };
    if (packed !== null || blockDigests !== null) {
      kernels.sumTree({ source: values, blockDigests: null }, packed, measures);
    }
    return packed ?? values;
  }

  /** `write` is called when the frame's turn comes. */
  #send(to: number, part: HeaderPart, write: () => Written): void {
    const { order, incarnation, senderTo } = this.#context;
    const { protocol, run, generation, step, attempt } = order;
    const { type, first, count, offset, length } = part;
    senderTo(order.members[to]!.peerEndpoint).send(() => {
      const { values, digest, memoryAt } = write();
      const precision = values instanceof Uint16Array ? 'bfloat16' : 'float32';
      // Field by field: joining objects takes as long as packing what comes of it.
      const header: GradientHeader = {
        protocol,
        run,
        incarnation,
        generation,
        step,
        attempt,
        rank: this.#rank,
        type,
        first,
        count,
        offset,
        length,
        precision,
        digest,
        memoryAt,
      };
      return { header, payload: values === null ? null : bytesOf(values) };
    });
  }
}

function bytesOf(values: RangeValues): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
