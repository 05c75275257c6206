/**
 * Drives the all-reduce machines of N ranks in memory: real kernels, frames that are copies, and one
 * queue that delivers in an order drawn from a seed. What a driver must keep is asserted here: a rank
 * is given nothing before it started, a local fragment is never written, a frame is used only while it
 * is lent and released exactly once.
 */
import { assert, PhiloxRng, type SlotRange } from '../../src/base/index.ts';
import {
  AllReduce,
  type AllReduceEffect,
  type AllReduceEvent,
  FragmentSet,
  type Operand,
} from '../../src/collective/index.ts';
import type { GradientPrecision } from '../../src/config/index.ts';
import { createKernels, type Kernels } from '../../src/kernels/index.ts';

export interface ClusterOptions {
  readonly numRanks: number;
  /** By rank; each alone on its host if not given. */
  readonly hosts?: readonly number[];
  readonly slotOwners: readonly number[];
  readonly pieceFloats: number;
  /** The gradient of each slot, flushed and rounded. */
  readonly leaves: readonly Float32Array[];
  readonly precision: GradientPrecision;
  readonly seed: number;
}

type Arrival = Extract<AllReduceEvent, { readonly frame: number }>;
type Rejection = Extract<AllReduceEffect, { readonly type: 'reject' }>;
/** A message on its way: the event it will be, its frame still unnamed, and what the frame will hold. */
export interface Message {
  readonly to: number;
  readonly event: Arrival;
  readonly payload: Float32Array;
}

interface Rank {
  readonly machine: AllReduce;
  readonly fragments: ReadonlyMap<string, Float32Array>;
  readonly reduced: Float32Array;
  readonly frames: Map<number, Float32Array>;
  readonly rejections: Rejection[];
  started: boolean;
  numFinished: number;
  sentFloats: number;
  /** To other hosts. */
  sentFarFloats: number;
}

export class AllReduceCluster {
  readonly ranks: readonly Rank[];
  readonly inFlight: Message[] = [];
  readonly #kernels: Kernels;
  readonly #rng: PhiloxRng;
  readonly #hosts: readonly number[];
  #numFrames = 0;

  constructor({ numRanks, slotOwners, pieceFloats, leaves, precision, seed, ...options }: ClusterOptions) {
    const hosts = options.hosts ?? Array.from({ length: numRanks }, (_, rank) => rank);
    this.#hosts = hosts;
    this.#kernels = createKernels(precision);
    this.#rng = new PhiloxRng({ seed, stream: 'sampling', substream: 1, step: 0, slot: 0 });
    const totalFloats = leaves[0]!.length;
    const identity = { generation: 1, step: 1, attempt: 1 };
    this.ranks = Array.from({ length: numRanks }, (_, rank) => ({
      machine: new AllReduce({ identity, rank, numRanks, hosts, totalFloats, pieceFloats, slotOwners }),
      fragments: this.#accumulate(rank, slotOwners, leaves),
      reduced: new Float32Array(totalFloats).fill(NaN),
      frames: new Map(),
      rejections: [],
      started: false,
      numFinished: 0,
      sentFloats: 0,
      sentFarFloats: 0,
    }));
  }

  /** Starts ranks and delivers messages in random order until nothing is left to do. */
  run(): void {
    for (;;) {
      const waiting = this.ranks.flatMap(({ started }, rank) => (started ? [] : [rank]));
      const ready = this.inFlight.filter(({ to }) => this.ranks[to]!.started);
      if (waiting.length + ready.length === 0) return;
      const choice = this.#rng.nextInt(waiting.length + ready.length);
      if (choice < waiting.length) this.start(waiting[choice]!);
      else this.deliver(ready[choice - waiting.length]!);
    }
  }

  start(rank: number): void {
    this.ranks[rank]!.started = true;
    this.step(rank, { type: 'started' });
  }

