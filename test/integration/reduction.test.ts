/**
 * Real reductions over real ZeroMQ sockets, N of them in one process: any placement of the slots gives
 * every rank the bits of the naive sum, and whatever is damaged, foreign or twice there is refused.
 */
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { PhiloxRng } from '../../src/base/index.ts';
import { GRADIENT_PRECISIONS, type GradientPrecision } from '../../src/config/index.ts';
import { BLOCK_FLOATS, combineDigests, createKernels, numBlocks } from '../../src/kernels/index.ts';
import {
  GradientMemory,
  type PeerFrame,
  PeerMemories,
  PeerReceiver,
  PeerSender,
} from '../../src/net/index.ts';
import { type CoordinatorMessage, deriveKey, PROTOCOL_VERSION } from '../../src/protocol/index.ts';
import { FragmentStore } from '../../src/worker/fragment-store.ts';
import { Reduction } from '../../src/worker/reduction.ts';
import { SendingRoom } from '../../src/worker/sending-room.ts';
import type { SharedGradient } from '../../src/worker/thread-messages.ts';
import { emptyFloats, firstDifference, randomFloats } from '../support/floats.ts';
import { addSlot } from '../support/fragment-slots.ts';
import { flushIntoTwin } from '../support/kernel-twins.ts';
import { naiveSum, naiveTree } from '../support/naive-reduction.ts';
import { Recorder } from '../support/waiting.ts';

const KEY = deriveKey('token', 'frame');
const kernelsOf = { float32: createKernels('float32'), bfloat16: createKernels('bfloat16') };
const closing: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Rank {
  readonly reduction: Reduction;
  readonly state: SharedGradient;
  /** Over all links together. */
  sentBytes(): number;
  readonly finished: Recorder<{ digest: string; allFinite: boolean }>;
  readonly failed: Recorder<string>;
  readonly rejected: Recorder<string>;
  /** Starts reading, then reducing: frames that came before wait in the sockets. */
  start(): Promise<void>;
}

/** Ranks with sockets, each with the fragments of its slots. `alter` may change frames on arrival. */
async function startRanks(options: {
  readonly numRanks: number;
  readonly slotOwners: readonly number[];
  readonly leaves: readonly Float32Array[];
  readonly pieceFloats: number;
  readonly precision?: GradientPrecision;
  /** The ranks that have memory to share; none if not given. */
  readonly sharing?: readonly number[];
  /** By rank, on which host it is: those of one host share memory. All are on one if not given. */
  readonly hosts?: readonly number[];
  /** Pairs of a rank that should be able to read another's memory but cannot, and that other. */
  readonly unreadable?: readonly (readonly [number, number])[];
  /** Ranks that get no room in their memory. */
  readonly withoutRoom?: readonly number[];
  readonly alter?: (frame: PeerFrame, to: number) => PeerFrame[];
}): Promise<Rank[]> {
  const { numRanks, slotOwners, leaves, pieceFloats, sharing = [] } = options;
  const kernels = kernelsOf[options.precision ?? 'float32'];
  const { unreadable = [], withoutRoom = [], alter = (frame: PeerFrame) => [frame] } = options;
  const floats = leaves[0]!.length;
  const receivers = await Promise.all(
    Array.from({ length: numRanks }, () => PeerReceiver.bind('tcp://127.0.0.1:*', KEY)),
  );
  const memories = receivers.map((_, rank) =>
    sharing.includes(rank) ? GradientMemory.create() : GradientMemory.of(null),
  );
  const addresses = memories.map(({ address }, rank) =>
    address === null ? null : { ...address, domain: `${address.domain} ${options.hosts?.[rank] ?? 0}` },
  );
  const members = receivers.map(({ endpoint }, rank) => ({
    incarnation: `incarnation-${rank}`,
    worker: `worker-${rank}`,
    peerEndpoint: endpoint,
    peerMemory: addresses[rank]!,
  }));
  const order: Extract<CoordinatorMessage, { type: 'reduce' }> = {
    ...{ protocol: PROTOCOL_VERSION, run: 'run', incarnation: 'coordinator', type: 'reduce' },
    ...{ generation: 1, step: 1, attempt: 1, members, slotOwners: [...slotOwners] },
  };
  return receivers.map((receiver, rank) => {
    const memory = memories[rank]!;
    const fullMemory = withoutRoom.includes(rank) ? GradientMemory.of(null) : memory;
    const store = new FragmentStore(kernels, floats, slotOwners.length, (length) =>
      fullMemory.allocate(length),
    );
    slotOwners.forEach((owner, slot) => {
      if (owner === rank) addSlot(store, slot, leaves[slot]!);
    });
    const state = newState(floats, fullMemory);
    const senders = new Map<string, PeerSender>();
    const [finished, failed, rejected] = [
      new Recorder<{ digest: string; allFinite: boolean }>(),
      new Recorder<string>(),
      new Recorder<string>(),
    ];
    const peerMemories = new PeerMemories(addresses[rank]!, failed.record);
    const seen = members.map(({ peerMemory, ...member }, other) => {
      const isHidden = unreadable.some(([reader, owner]) => reader === rank && owner === other);
      return { ...member, peerMemory: isHidden && peerMemory ? { ...peerMemory, pid: 2 ** 30 } : peerMemory };
    });
    const reduction = new Reduction({
      ...{
        order: { ...order, members: seen },
        incarnation: members[rank]!.incarnation,
        state,
        fragments: store.fragments(),
      },
      ...{ kernels, pieceFloats, memory, peerMemories, room: new SendingRoom() },
      senderTo(endpoint) {
        const sender = senders.get(endpoint) ?? new PeerSender(endpoint, KEY, failed.record);
        senders.set(endpoint, sender);
        return sender;
      },
      onFinished: (digest, allFinite) => finished.record({ digest, allFinite }),
      onFailed: failed.record,
      onRejected: rejected.record,
    });
    let reading: Promise<void> = Promise.resolve();
    closing.push(async () => {
      for (const sender of senders.values()) sender.close();
      receiver.close();
      await reading;
      peerMemories.close();
      memory.close();
    });
    const start = async () => {
      const starting = reduction.start();
      reading = (async () => {
        for await (const frame of receiver.frames(rejected.record)) {
          for (const altered of alter(frame, rank)) await reduction.accept(altered);
        }
      })();
      await starting;
    };
    const sentBytes = () => [...senders.values()].reduce((sum, sender) => sum + sender.sentBytes, 0);
    return { reduction, state, sentBytes, finished, failed, rejected, start };
  });
}

