/**
 * What a rank sends in one attempt at a reduction: through its memory to peers that can read that, with
 * a header alone in the message, and through sockets to all others.
 *
 * The memory is an image of the vector: at another rank's shard lies this rank's fragment for it, at
 * its own the finished sum. Further fragments of the same range lie one vector further on.
 */
import { assert } from '../base/index.ts';
import type { AllReduceEffect } from '../collective/index.ts';
import { combineDigests, type FloatSink, type Kernels, numBlocks } from '../kernels/index.ts';
import type { GradientMemory, PeerMemories, PeerSender } from '../net/index.ts';
import type { CoordinatorMessage, GradientHeader } from '../protocol/index.ts';
import type { SharedFragment } from './thread-messages.ts';

/**
 * The most vectors that the memory holds: one is enough for aligned slots, where a rank has one fragment
 * of everything. What is beyond goes through sockets.
 */
const VECTORS_MAX = 2;

type Sent<Type> = Omit<Extract<AllReduceEffect, { type: Type }>, 'type'>;
type HeaderPart = Pick<GradientHeader, 'type' | 'first' | 'count' | 'offset' | 'length'>;

export interface OutgoingContext {
  readonly order: Extract<CoordinatorMessage, { type: 'reduce' }>;
  readonly incarnation: string;
  /** In slot order. */
  readonly fragments: readonly SharedFragment[];
  readonly reduced: Float32Array;
  readonly kernels: Pick<Kernels, 'sumTree' | 'digestBlocks'>;
  /** Where this worker leaves what peers of its host read; null sends everything through sockets. */
  readonly memory: GradientMemory | null;
  readonly peerMemories: PeerMemories;
  senderTo(endpoint: string): PeerSender;
}

export class OutgoingFrames {
  readonly #context: OutgoingContext;
  readonly #rank: number;
  /** Offsets of the finished pieces that lie in memory. */
  readonly #laid = new Set<number>();
  readonly #readsMemory: readonly boolean[];

  constructor(context: OutgoingContext, rank: number) {
    const { order, memory, peerMemories } = context;
    this.#context = context;
    this.#rank = rank;
    this.#readsMemory = order.members.map(
      (member, other) => other !== rank && memory !== null && peerMemories.of(member) !== null,
    );
  }

  /** Whether frames to this rank go through memory as long as there is room. */
  readsMemory(rank: number): boolean {
    return this.#readsMemory[rank]!;
  }

  sendFragment({ to, node, offset, length }: Sent<'sendFragment'>): void {
    const { fragments, reduced, kernels, memory } = this.#context;
    const index = fragments.findIndex(({ first }) => first === node.first);
    const held = fragments[index];
    assert(held !== undefined, `the fragment that starts at slot ${node.first} is held`);
    const values = held.value.subarray(offset, offset + length);
    const part: HeaderPart = { type: 'fragment', ...node, offset, length };
    const at = (index * reduced.length + offset) * 4;
    if (this.#readsMemory[to] && index < VECTORS_MAX && memory?.write(bytesOf(values), at) === true) {
      // In memory it is as safe as the fragment it is a copy of.
      this.#send(to, () => ({ ...part, digest: null, memoryAt: at }), null);
      return;
    }
    const digest = () => {
      const blockDigests = new BigUint64Array(numBlocks(length));
      kernels.digestBlocks(values, blockDigests, 0);
      return combineDigests(blockDigests);
    };
    this.#send(to, () => ({ ...part, digest: digest(), memoryAt: null }), values);
  }

  /** Where a finished piece of this rank's own shard is to be written for its peers; null for nowhere. */
  sinkFor(offset: number): FloatSink | null {
    const { memory } = this.#context;
    if (memory === null || !this.#readsMemory.includes(true)) return null;
    this.#laid.add(offset);
    return {
      write: (values, begin) => {
        if (!memory.write(bytesOf(values), (offset + begin) * 4)) this.#laid.delete(offset);
      },
    };
  }

  sendReduced({ to, offset, length }: Sent<'sendReduced'>, digest: string): void {
    const root = { first: 0, count: this.#context.order.slotOwners.length };
    const part: HeaderPart = { type: 'reduced', ...root, offset, length };
    if (this.#readsMemory[to] && this.#laid.has(offset)) {
      this.#send(to, () => ({ ...part, digest, memoryAt: offset * 4 }), null);
      return;
    }
    const values = this.#context.reduced.subarray(offset, offset + length);
    this.#send(to, () => ({ ...part, digest, memoryAt: null }), values);
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