  /** Hands a message over, whether or not it is among those in flight. */
  deliver(message: Message): void {
    const index = this.inFlight.indexOf(message);
    if (index !== -1) this.inFlight.splice(index, 1);
    const frame = this.#numFrames;
    this.#numFrames += 1;
    this.ranks[message.to]!.frames.set(frame, message.payload.slice());
    this.step(message.to, { ...message.event, frame });
  }

  step(rank: number, event: AllReduceEvent): void {
    for (const effect of this.ranks[rank]!.machine.step(event)) this.#perform(rank, effect);
  }

  #perform(number: number, effect: AllReduceEffect): void {
    const rank = this.ranks[number]!;
    switch (effect.type) {
      case 'sendFragment': {
        const { to, node, from, offset, length } = effect;
        const event = { type: 'fragmentArrived', from: number, node, offset, length, frame: -1 } as const;
        this.#send(number, { to, event, payload: this.#find(rank, from, effect) });
        break;
      }
      case 'sendReduced': {
        const { to, offset, length } = effect;
        const event = { type: 'reducedArrived', from: number, offset, length, frame: -1 } as const;
        this.#send(number, { to, event, payload: this.#find(rank, { kind: 'reduced' }, effect) });
        break;
      }
      case 'add': {
        assert(effect.into.kind !== 'local', 'a local fragment is read only');
        const [into, left, right] = [effect.into, effect.left, effect.right].map((operand) =>
          this.#find(rank, operand, effect),
        );
        this.#kernels.addFlush(into!, left!, right!);
        break;
      }
      case 'storeReduced':
        this.#find(rank, { kind: 'reduced' }, effect).set(this.#find(rank, effect.from, effect));
        break;
      case 'release':
        assert(rank.frames.delete(effect.frame), `frame ${effect.frame} is released once, by its rank`);
        break;
      case 'finished':
        rank.numFinished += 1;
        break;
      case 'reject':
        rank.rejections.push(effect);
        break;
    }
  }

  #send(from: number, message: Message): void {
    const rank = this.ranks[from]!;
    rank.sentFloats += message.payload.length;
    if (this.#hosts[from] !== this.#hosts[message.to]) rank.sentFarFloats += message.payload.length;
    this.inFlight.push({ ...message, payload: message.payload.slice() });
  }

  #find(rank: Rank, operand: Operand, { offset, length }: { offset: number; length: number }): Float32Array {
    if (operand.kind === 'reduced') return rank.reduced.subarray(offset, offset + length);
    if (operand.kind === 'local') {
      const fragment = rank.fragments.get(keyOf(operand.node));
      assert(fragment !== undefined, `this rank has no fragment ${keyOf(operand.node)}`);
      return fragment.subarray(offset, offset + length);
    }
    const frame = rank.frames.get(operand.frame);
    assert(frame?.length === length, `frame ${operand.frame} is lent and of the effect's length`);
    return frame;
  }

  /** A worker's own part: its slots added up in a random order, as its jobs come. */
  #accumulate(
    rank: number,
    slotOwners: readonly number[],
    leaves: readonly Float32Array[],
  ): ReadonlyMap<string, Float32Array> {
    const set = new FragmentSet(leaves.length);
    const fragments = new Map<string, Float32Array>();
    for (const slot of this.#rng.permutation(slotOwners.length)) {
      if (slotOwners[slot] !== rank) continue;
      const leaf = { first: slot, count: 1 };
      fragments.set(keyOf(leaf), leaves[slot]!.slice());
      const result = set.add(leaf);
      assert(result.accepted, 'each slot is computed once');
      for (const { left, right, parent } of result.merges) {
        const sum = fragments.get(keyOf(left))!;
        this.#kernels.addFlush(sum, sum, fragments.get(keyOf(right))!);
        fragments.delete(keyOf(left));
        fragments.delete(keyOf(right));
        fragments.set(keyOf(parent), sum);
      }
    }
    return fragments;
  }
}

function keyOf({ first, count }: SlotRange): string {
  return `${first}+${count}`;
}
