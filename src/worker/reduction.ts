/**
 * One attempt at an all-reduce carried out: the decisions of the collective's machine turned into
 * frames and sums over shared memory. Runs in the comm thread.
 *
 * Each range is passed over once: read, digested, added up, measured and written while it is in cache.
 * Fragments are only read. They and the reduced vector, which peers of this host read where they are,
 * stay valid because nothing writes them again before every member has voted.
 */
import { assert, messageOf, type SlotRange, unreachable } from '../base/index.ts';
import {
  AllReduce,
  type AllReduceEffect,
  type AllReduceEvent,
  type Operand,
  type VectorRange,
} from '../collective/index.ts';
import { BLOCK_FLOATS, combineDigests, numBlocks, type SumTree } from '../kernels/index.ts';
import type { PeerFrame } from '../net/index.ts';
import { type GradientHeader, hostsOf, type MemberAddress } from '../protocol/index.ts';
import { damagedIn, HeldFrames, isReceived } from './held-frames.ts';
import { type OutgoingContext, OutgoingFrames } from './outgoing-frames.ts';
import type { SharedFragment, SharedGradient } from './thread-messages.ts';

/** After this long in one go the comm thread looks at its sockets: heartbeats must not wait for sums. */
const SLICE_MS = 20;

export interface ReductionContext extends Omit<OutgoingContext, 'reduced'> {
  readonly state: SharedGradient;
  readonly pieceFloats: number;
  onFinished(gradientDigest: string, allFinite: boolean): void;
  onFailed(reason: string): void;
  onRejected(reason: string): void;
}

export class Reduction {
  readonly #context: ReductionContext;
  readonly #machine: AllReduce;
  readonly #rank: number;
  readonly #fragments: ReadonlyMap<number, SharedFragment>;
  readonly #frames: HeldFrames;
  readonly #outgoing: OutgoingFrames;
  readonly #blockDigests: BigUint64Array;
  /** Digests of finished pieces, by offset: one computation for all peers. */
  readonly #pieceDigests = new Map<number, string>();
  #work: Promise<void> = Promise.resolve();
  #aborted = false;

