/**
 * One attempt at an all-reduce carried out: the decisions of the collective's machine turned into
 * frames and sums over shared memory. Runs in the comm thread.
 *
 * Fragments are only read. The reduced vector is written, digested and squared block by block; its
 * frames stay valid because nothing writes it again before every member has voted.
 */
import { crc32c } from '@node-rs/crc32';
import { assert, unreachable } from '../base/index.ts';
import {
  AllReduce,
  type AllReduceEffect,
  type AllReduceEvent,
  type Operand,
  planPieces,
} from '../collective/index.ts';
import { BLOCK_FLOATS, combineDigests, type Kernels, numBlocks } from '../kernels/index.ts';
import type { PeerFrame, PeerSender } from '../net/index.ts';
import type { CoordinatorMessage, Envelope, GradientHeader } from '../protocol/index.ts';
import type { SharedFragment, SharedState } from './thread-messages.ts';

type Order = Extract<CoordinatorMessage, { type: 'reduce' }>;

/** After this long in one go the comm thread looks at its sockets: heartbeats must not wait for sums. */
const SLICE_MS = 20;

export interface ReductionContext {
  readonly order: Order;
  readonly incarnation: string;
  readonly state: SharedState;
  readonly fragments: readonly SharedFragment[];
  readonly kernels: Kernels;
  readonly pieceFloats: number;
  senderTo(endpoint: string): PeerSender;
  onFinished(gradientDigest: string, allFinite: boolean): void;
  onFailed(reason: string): void;
  onRejected(reason: string): void;
}