function newState(floats: number, memory = GradientMemory.of(null)): SharedGradient {
  return {
    reduced: memory.allocate(floats).fill(NaN),
    blockSums: new Float64Array(new SharedArrayBuffer(numBlocks(floats) * 8)),
  };
}

function leavesOf(numSlots: number, floats: number, seed: number): Float32Array[] {
  return Array.from({ length: numSlots }, (_, slot) => randomFloats(floats, seed * 1000 + slot));
}

function digestOf(values: Float32Array): string {
  const blockDigests = new BigUint64Array(numBlocks(values.length));
  kernelsOf.float32.digestBlocks(values, blockDigests, 0);
  return combineDigests(blockDigests);
}

function expectedOf(leaves: readonly Float32Array[], precision: GradientPrecision = 'float32'): Float32Array {
  const flushed = leaves.map((leaf) => {
    const result = emptyFloats(leaf.length);
    flushIntoTwin(result, leaf, precision);
    return result;
  });
  return naiveSum(naiveTree(leaves.length), flushed, precision);
}

async function closeAll(): Promise<void> {
  for (const close of closing.splice(0).reverse()) await close();
}

describe('a reduction', () => {
  test('gives every rank the bits of the naive sum, and all the same digest', {
    timeout: 60_000,
  }, async () => {
    const digests = new Map<string, string>();
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          numRanks: fc.integer({ min: 1, max: 4 }),
          numSlots: fc.integer({ min: 1, max: 12 }),
          floats: fc.constantFrom(1, BLOCK_FLOATS - 1, 3 * BLOCK_FLOATS + 5, 20 * BLOCK_FLOATS),
          pieceBlocks: fc.integer({ min: 1, max: 4 }),
          seed: fc.nat(3),
          placement: fc.nat(1000),
          precision: fc.constantFrom(...GRADIENT_PRECISIONS),
          // Some pairs of ranks read each other's memory, others have sockets only.
          sharing: fc.subarray([0, 1, 2, 3]),
          hosts: fc.array(fc.nat(1), { minLength: 4, maxLength: 4 }),
        }),
        async ({ numRanks, numSlots, floats, pieceBlocks, seed, placement, precision, sharing, hosts }) => {
          const rng = new PhiloxRng({
            seed: placement,
            stream: 'sampling',
            substream: 5,
            step: 0,
            slot: 0,
          });
          const slotOwners = Array.from({ length: numSlots }, () => rng.nextInt(numRanks));
          const leaves = leavesOf(numSlots, floats, seed);
          const ranks = await startRanks({
            ...{
              numRanks,
              slotOwners,
              leaves,
              pieceFloats: pieceBlocks * BLOCK_FLOATS,
              precision,
              sharing,
              hosts,
            },
          });
          try {
            // In any order: what a rank gets before it has begun waits.
            for (const rank of rng.permutation(numRanks)) await ranks[rank]!.start();
            const expected = expectedOf(leaves, precision);
            const key = `${numSlots} ${floats} ${seed} ${precision}`;
            for (const { state, finished, failed, rejected } of ranks) {
              const { digest, allFinite } = await finished.next();
              expect(firstDifference(state.reduced, expected)).toBeNull();
              expect(allFinite).toBe(true);
              // However many ranks there were, and whoever held what.
              expect(digests.get(key) ?? digest).toBe(digest);
              digests.set(key, digest);
              expect([...failed.all, ...rejected.all]).toEqual([]);
              const squares = expected.reduce((sum, value) => sum + value ** 2, 0);
              const measured = state.blockSums.reduce((sum, value) => sum + value, 0);
              expect(Math.abs(measured - squares)).toBeLessThanOrEqual(1e-9 * squares);
            }
          } finally {
            await closeAll();
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  const floats = 4 * BLOCK_FLOATS;
  const leaves = leavesOf(4, floats, 9);
  const two = { numRanks: 2, slotOwners: [0, 0, 1, 1], leaves, pieceFloats: BLOCK_FLOATS };

  describe('in bfloat16', () => {
    const rounded = { ...two, precision: 'bfloat16' } as const;
    const sentBytes = async (options: Parameters<typeof startRanks>[0]) => {
      const ranks = await startRanks(options);
      for (const rank of ranks) await rank.start();
      for (const { finished } of ranks) await finished.next();
      const sent = ranks.map((rank) => rank.sentBytes());
      await closeAll();
      return sent;
    };

    test('sends half the bytes through sockets, and as many as ever through memory', async () => {
      // Half of the vector to the other's owner and half of it back.
      const whole = [floats * 4, floats * 4];
      expect(await sentBytes(two)).toEqual(whole);
      expect(await sentBytes(rounded)).toEqual(whole.map((bytes) => bytes / 2));
      expect(await sentBytes({ ...rounded, sharing: [0, 1] })).toEqual(whole);
    });

    test('gives each rank what one that holds all slots has alone', async () => {
      const [alone] = await startRanks({ ...rounded, numRanks: 1, slotOwners: [0, 0, 0, 0] });
      await alone!.start();
      const { digest } = await alone!.finished.next();
      const ranks = await startRanks({ ...rounded, slotOwners: [1, 0, 0, 1] });
      for (const rank of ranks) await rank.start();
      for (const { finished } of ranks) expect(await finished.next()).toEqual({ digest, allFinite: true });
      expect(digest).not.toBe(digestOf(expectedOf(leaves)));
    });

    test('says when a finite gradient is too large for it', async () => {
      // The largest float32, which is nearer to 2^128 than to the largest bfloat16.
      const huge = leaves.map((leaf, slot) => (slot === 3 ? leaf.map(() => 3.4028234e38) : leaf));
      const ranks = await startRanks({ ...rounded, leaves: huge });
      for (const rank of ranks) await rank.start();
      for (const { finished } of ranks) expect(await finished.next()).toMatchObject({ allFinite: false });
    });

    test('refuses a damaged payload', async () => {
      const ranks = await startRanks({
        ...rounded,
        alter(frame, to) {
          const payload = Buffer.from(frame.payload!);
          if (to === 1 && frame.header.type === 'reduced') payload[17] = payload[17]! ^ 4;
          return [{ ...frame, payload }];
        },
      });
      for (const rank of ranks) await rank.start();
      expect(await ranks[1]!.failed.next()).toBe('a frame from worker-0 arrived damaged');
    });
  });

  test('says when the sum is not finite', async () => {
    const huge = leaves.map((leaf) => leaf.map(() => 3e38));
    const ranks = await startRanks({ ...two, leaves: huge });
    for (const rank of ranks) await rank.start();
    for (const { finished } of ranks) expect(await finished.next()).toMatchObject({ allFinite: false });
  });

  test('refuses a damaged payload and fails, so that another attempt can bring it', async () => {
    let isDamaged = false;
    const ranks = await startRanks({
      ...two,
      alter(frame, to) {
        if (to !== 1 || isDamaged) return [frame];
        isDamaged = true;
        const payload = Buffer.from(frame.payload!);
        payload[17] = payload[17]! ^ 4;
        return [{ ...frame, payload }];
      },
    });
    for (const rank of ranks) await rank.start();
    expect(await ranks[1]!.failed.next()).toBe('a frame from worker-0 arrived damaged');
    expect(ranks[1]!.rejected.all).toEqual(['a frame from worker-0 arrived damaged']);
    expect(ranks[1]!.finished.all).toEqual([]);
  });

  test('refuses a fragment that comes twice: nothing is in the sum twice', async () => {
    // A copy, because the sum may be taken in the frame's own memory.
    const copyOf = (frame: PeerFrame) => ({ ...frame, payload: Buffer.from(frame.payload!) });
    const ranks = await startRanks({
      ...two,
      slotOwners: [0, 1, 0, 1],
      alter: (frame, to) =>
        to === 0 && frame.header.type === 'fragment' ? [copyOf(frame), copyOf(frame)] : [frame],
    });
    for (const rank of ranks) await rank.start();
    expect(await ranks[0]!.failed.next()).toMatch(/slot \d is already in/);
  });

  test('refuses slots of another rank, though sealed and whole', async () => {
    const ranks = await startRanks({
      ...two,
      alter: (frame) => [{ ...frame, header: { ...frame.header, first: 0, count: 1 } }],
    });
    for (const rank of ranks) await rank.start();
    expect(await ranks[0]!.failed.next()).toContain("slot 0 is rank 0's, but rank 1 sent it");
  });

  test('drops frames that claim another’s rank, and finishes with the true ones', async () => {
    const forged = (frame: PeerFrame): PeerFrame => {
      const payload = Buffer.alloc(frame.payload!.length);
      const digest = digestOf(new Float32Array(frame.header.length));
      return { header: { ...frame.header, incarnation: 'ghost', digest }, payload };
    };
    const ranks = await startRanks({ ...two, alter: (frame) => [forged(frame), frame] });
    for (const rank of ranks) await rank.start();
    for (const { state, finished, failed, rejected } of ranks) {
      await finished.next();
      expect(firstDifference(state.reduced, expectedOf(leaves))).toBeNull();
      expect(failed.all).toEqual([]);
      expect(new Set(rejected.all)).toEqual(
        new Set([expect.stringMatching(/^rank \d is not the sender's$/)]),
      );
    }
  });

  describe('through memory', () => {
    const shared = { ...two, sharing: [0, 1] };
    const isSum = ({ state }: Rank) => expect(firstDifference(state.reduced, expectedOf(leaves))).toBeNull();

    test('sends headers only, and sums what it finds there', async () => {
      const payloads: (Buffer | null)[] = [];
      const ranks = await startRanks({
        ...shared,
        alter(frame) {
          payloads.push(frame.payload);
          return [frame];
        },
      });
      for (const rank of ranks) await rank.start();
      for (const rank of ranks) {
        await rank.finished.next();
        isSum(rank);
      }
      expect(payloads).toEqual(new Array(8).fill(null));
    });

    test('goes through sockets instead when there is no room', async () => {
      const ranks = await startRanks({ ...shared, withoutRoom: [0] });
      for (const rank of ranks) await rank.start();
      for (const rank of ranks) {
        await rank.finished.next();
        isSum(rank);
        expect(rank.failed.all).toEqual([]);
      }
    });

    test('refuses a finished piece that is not what its header says', async () => {
      const ranks = await startRanks({
        ...shared,
        alter(frame, to) {
          const { type, offset } = frame.header;
          if (to === 1 && type === 'reduced') ranks[0]!.state.reduced[offset + 5]! += 1;
          return [frame];
        },
      });
      for (const rank of ranks) await rank.start();
      expect(await ranks[1]!.failed.next()).toBe('a frame from worker-0 arrived damaged');
      expect(ranks[1]!.finished.all).toEqual([]);
    });

    test('sends again through the socket what a peer cannot read, and all else at once so', async () => {
      const arrived: string[] = [];
      const ranks = await startRanks({
        ...shared,
        unreadable: [[1, 0]],
        alter(frame, to) {
          arrived.push(`${frame.header.type} to ${to}${frame.payload === null ? '' : ' with floats'}`);
          return [frame];
        },
      });
      for (const rank of ranks) await rank.start();
      for (const rank of ranks) {
        await rank.finished.next();
        isSum(rank);
        expect(rank.rejected.all).toEqual([]);
      }
      // Rank 1 cannot open the memory, says so in its log, and expects that rank 0 cannot open its own.
      expect(ranks[1]!.failed.all).toEqual([
        expect.stringContaining('the memory of worker-0 cannot be read'),
      ]);
      expect(ranks[0]!.failed.all).toEqual([]);
      expect(arrived.filter((frame) => frame === 'fragment to 0 with floats')).toHaveLength(2);
      expect(arrived.filter((frame) => frame === 'fragmentUnread to 0')).toHaveLength(2);
      expect(arrived.filter((frame) => frame === 'fragment to 1 with floats')).toHaveLength(2);
      expect(arrived.filter((frame) => frame === 'reduced to 1 with floats')).toHaveLength(2);
    });
  });

  describe('between hosts', () => {
    const floats = 8 * BLOCK_FLOATS;
    const leaves = leavesOf(4, floats, 4);
    const four = {
      ...{ numRanks: 4, slotOwners: [0, 1, 2, 3], leaves, pieceFloats: BLOCK_FLOATS },
      ...{ sharing: [0, 1, 2, 3], hosts: [0, 0, 1, 1] },
    };

    test.each(GRADIENT_PRECISIONS)(
      'brings each host what one rank alone would get, in %s',
      async (precision) => {
        const takenIn = [0, 0];
        const ranks = await startRanks({
          ...{ ...four, precision },
          alter(frame, to) {
            takenIn[four.hosts[to]!]! += frame.payload?.length ?? 0;
            return [frame];
          },
        });
        for (const rank of ranks) await rank.start();
        const expected = expectedOf(leaves, precision);
        for (const { state, finished, failed, rejected } of ranks) {
          await finished.next();
          expect(firstDifference(state.reduced, expected)).toBeNull();
          expect([...failed.all, ...rejected.all]).toEqual([]);
        }
        // A sum for each piece that the host owns, and a result for each that it does not.
        const bytes = floats * (precision === 'bfloat16' ? 2 : 4);
        expect(takenIn).toEqual([bytes, bytes]);
      },
    );

    test('refuses a damaged sum of another host', async () => {
      const ranks = await startRanks({
        ...four,
        alter(frame, to) {
          if (to !== 0 || frame.payload === null) return [frame];
          const payload = Buffer.from(frame.payload);
          payload[17] = payload[17]! ^ 4;
          return [{ ...frame, payload }];
        },
      });
      for (const rank of ranks) await rank.start();
      expect(await ranks[0]!.failed.next()).toMatch(/^a frame from worker-[23] arrived damaged$/);
    });

    test('goes on through sockets where a leader cannot read the memory of its own host', async () => {
      const ranks = await startRanks({ ...four, unreadable: [[1, 0]] });
      for (const rank of ranks) await rank.start();
      for (const { state, finished, rejected } of ranks) {
        await finished.next();
        expect(firstDifference(state.reduced, expectedOf(leaves))).toBeNull();
        expect(rejected.all).toEqual([]);
      }
    });
  });

  test('takes nothing after it was aborted, and never finishes', async () => {
    const held = new Recorder<PeerFrame>();
    const ranks = await startRanks({
      ...two,
      alter(frame, to) {
        if (to !== 0) return [frame];
        held.record(frame);
        return [];
      },
    });
    for (const rank of ranks) await rank.start();
    // Two pieces of rank 1's fragment, and the two pieces of the vector that rank 1 has reduced.
    await held.until(4);
    const { reduction, state, finished, failed, rejected } = ranks[0]!;
    const before = state.reduced.slice();
    reduction.abort();
    for (const frame of held.all) await reduction.accept(frame);
    expect(firstDifference(state.reduced, before)).toBeNull();
    expect([...finished.all, ...failed.all, ...rejected.all]).toEqual([]);
  });

  test('is asked of members only', async () => {
    const { reduction } = (await startRanks(two))[0]!;
    expect(
      () =>
        new Reduction({
          ...{ order: reduction.order, incarnation: 'ghost', state: newState(floats), fragments: [] },
          ...{ kernels: kernelsOf.float32, pieceFloats: BLOCK_FLOATS, memory: GradientMemory.of(null) },
          peerMemories: new PeerMemories(null, () => {}),
          room: new SendingRoom(),
          senderTo: () => expect.fail('nothing is sent'),
          onFinished() {},
          onFailed() {},
          onRejected() {},
        }),
    ).toThrow('members only');
  });
});
