/**
 * What a rank sends in one attempt at a reduction: a header alone where the peer can read this worker's
 * memory and the floats lie there, and header and floats through the socket to all others. What was summed
 * in bfloat16 goes through sockets packed.
 */
import { assert, type SlotRange } from '../base/index.ts';
import type { VectorRange } from '../collective/index.ts';
import { combineDigests, type Kernels, numBlocks, type RangeValues, type SumTree } from '../kernels/index.ts';
import type { GradientMemory, PeerMemories, PeerSender } from '../net/index.ts';
import type { GradientHeader } from '../protocol/index.ts';
import type { ReduceOrder } from './lifecycle-state.ts';
import type { SendingRoom } from './sending-room.ts';
import type { SharedFragment } from './thread-messages.ts';

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
  readonly room: SendingRoom;
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
    const { order, room, peerMemories } = context;
    room.clear();
    this.#context = context;
    this.#rank = rank;
    this.#readsMemory = order.members.map((member, other) => other !== rank && peerMemories.isReadBy(member));
  }

  /** A fragment that this rank has computed. */
  sendFragment(to: number, node: SlotRange, { offset, length }: VectorRange): void {
    const { fragments } = this.#context;
    const held = fragments.find(({ first }) => first === node.first);
    assert(held !== undefined, `the fragment that starts at slot ${node.first} is held`);
    const values = held.value.subarray(offset, offset + length);
    const memoryAt = this.#positionFor(to, values);
    this.#send(to, 'fragment', node, { offset, length }, () => {
      // In memory it is as safe as where it was computed.
      if (memoryAt !== null) return { digest: null, memoryAt, values: null };
      const blockDigests = new BigUint64Array(numBlocks(length));
      const packed = this.#packed(values, blockDigests);
      return { digest: combineDigests(blockDigests), memoryAt, values: packed };
    });
  }

  /** The sum of fragments of this rank's host, which is taken now: what it is made of may go. */
  sendSum(to: number, node: SlotRange, { offset, length }: VectorRange, tree: SumTree): void {
    const { kernels, room } = this.#context;
    const blockDigests = new BigUint64Array(numBlocks(length));
    const values = room.take(length, kernels.gradientPrecision);
    kernels.sumTree(tree, values, { blockDigests, blockSums: null, firstBlock: 0 });
    const digest = combineDigests(blockDigests);
    this.#send(to, 'fragment', node, { offset, length }, () => ({ digest, memoryAt: null, values }));
  }

  sendReduced(to: number, { offset, length }: VectorRange, digest: string): void {
    const { order, reduced } = this.#context;
    const root = { first: 0, count: order.slotOwners.length };
    const values = reduced.subarray(offset, offset + length);
    const memoryAt = this.#positionFor(to, values);
    this.#send(to, 'reduced', root, { offset, length }, () => {
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
    const nothing = { digest: null, memoryAt, values: null };
    this.#send(header.rank, type, { first, count }, { offset, length }, () => nothing);
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
    const { kernels, room } = this.#context;
    const { gradientPrecision } = kernels;
    const packed = gradientPrecision === 'bfloat16' ? room.take(values.length, gradientPrecision) : null;
    const measures = { blockDigests, blockSums: null, firstBlock: 0 };
    if (packed !== null || blockDigests !== null) {
      kernels.sumTree({ source: values, blockDigests: null }, packed, measures);
    }
    return packed ?? values;
  }

  /** `write` is called when the frame's turn comes. */
  #send(
    to: number,
    type: GradientHeader['type'],
    { first, count }: SlotRange,
    { offset, length }: VectorRange,
    write: () => Written,
  ): void {
    const { order, incarnation, senderTo } = this.#context;
    const { protocol, run, generation, step, attempt } = order;
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