export class Reduction {
  readonly #context: ReductionContext;
  readonly #machine: AllReduce;
  readonly #rank: number;
  readonly #fragments: ReadonlyMap<number, SharedFragment>;
  /** Payloads lent to the machine, by frame id. */
  readonly #frames = new Map<number, Float32Array>();
  readonly #blockDigests: BigUint64Array;
  /** Checksums of finished pieces, by offset: one computation for all peers. */
  readonly #checksums = new Map<number, number>();
  /** Offsets of the pieces whose digests and squares are taken. */
  readonly #measured = new Set<number>();
  #nextFrame = 0;
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
      totalFloats: state.reduced.length,
      pieceFloats: context.pieceFloats,
      slotOwners: order.slotOwners,
    });
    this.#fragments = new Map(context.fragments.map((fragment) => [fragment.first, fragment]));
    this.#blockDigests = new BigUint64Array(numBlocks(state.reduced.length));
  }

  get order(): Order {
    return this.#context.order;
  }

  /** Frames taken in so far: while it does not grow, nothing arrives. */
  get numFrames(): number {
    return this.#nextFrame;
  }

  /** What this rank waits for, in words; null when it has everything. */
  get awaited(): string | null {
    const piece = this.#machine.awaited;
    if (piece === null) return null;
    const owner = this.order.members[piece.owner]!.worker;
    const whose = piece.owner === this.#rank ? 'fragments of its own shard' : `the shard of ${owner}`;
    return `rank ${this.#rank} waits for ${whose}, floats ${piece.offset}+${piece.length}`;
  }

  start(): Promise<void> {
    return this.#enter(() => ({ type: 'started' }));
  }

  /** Takes a frame of this attempt; resolves when what followed from it is done. */
  accept({ header, payload }: PeerFrame): Promise<void> {
    const { order, onRejected, onFailed } = this.#context;
    const member = order.members[header.rank];
    if (member?.incarnation !== header.incarnation) {
      onRejected(`rank ${header.rank} is not the sender's`);
      return Promise.resolve();
    }
    if (crc32c(payload) !== header.crc) {
      const reason = `a frame from ${member.worker} arrived damaged`;
      onRejected(reason);
      // It is not sent a second time: only another attempt brings what it held.
      onFailed(reason);
      return Promise.resolve();
    }
    return this.#enter(() => {
      const frame = this.#nextFrame;
      this.#nextFrame += 1;
      this.#frames.set(frame, floatsOf(payload));
      const { rank: from, offset, length, first, count } = header;
      const arrival = { from, offset, length, frame };
      return header.type === 'fragment'
        ? { type: 'fragmentArrived', ...arrival, node: { first, count } }
        : { type: 'reducedArrived', ...arrival };
    });
  }

  /** Stops at once; frames under way are void. */
  abort(): void {
    this.#aborted = true;
    this.#frames.clear();
  }

  /** Events one after the other; an event's effects are done before the next one is taken. */
  #enter(makeEvent: () => AllReduceEvent): Promise<void> {
    this.#work = this.#work.then(async () => {
      if (this.#aborted) return;
      let sliceStart = performance.now();
      for (const effect of this.#machine.step(makeEvent())) {
        this.#carryOut(effect);
        if (performance.now() - sliceStart > SLICE_MS) {
          await new Promise((resolve) => setImmediate(resolve));
          sliceStart = performance.now();
        }
        if (this.#aborted) return;
      }
    });
    return this.#work;
  }

  #carryOut(effect: AllReduceEffect): void {
    const { state, kernels } = this.#context;
    switch (effect.type) {
      case 'sendFragment': {
        const { node, to, offset, length } = effect;
        this.#send(to, 'fragment', node, offset, this.#local(node.first).subarray(offset, offset + length));
        return;
      }
      case 'sendReduced': {
        const { to, offset, length } = effect;
        const root = { first: 0, count: this.order.slotOwners.length };
        this.#send(to, 'reduced', root, offset, state.reduced.subarray(offset, offset + length));
        return;
      }
      case 'add': {
        const { offset, length } = effect;
        const at = (operand: Operand) => this.#operand(operand, offset, length);
        kernels.addFlush(at(effect.into), at(effect.left), at(effect.right));
        return;
      }
      case 'storeReduced': {
        const { offset, length } = effect;
        state.reduced.set(this.#operand(effect.from, offset, length), offset);
        this.#measure(offset, length);
        return;
      }
      case 'release':
        this.#frames.delete(effect.frame);
        return;
      case 'finished':
        this.#finish();
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

  #operand(operand: Operand, offset: number, length: number): Float32Array {
    switch (operand.kind) {
      case 'local':
        return this.#local(operand.node.first).subarray(offset, offset + length);
      case 'reduced':
        return this.#context.state.reduced.subarray(offset, offset + length);
      case 'frame': {
        const frame = this.#frames.get(operand.frame);
        assert(frame !== undefined && frame.length === length, `frame ${operand.frame} is held`);
        return frame;
      }
      default:
        return unreachable(operand);
    }
  }

  #local(first: number): Float32Array {
    const fragment = this.#fragments.get(first);
    assert(fragment !== undefined, `the fragment that starts at slot ${first} is held`);
    return fragment.value;
  }

  #send(
    to: number,
    type: 'fragment' | 'reduced',
    node: { first: number; count: number },
    offset: number,
    values: Float32Array,
  ): void {
    const { order, incarnation } = this.#context;
    const payload = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const envelope: Envelope = {
      protocol: order.protocol,
      run: order.run,
      incarnation,
      generation: order.generation,
      step: order.step,
      attempt: order.attempt,
    };
    const makeHeader = (): GradientHeader => ({
      ...envelope,
      type,
      rank: this.#rank,
      first: node.first,
      count: node.count,
      offset,
      length: values.length,
      crc: type === 'reduced' ? this.#checksumOf(offset, payload) : crc32c(payload),
    });
    this.#context.senderTo(order.members[to]!.peerEndpoint).send(makeHeader, payload);
  }

  #checksumOf(offset: number, payload: Uint8Array): number {
    const known = this.#checksums.get(offset);
    if (known !== undefined) return known;
    const checksum = crc32c(payload);
    this.#checksums.set(offset, checksum);
    return checksum;
  }

  /** Digest and squares of a finished range, while it is still in cache. Ranges start at a block. */
  #measure(offset: number, length: number): void {
    const { kernels, state } = this.#context;
    const values = state.reduced.subarray(offset, offset + length);
    kernels.digestBlocks(values, this.#blockDigests, offset / BLOCK_FLOATS);
    kernels.sumOfSquares(values, state.blockSums, offset / BLOCK_FLOATS);
    this.#measured.add(offset);
  }

  #finish(): void {
    const { state, order, pieceFloats } = this.#context;
    // Most pieces of this rank's own shard were summed in place rather than stored, and not measured yet.
    const own = planPieces(state.reduced.length, order.members.length, pieceFloats)[this.#rank]!;
    for (const { offset, length } of own) if (!this.#measured.has(offset)) this.#measure(offset, length);
    const allFinite = state.blockSums.every(Number.isFinite);
    this.#context.onFinished(combineDigests(this.#blockDigests), allFinite);
  }
}

/** A frame's floats in place; copied only where zeromq hands out a view that is not aligned. */
function floatsOf(payload: Buffer): Float32Array {
  if (payload.byteOffset % 4 === 0) {
    return new Float32Array(payload.buffer, payload.byteOffset, payload.byteLength / 4);
  }
  return new Float32Array(payload.buffer.slice(payload.byteOffset, payload.byteOffset + payload.byteLength));
}
