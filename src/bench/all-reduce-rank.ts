/**
 * One rank of the all-reduce benchmark, a process of its own: the product's Reduction over its sockets
 * and kernels, with orders from the benchmark instead of the coordinator. Gradients are made up so that
 * any element of the sum can be checked.
 */
import { performance } from 'node:perf_hooks';
import { assert, messageOf } from '../base/index.ts';
import { type GradientPrecision, PRESETS } from '../config/index.ts';
import { createKernels, numBlocks } from '../kernels/index.ts';
import { GradientMemory, type PeerFrame, PeerMemories, PeerReceiver, PeerSender } from '../net/index.ts';
import { deriveKey, type MemberAddress, PROTOCOL_VERSION } from '../protocol/index.ts';
import { Reduction, type ReductionContext, SendingRoom } from '../worker/index.ts';

/** Slots per rank; aligned, so that each rank holds one fragment of them. */
export const SLOTS_PER_RANK = 4;
const CHECKED_ELEMENTS = 1000;
/** Frames keep the digests they are given: all zero, and so all equal. */
const IDLE_KERNELS = { gradientPrecision: 'float32', sumTree() {} } as const;

export type ToRank =
  | {
      readonly type: 'join';
      readonly rank: number;
      readonly members: readonly MemberAddress[];
      /** Whether anything is added and digested, or the same frames travel for nothing. */
      readonly sums: boolean;
      readonly precision: GradientPrecision;
    }
  | {
      readonly type: 'reduce';
      readonly step: number;
      readonly floats: number;
      /** On the system's monotonic clock, in nanoseconds: all ranks begin together, as the peer's do after a barrier. */
      readonly startAt: string;
    };

export type FromRank =
  | { readonly type: 'bound'; readonly address: Pick<MemberAddress, 'peerEndpoint' | 'peerMemory'> }
  | {
      readonly type: 'reduced';
      readonly milliseconds: number;
      /** Processor time of all threads of the process meanwhile. */
      readonly cpuMilliseconds: number;
      readonly digest: string;
    }
  | { readonly type: 'failed'; readonly reason: string };

type SharedState = ReductionContext['state'];

interface Buffers {
  readonly state: SharedState;
  readonly fragment: Float32Array;
}

const say = (message: FromRank) => process.send?.(message);
const fail = (reason: string) => say({ type: 'failed', reason });
const key = deriveKey('benchmark', 'frame');
let kernels = createKernels();
const receiver = await PeerReceiver.bind('tcp://127.0.0.1:*', key);
const memory = GradientMemory.create();
const peerMemories = new PeerMemories(memory.address, fail);
const sendingRoom = new SendingRoom();
const senders = new Map<string, PeerSender>();
const buffersOf = new Map<number, Buffers>();
let rank = 0;
let members: readonly MemberAddress[] = [];
let sums = true;
let reduction: Reduction | null = null;
/** Wakes the reader of frames that came before this rank was told to reduce. */
let wakeReader = () => {};

process.on('message', (message: ToRank) => {
  if (message.type === 'join') {
    ({ rank, members, sums } = message);
    kernels = createKernels(message.precision);
    return;
  }
  reduce(message).catch((error: unknown) => fail(messageOf(error)));
});
process.on('disconnect', () => process.exit(0));
readFrames().catch((error: unknown) => fail(messageOf(error)));
say({
  type: 'bound',
  address: { peerEndpoint: receiver.endpoint, peerMemory: memory.address },
});

async function readFrames(): Promise<void> {
  for await (const frame of receiver.frames(fail)) {
    const target = await reductionOf(frame);
    target.accept(frame).catch((error: unknown) => fail(messageOf(error)));
  }
}

async function reductionOf({ header }: PeerFrame): Promise<Reduction> {
  while (reduction === null || reduction.order.step < header.step) {
    await new Promise<void>((resolve) => {
      wakeReader = resolve;
    });
  }
  assert(reduction.order.step === header.step, 'an iteration begins when all ranks have ended the last');
  return reduction;
}

async function reduce({ step, floats, startAt }: Extract<ToRank, { type: 'reduce' }>): Promise<void> {
  const { state, fragment } = buffersFor(floats);
  const count = SLOTS_PER_RANK;
  sleepUntil(BigInt(startAt));
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  const attempt = new Reduction({
    order: {
      protocol: PROTOCOL_VERSION,
      run: 'benchmark',
      incarnation: 'benchmark',
      generation: 1,
      step,
      attempt: 0,
      type: 'reduce',
      members: [...members],
      slotOwners: members.flatMap((_, owner) => new Array<number>(SLOTS_PER_RANK).fill(owner)),
    },
    incarnation: members[rank]!.incarnation,
    state,
    fragments: [{ first: rank * count, count, value: fragment }],
    kernels: sums ? kernels : IDLE_KERNELS,
    pieceFloats: PRESETS.small.network.pieceBytes / 4,
    memory,
    peerMemories,
    room: sendingRoom,
    senderTo,
    onFinished: (digest, allFinite) => {
      const milliseconds = performance.now() - startMs;
      const { user, system } = process.cpuUsage(startCpu);
      const cpuMilliseconds = (user + system) / 1000;
      if (!sums) say({ type: 'reduced', milliseconds, cpuMilliseconds, digest });
      else if (!allFinite) fail('the sum is not finite');
      else if (!isSum(state.reduced)) fail('the reduced vector is not the sum of the fragments');
      else say({ type: 'reduced', milliseconds, cpuMilliseconds, digest });
    },
    onFailed: fail,
    onRejected: fail,
  });
  reduction = attempt;
  wakeReader();
  await attempt.start();
}

/** Blocks the thread: a timer of the event loop would be late by up to a millisecond. */
function sleepUntil(at: bigint): void {
  const milliseconds = Number(at - process.hrtime.bigint()) / 1e6;
  if (milliseconds > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

function senderTo(endpoint: string): PeerSender {
  let sender = senders.get(endpoint);
  if (sender === undefined) {
    sender = new PeerSender(endpoint, key, fail);
    senders.set(endpoint, sender);
  }
  return sender;
}

function buffersFor(floats: number): Buffers {
  const known = buffersOf.get(floats);
  if (known !== undefined) return known;
  const made: Buffers = {
    fragment: memory.allocate(floats),
    state: {
      reduced: memory.allocate(floats),
      blockSums: new Float64Array(new SharedArrayBuffer(numBlocks(floats) * 8)),
    },
  };
  // In place: `map` would make an array that is not in shared memory, as a worker's fragments are.
  made.fragment.forEach((_, index) => {
    made.fragment[index] = elementOf(rank, index);
  });
  buffersOf.set(floats, made);
  return made;
}

/** Multiples of 1/16 below 1: sums of up to 16 are exact, in bfloat16 too, so that the order of adding cannot hide a fault. */
function elementOf(owner: number, index: number): number {
  return ((Math.imul(index + 1, 2_654_435_761) + owner * 0x7654321) >>> 28) / 16;
}

function isSum(reduced: Float32Array): boolean {
  const stride = Math.max(1, Math.floor(reduced.length / CHECKED_ELEMENTS));
  for (let index = 0; index < reduced.length; index += stride) {
    const expected = members.reduce((sum, _, owner) => sum + elementOf(owner, index), 0);
    if (reduced[index] !== expected) return false;
  }
  return true;
}
