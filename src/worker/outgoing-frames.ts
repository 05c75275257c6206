/**
 * What a rank sends in one attempt at a reduction: a header alone where the peer can read this worker's
 * memory and the floats lie there, and header and floats through the socket to all others.
 */
import { assert } from '../base/index.ts';
import type { AllReduceEffect } from '../collective/index.ts';
import { combineDigests, type Kernels, numBlocks } from '../kernels/index.ts';
import type { GradientMemory, PeerMemories, PeerSender } from '../net/index.ts';
import type { GradientHeader } from '../protocol/index.ts';
import type { ReduceOrder } from './lifecycle-state.ts';
import type { SharedFragment } from './thread-messages.ts';

type Sent<Type> = Omit<Extract<AllReduceEffect, { type: Type }>, 'type'>;
type HeaderPart = Pick<GradientHeader, 'type' | 'first' | 'count' | 'offset' | 'length'>;

export interface OutgoingContext {
  readonly order: ReduceOrder;
  readonly incarnation: string;
  /** In slot order. */
  readonly fragments: readonly SharedFragment[];
  readonly reduced: Float32Array;
  readonly kernels: Pick<Kernels, 'sumTree' | 'digestBlocks'>;
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

  constructor(context: OutgoingContext, rank: number) {
    const { order, peerMemories } = context;
    this.#context = context;
    this.#rank = rank;
    this.#readsMemory = order.members.map((member, other) => other !== rank && peerMemories.isReadBy(member));
  }

  sendFragment({ to, node, offset, length }: Sent<'sendFragment'>): void {
    const { fragments, kernels } = this.#context;
    const held = fragments.find(({ first }) => first === node.first);
    assert(held !== undefined, `the fragment that starts at slot ${node.first} is held`);
    const values = held.value.subarray(offset, offset + length);
    const part: HeaderPart = { type: 'fragment', ...node, offset, length };
    const memoryAt = this.#positionFor(to, values);
    // In memory it is as safe as where it was computed.
    const digestOf = (): string | null => {
      if (memoryAt !== null) return null;
      const blockDigests = new BigUint64Array(numBlocks(length));
      kernels.digestBlocks(values, blockDigests, 0);
      return combineDigests(blockDigests);
    };
    this.#send(to, () => ({ ...part, digest: digestOf(), memoryAt }), memoryAt === null ? values : null);
  }

  sendReduced({ to, offset, length }: Sent<'sendReduced'>, digest: string): void {
    const { order, reduced } = this.#context;
    const root = { first: 0, count: order.slotOwners.length };
    const values = reduced.subarray(offset, offset + length);
    const memoryAt = this.#positionFor(to, values);
    const part = { type: 'reduced', ...root, offset, length, digest, memoryAt } as const;
    this.#send(to, () => part, memoryAt === null ? values : null);
  }

  /** Asks the sender of a frame for its floats, as they cannot be read where they are. */
  askForFloats(header: GradientHeader): void {
    const { first, count, offset, length, memoryAt } = header;
    const type = header.type === 'fragment' ? 'fragmentUnread' : 'reducedUnread';
    this.#send(header.rank, () => ({ type, first, count, offset, length, digest: null, memoryAt }), null);
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

  #send(
    to: number,
    makePart: () => HeaderPart & Pick<GradientHeader, 'digest' | 'memoryAt'>,
    values: Float32Array | null,
  ): void {
    const { order, incarnation, senderTo } = this.#context;
    const { protocol, run, generation, step, attempt } = order;
    const makeHeader = (): GradientHeader => ({
      ...{ protocol, run, incarnation, generation, step, attempt, rank: this.#rank },
      ...makePart(),
    });
    senderTo(order.members[to]!.peerEndpoint).send(makeHeader, values === null ? null : bytesOf(values));
  }
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