  constructor(context: ReductionContext) {
    const { order, incarnation, state } = context;
    this.#context = context;
    this.#rank = order.members.findIndex((member) => member.incarnation === incarnation);
    assert(this.#rank >= 0, 'the coordinator orders members only to reduce');
    this.#machine = new AllReduce({
      identity: { generation: order.generation, step: order.step, attempt: order.attempt },
      rank: this.#rank,
      numRanks: order.members.length,
      hosts: hostsOf(order.members),
      totalFloats: state.reduced.length,
      pieceFloats: context.pieceFloats,
      slotOwners: order.slotOwners,
    });
    this.#fragments = new Map(context.fragments.map((fragment) => [fragment.first, fragment]));
    this.#frames = new HeldFrames(context.kernels);
    this.#outgoing = new OutgoingFrames({ ...context, reduced: state.reduced }, this.#rank);
    this.#blockDigests = new BigUint64Array(numBlocks(state.reduced.length));
  }

  get order(): ReductionContext['order'] {
    return this.#context.order;
  }

  /** Frames taken in so far: while it does not grow, nothing arrives. */
  get numFrames(): number {
    return this.#frames.numTaken;
  }

  /** What this rank waits for, in words; null when it has everything. */
  get awaited(): string | null {
    const awaited = this.#machine.awaited;
    if (awaited === null) return null;
    const { piece, from } = awaited;
    const nameOf = (rank: number) => this.order.members[rank]!.worker;
    const through = from === piece.owner ? '' : ` through ${nameOf(from)}`;
    const whose =
      piece.owner === this.#rank
        ? 'fragments of its own shard'
        : `the shard of ${nameOf(piece.owner)}${through}`;
    return `rank ${this.#rank} waits for ${whose}, floats ${piece.offset}+${piece.length}`;
  }

  /** Resolves when this rank has sent its fragments, as far as sockets take them. */
  start(): Promise<void> {
    return this.#enter(() => ({ type: 'started' }));
  }

  /** Takes a frame of this attempt; resolves when what followed from it is done. */
  accept({ header, payload }: PeerFrame): Promise<void> {
    const { order, onRejected } = this.#context;
    const member = order.members[header.rank];
    if (member?.incarnation !== header.incarnation) {
      onRejected(`rank ${header.rank} is not the sender's`);
      return Promise.resolve();
    }
    return this.#enter(() => {
      if (header.type === 'fragmentUnread' || header.type === 'reducedUnread') {
        this.#sendAgain(header);
        return null;
      }
      const floats = payload ?? this.#inMemoryOf(member, header);
      if (floats === null) {
        this.#outgoing.askForFloats(header);
        return null;
      }
      const frame = this.#frames.take(header, floats, member.worker);
      const { rank: from, offset, length, first, count } = header;
      const arrival = { from, offset, length, frame };
      return header.type === 'fragment'
        ? { type: 'fragmentArrived', ...arrival, node: { first, count } }
        : { type: 'reducedArrived', ...arrival };
    });
  }

  /** A peer cannot read what this rank left in its memory for it. */
  #sendAgain({ type, rank: to, first, count, offset, length }: GradientHeader): void {
    this.#outgoing.stopSharingWith(to);
    if (type === 'fragmentUnread') {
      this.#outgoing.sendFragment(to, { first, count }, { offset, length });
      return;
    }
    const digest = this.#pieceDigests.get(offset);
    assert(digest !== undefined, 'what a peer cannot read was sent to it');
    this.#outgoing.sendReduced(to, { offset, length }, digest);
  }

  /** The floats of a frame whose sender left them in its memory; null if they cannot be read. */
  #inMemoryOf(member: MemberAddress, { offset, length, memoryAt }: GradientHeader): Float32Array | null {
    const { peerMemories, state } = this.#context;
    const memory = peerMemories.of(member);
    if (memory === null || memoryAt === null) return null;
    try {
      return memory.vectorAt(memoryAt - offset * 4, state.reduced.length).subarray(offset, offset + length);
    } catch (error) {
      this.#context.onRejected(`the memory of ${member.worker} cannot be read: ${messageOf(error)}`);
      return null;
    }
  }

  /** Stops at once; frames under way are void. */
  abort(): void {
    this.#aborted = true;
    this.#frames.clear();
  }

  /** Events one after the other, null for none; an event's effects are done before the next one is taken. */
  #enter(makeEvent: () => AllReduceEvent | null): Promise<void> {
    this.#work = this.#work.then(async () => {
      if (this.#aborted) return;
      let sliceStart = performance.now();
      const event = makeEvent();
      if (event === null) return;
      for (const effect of this.#machine.step(event)) {
        if (this.#aborted) return;
        this.#carryOut(effect);
        if (performance.now() - sliceStart > SLICE_MS) {
          await nextTurn();
          sliceStart = performance.now();
        }
      }
    });
    return this.#work;
  }

  #carryOut(effect: AllReduceEffect): void {
    switch (effect.type) {
      case 'sendFragment': {
        const { to, node, from } = effect;
        if (from.kind === 'local') this.#outgoing.sendFragment(to, node, effect);
        else this.#sendSum(to, node, effect, from.frame);
        return;
      }
      case 'sendReduced':
        this.#outgoing.sendReduced(effect.to, effect, this.#pieceDigests.get(effect.offset)!);
        return;
      case 'add':
        this.#add(effect);
        return;
      case 'storeReduced': {
        const { from, offset, length } = effect;
        this.#finishPiece(this.#treeOf(from, offset, length), offset, length);
        return;
      }
      case 'release':
        this.#frames.release(effect.frame);
        return;
      case 'finished':
        this.#context.onFinished(
          combineDigests(this.#blockDigests),
          this.#context.state.blockSums.every(Number.isFinite),
        );
        return;
      case 'reject':
        this.#context.onRejected(effect.reason);
        // A sender that the cover check refuses will not send anything better in this attempt.
        if (effect.kind !== 'not-reducing') this.#context.onFailed(effect.reason);
        return;
      default:
        unreachable(effect);
    }
  }

  /** Sends what this rank has added up of its host's fragments. */
  #sendSum(to: number, node: SlotRange, range: VectorRange, frame: number): void {
    const tree = this.#frames.treeOf(frame);
    this.#outgoing.sendSum(to, node, range, tree);
    const damaged = damagedIn(tree);
    if (damaged !== null) this.#refuseDamaged(damaged);
  }

  // ---- sums -------------------------------------------------------------------------------------

  #add({ into, left, right, offset, length }: Extract<AllReduceEffect, { type: 'add' }>): void {
    const tree = { left: this.#treeOf(left, offset, length), right: this.#treeOf(right, offset, length) };
    if (into.kind === 'reduced') {
      this.#finishPiece(tree, offset, length);
      return;
    }
    assert(into.kind === 'frame', 'a local fragment is read only');
    const damaged = this.#frames.become(into.frame, tree);
    if (damaged !== null) this.#refuseDamaged(damaged);
  }

  #treeOf(operand: Operand, offset: number, length: number): SumTree {
    if (operand.kind === 'frame') return this.#frames.treeOf(operand.frame);
    assert(operand.kind === 'local', 'what is reduced is in no further sum');
    return { source: this.#local(operand.node.first).subarray(offset, offset + length), blockDigests: null };
  }

  /** Writes the final value of a range into the reduced vector, and measures it. Ranges start at a block. */
  #finishPiece(tree: SumTree, offset: number, length: number): void {
    const { state, kernels } = this.#context;
    const firstBlock = offset / BLOCK_FLOATS;
    kernels.sumTree(
      // The digests of a range that arrived whole are those of the result.
      isReceived(tree) ? { ...tree, blockDigests: null } : tree,
      state.reduced.subarray(offset, offset + length),
      { blockDigests: this.#blockDigests, blockSums: state.blockSums, firstBlock },
    );
    const blockDigests = this.#blockDigests.subarray(firstBlock, firstBlock + numBlocks(length));
    if (isReceived(tree)) tree.blockDigests.set(blockDigests);
    const damaged = damagedIn(tree);
    if (damaged !== null) this.#refuseDamaged(damaged);
    else this.#pieceDigests.set(offset, combineDigests(blockDigests));
  }

  #local(first: number): Float32Array {
    const fragment = this.#fragments.get(first);
    assert(fragment !== undefined, `the fragment that starts at slot ${first} is held`);
    return fragment.value;
  }

  #refuseDamaged(worker: string): void {
    const reason = `a frame from ${worker} arrived damaged`;
    this.#context.onRejected(reason);
    // It is not sent a second time: only another attempt brings what it held.
    this.#fail(reason);
  }

  #fail(reason: string): void {
    this.abort();
    this.#context.onFailed(reason);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
