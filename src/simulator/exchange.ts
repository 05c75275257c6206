/**
 * One attempt at a reduction in a simulated worker: the real all-reduce machine over real vectors. The
 * twin of src/worker/reduction.ts without sockets. As there, what is sent is the sender's memory and
 * not a copy: a protocol that lets it change too early shows as other bits at the receiver.
 */
import { assert, type SlotRange, unreachable } from '../base/index.ts';
import type { AllReduceEffect, AllReduceEvent, Operand } from '../collective/index.ts';
import type { Kernels } from '../kernels/index.ts';
import { hostsOf } from '../protocol/index.ts';
import type { ReduceOrder } from '../worker/index.ts';
import type { Parts } from './parts.ts';

/** What travels between workers. */
export interface Frame {
  readonly order: ReduceOrder;
  readonly rank: number;
  readonly type: 'fragment' | 'reduced';
  readonly node: SlotRange;
  readonly offset: number;
  /** The sender's own memory, as it is when the frame is read. */
  readonly payload: Float32Array;
}

export interface ExchangeContext {
  readonly order: ReduceOrder;
  readonly rank: number;
  readonly kernels: Kernels;
  readonly reduced: Float32Array;
  /** This rank's fragments, by first slot. */
  readonly fragments: ReadonlyMap<number, Float32Array>;
  send(to: string, frame: Frame): void;
  onFinished(): void;
  onFailed(reason: string): void;
}

export class Exchange {
  readonly order: ReduceOrder;
  readonly #context: ExchangeContext;
  readonly #machine: ReturnType<Parts['reduce']>;
  readonly #frames = new Map<number, Float32Array>();
  #numFrames = 0;

  constructor(context: ExchangeContext, reduce: Parts['reduce']) {
    const { order, rank, reduced } = context;
    this.order = order;
    this.#context = context;
    this.#machine = reduce({
      identity: { generation: order.generation, step: order.step, attempt: order.attempt },
      rank,
      numRanks: order.members.length,
      hosts: hostsOf(order.members),
      totalFloats: reduced.length,
      pieceFloats: 4096,
      slotOwners: order.slotOwners,
    });
  }

  /** Frames taken in so far: while it does not grow, nothing arrives. */
  get numFrames(): number {
    return this.#numFrames;
  }

  get isWaiting(): boolean {
    return this.#machine.awaited !== null;
  }

  start(): void {
    this.#step({ type: 'started' });
  }

  accept({ order, rank, type, node, offset, payload }: Frame, isDamaged: boolean): void {
    const { onFailed } = this.#context;
    if (isDamaged) {
      onFailed(`a frame from ${order.members[rank]!.worker} arrived damaged`);
      return;
    }
    const frame = this.#numFrames;
    this.#numFrames += 1;
    this.#frames.set(frame, payload.slice());
    const arrival = { from: rank, offset, length: payload.length, frame };
    this.#step(
      type === 'fragment'
        ? { type: 'fragmentArrived', ...arrival, node }
        : { type: 'reducedArrived', ...arrival },
    );
  }

  #step(event: AllReduceEvent): void {
    for (const effect of this.#machine.step(event)) this.#carryOut(effect);
  }

  #carryOut(effect: AllReduceEffect): void {
    const { kernels, reduced, onFinished, onFailed } = this.#context;
    switch (effect.type) {
      case 'sendFragment': {
        const { node, to, from, offset, length } = effect;
        this.#send(to, 'fragment', node, offset, this.#at(from, offset, length));
        return;
      }
      case 'sendReduced': {
        const { to, offset, length } = effect;
        const root = { first: 0, count: this.order.slotOwners.length };
        this.#send(to, 'reduced', root, offset, this.#at({ kind: 'reduced' }, offset, length));
        return;
      }
      case 'add': {
        const { into, left, right, offset, length } = effect;
        assert(into.kind !== 'local', 'a local fragment is read only');
        const [sum, a, b] = [into, left, right].map((operand) => this.#at(operand, offset, length));
        kernels.addFlush(sum!, a!, b!);
        return;
      }
      case 'storeReduced':
        reduced.set(this.#at(effect.from, effect.offset, effect.length), effect.offset);
        return;
      case 'release':
        assert(this.#frames.delete(effect.frame), `frame ${effect.frame} is released once`);
        return;
      case 'finished':
        onFinished();
        return;
      case 'reject':
        if (effect.kind !== 'not-reducing') onFailed(effect.reason);
        return;
      default:
        unreachable(effect);
    }
  }

  #at(operand: Operand, offset: number, length: number): Float32Array {
    if (operand.kind === 'reduced') return this.#context.reduced.subarray(offset, offset + length);
    if (operand.kind === 'local') {
      const fragment = this.#context.fragments.get(operand.node.first);
      assert(fragment !== undefined, `the fragment at slot ${operand.node.first} is held`);
      return fragment.subarray(offset, offset + length);
    }
    const frame = this.#frames.get(operand.frame);
    assert(frame?.length === length, `frame ${operand.frame} is held`);
    return frame;
  }

  #send(to: number, type: Frame['type'], node: SlotRange, offset: number, payload: Float32Array): void {
    const { rank, send } = this.#context;
    const { order } = this;
    send(order.members[to]!.incarnation, { order, rank, type, node, offset, payload });
  }
}
