/** The all-reduce machine, event by event: what it sends, adds, refuses and releases. */
import { describe, expect, test } from 'vitest';
import {
  AllReduce,
  type AllReduceConfig,
  type AllReduceEffect,
  sameAttempt,
} from '../../../src/collective/index.ts';
import { BLOCK_FLOATS } from '../../../src/kernels/index.ts';
import { AllReduceCluster } from '../../support/all-reduce-cluster.ts';
import { randomFloats } from '../../support/floats.ts';

const B = BLOCK_FLOATS;
const identity = { generation: 2, step: 7, attempt: 3 };
/** Rank 0 of three with four slots over six blocks: two blocks a rank, one block a piece. */
const config: AllReduceConfig = {
  identity,
  rank: 0,
  numRanks: 3,
  hosts: [0, 1, 2],
  totalFloats: 6 * B,
  pieceFloats: B,
  slotOwners: [0, 0, 1, 2],
};
const own = { first: 0, count: 2 };
const ofOwn = { kind: 'local', node: own };
const range = (first: number, count: number) => ({ first, count });

function started(changes: Partial<AllReduceConfig> = {}): AllReduce {
  const machine = new AllReduce({ ...config, ...changes });
  machine.step({ type: 'started' });
  return machine;
}

const fragment = (from: number, node: { first: number; count: number }, frame: number, offset = 0) =>
  ({ type: 'fragmentArrived', from, node, offset, length: B, frame }) as const;
const reduced = (from: number, offset: number, frame: number) =>
  ({ type: 'reducedArrived', from, offset, length: B, frame }) as const;

/** `reject` and `release` of one frame: the whole answer to a refused arrival. */
function rejectionOf(effects: readonly AllReduceEffect[], frame: number): string {
  const [reject, release] = effects;
  expect(effects).toHaveLength(2);
  expect(release).toEqual({ type: 'release', frame });
  return reject?.type === 'reject' ? `${reject.kind}: ${reject.reason}` : 'none';
}

describe('AllReduce', () => {
  test('sends its fragments piece by piece, the next rank first', () => {
    const sends = new AllReduce(config).step({ type: 'started' });
    expect(sends).toEqual([
      { type: 'sendFragment', to: 1, node: own, from: ofOwn, offset: 2 * B, length: B },
      { type: 'sendFragment', to: 2, node: own, from: ofOwn, offset: 4 * B, length: B },
      { type: 'sendFragment', to: 1, node: own, from: ofOwn, offset: 3 * B, length: B },
      { type: 'sendFragment', to: 2, node: own, from: ofOwn, offset: 5 * B, length: B },
    ]);
    const firstTargets = [0, 1, 2].map((rank) => {
      const [first] = new AllReduce({ ...config, rank }).step({ type: 'started' });
      return first?.type === 'sendFragment' ? first.to : null;
    });
    expect(firstTargets).toEqual([1, 2, 0]);
  });

  test('adds siblings in tree order though the right one came first, and sends the result to all at once', () => {
    const machine = started();
    expect(machine.step(fragment(2, range(3, 1), 70))).toEqual([]);
    const frame71 = { kind: 'frame', frame: 71 };
    const at = { offset: 0, length: B };
    expect(machine.step(fragment(1, range(2, 1), 71))).toEqual([
      { type: 'add', ...at, left: frame71, right: { kind: 'frame', frame: 70 }, into: frame71 },
      { type: 'release', frame: 70 },
      { type: 'add', ...at, left: { kind: 'local', node: own }, right: frame71, into: { kind: 'reduced' } },
      { type: 'release', frame: 71 },
      { type: 'sendReduced', to: 1, ...at },
      { type: 'sendReduced', to: 2, ...at },
    ]);
  });

  test('finishes with the last piece, its own or another rank’s', () => {
    const machine = started({ totalFloats: 3 * B });
    machine.step(reduced(1, B, 1));
    expect(machine.step(reduced(2, 2 * B, 2))).toEqual([
      { type: 'storeReduced', offset: 2 * B, length: B, from: { kind: 'frame', frame: 2 } },
      { type: 'release', frame: 2 },
    ]);
    machine.step(fragment(1, range(2, 1), 3));
    expect(machine.step(fragment(2, range(3, 1), 4)).at(-1)).toEqual({ type: 'finished' });
    expect(machine.phase).toBe('finished');
  });

  test('a single rank is done when it starts', () => {
    const machine = new AllReduce({
      ...config,
      numRanks: 1,
      hosts: [0],
      slotOwners: [0, 0, 0, 0],
      totalFloats: B + 1,
    });
    const from = { kind: 'local', node: range(0, 4) };
    expect(machine.step({ type: 'started' })).toEqual([
      { type: 'storeReduced', offset: 0, length: B, from },
      { type: 'storeReduced', offset: B, length: 1, from },
      { type: 'finished' },
    ]);
  });

  test('a rank without slots sends no fragment, but reduces its shard', () => {
    const machine = new AllReduce({ ...config, slotOwners: [1, 1, 1, 1] });
    expect(machine.step({ type: 'started' })).toEqual([]);
    expect(machine.step(fragment(1, range(0, 4), 5))).toEqual([
      { type: 'storeReduced', offset: 0, length: B, from: { kind: 'frame', frame: 5 } },
      { type: 'release', frame: 5 },
      { type: 'sendReduced', to: 1, offset: 0, length: B },
      { type: 'sendReduced', to: 2, offset: 0, length: B },
    ]);
  });

  test('a rank whose shard is empty still gets the whole vector', () => {
    const machine = new AllReduce({ ...config, rank: 2, totalFloats: 2 * B });
    machine.step({ type: 'started' });
    machine.step(reduced(0, 0, 1));
    expect(machine.step(reduced(1, B, 2)).at(-1)).toEqual({ type: 'finished' });
  });

  test('refuses slots that the sender did not compute, and names the slot', () => {
    const machine = started();
    expect(rejectionOf(machine.step(fragment(1, range(3, 1), 9)), 9)).toBe(
      "foreign-slots: slot 3 is rank 2's, but rank 1 sent it",
    );
    expect(rejectionOf(machine.step(fragment(1, range(2, 2), 9)), 9)).toContain("slot 3 is rank 2's");
    expect(rejectionOf(machine.step(fragment(1, range(0, 4), 9)), 9)).toContain("slot 0 is rank 0's");
  });

  test('refuses what is no node and what is in the sum already', () => {
    const machine = started({ slotOwners: [1, 1, 1, 0] });
    machine.step(fragment(1, range(0, 2), 1));
    const refusals = [range(1, 2), range(4, 1), range(0, 0), range(1, 1), range(0, 2)].map((node) =>
      rejectionOf(machine.step(fragment(1, node, 9)), 9),
    );
    expect(refusals).toEqual([
      'not-a-node: slots 1..2: no node of the tree over 4 slots, at float 0 from rank 1',
      'not-a-node: slot 4: no node of the tree over 4 slots, at float 0 from rank 1',
      'not-a-node: slots 0..-1: no node of the tree over 4 slots, at float 0 from rank 1',
      'overlap: slot 1 is already in slots 0..1, at float 0 from rank 1',
      'overlap: slot 0 is already in slots 0..1, at float 0 from rank 1',
    ]);
  });

  test('refuses ranges that are no piece, or another rank’s, and senders that are no peer', () => {
    const machine = started();
    const kindOf = (event: Parameters<AllReduce['step']>[0]) =>
      rejectionOf(machine.step(event), 9).split(':')[0];
    expect(kindOf({ ...fragment(1, range(2, 1), 9), length: B - 1 })).toBe('unknown-piece');
    expect(kindOf(fragment(1, range(2, 1), 9, 100))).toBe('unknown-piece');
    expect(kindOf(fragment(1, range(2, 1), 9, 2 * B))).toBe('unknown-piece');
    expect(kindOf(reduced(1, 0, 9))).toBe('unknown-piece');
    expect(kindOf(reduced(1, 4 * B, 9))).toBe('unknown-piece');
    for (const from of [0, 3, -1, NaN]) expect(kindOf(fragment(from, own, 9))).toBe('foreign-rank');
    machine.step(reduced(1, 2 * B, 8));
    expect(kindOf(reduced(1, 2 * B, 9))).toBe('overlap');
  });

  test('refuses what comes before the start and after an abort', () => {
    const machine = new AllReduce(config);
    expect(rejectionOf(machine.step(fragment(1, range(2, 1), 9)), 9)).toContain('while waiting');
    machine.step({ type: 'aborted' });
    expect(machine.step({ type: 'started' })).toEqual([]);
    expect(rejectionOf(machine.step(fragment(1, range(2, 1), 9)), 9)).toContain('while aborted');
  });

  test('an abort releases the frames it holds, sums among them', () => {
    const machine = started({ slotOwners: [0, 1, 2, 1, 2, 1, 1, 1] });
    machine.step(fragment(1, range(3, 1), 1));
    machine.step(fragment(2, range(2, 1), 2));
    machine.step(fragment(1, range(6, 2), 3));
    machine.step(fragment(1, range(6, 2), 4, B));
    expect(machine.step({ type: 'aborted' })).toEqual([
      { type: 'release', frame: 2 },
      { type: 'release', frame: 3 },
      { type: 'release', frame: 4 },
    ]);
  });

  test('is started once', () => {
    expect(() => started().step({ type: 'started' })).toThrow('started once');
  });

  test('asserts a configuration that names ranks there are none of', () => {
    expect(() => new AllReduce({ ...config, rank: 3 })).toThrow('rank 3 of 3');
    expect(() => new AllReduce({ ...config, slotOwners: [0, 3] })).toThrow('slot owner 3');
  });

  test('sends 2 (N-1)/N of the vector per rank when ranges are nodes', () => {
    for (const numRanks of [1, 2, 4]) {
      const totalFloats = numRanks * 3 * B;
      const slotOwners = Array.from({ length: 8 }, (_, slot) => Math.floor((slot * numRanks) / 8));
      const leaves = slotOwners.map((_, slot) => randomFloats(totalFloats, slot));
      const cluster = new AllReduceCluster({
        numRanks,
        slotOwners,
        pieceFloats: B,
        leaves,
        precision: 'float32',
        seed: 1,
      });
      cluster.run();
      for (const { sentFloats } of cluster.ranks) {
        expect(sentFloats).toBe((2 * (numRanks - 1) * totalFloats) / numRanks);
      }
    }
  });

  describe('between hosts', () => {
    /** Two hosts of two ranks; each rank owns a piece. */
    const four = {
      ...config,
      numRanks: 4,
      hosts: [0, 0, 1, 1],
      totalFloats: 4 * B,
      slotOwners: [0, 1, 2, 3],
    };
    const sum = range(0, 2);
    const at = (offset: number) => ({ offset, length: B });
    const local = (first: number) => ({ kind: 'local', node: range(first, 1) });

    test('a rank sends its fragment to whoever leads its host, and only what is whole to other hosts', () => {
      const sends = new AllReduce(four).step({ type: 'started' });
      // Of rank 2's piece this rank is the leader itself, of rank 3's rank 1 is.
      expect(sends).toEqual([
        { type: 'sendFragment', to: 1, node: range(0, 1), from: local(0), ...at(B) },
        { type: 'sendFragment', to: 1, node: range(0, 1), from: local(0), ...at(3 * B) },
      ]);
      // Slots that are no neighbours in the tree have nothing to be added to.
      const apart = new AllReduce({ ...four, slotOwners: [0, 2, 1, 3] }).step({ type: 'started' });
      expect(apart.map((effect) => effect.type === 'sendFragment' && effect.to)).toEqual([1, 2, 3]);
    });

    test('a leader sends the sum of its host, and passes on what comes back', () => {
      const machine = started(four);
      const frame = { kind: 'frame', frame: 5 };
      expect(machine.step(fragment(1, range(1, 1), 5, 2 * B))).toEqual([
        { type: 'add', ...at(2 * B), left: local(0), right: frame, into: frame },
        { type: 'sendFragment', to: 2, node: sum, from: frame, ...at(2 * B) },
        { type: 'release', frame: 5 },
      ]);
      expect(machine.step(reduced(2, 2 * B, 6))).toEqual([
        { type: 'storeReduced', ...at(2 * B), from: { kind: 'frame', frame: 6 } },
        { type: 'release', frame: 6 },
        { type: 'sendReduced', to: 1, ...at(2 * B) },
      ]);
    });

    test('an owner sends a finished piece once to each other host', () => {
      const machine = started(four);
      machine.step(fragment(1, range(1, 1), 1));
      // Rank 2 leads its host for rank 0's piece.
      expect(machine.step(fragment(2, range(2, 2), 2)).slice(-2)).toEqual([
        { type: 'sendReduced', to: 1, ...at(0) },
        { type: 'sendReduced', to: 2, ...at(0) },
      ]);
    });

    test('refuses sums and results of those who do not speak for a host', () => {
      const machine = started(four);
      const kindOf = (event: Parameters<AllReduce['step']>[0]) =>
        rejectionOf(machine.step(event), 9).split(':')[0];
      expect(kindOf(fragment(3, range(2, 2), 9))).toBe('foreign-slots');
      expect(kindOf(fragment(2, range(0, 4), 9))).toBe('foreign-slots');
      // For rank 3's piece rank 1 is the leader, and nobody of another host asks a leader to add.
      expect(kindOf(fragment(1, range(1, 1), 9, 3 * B))).toBe('unknown-piece');
      expect(kindOf(fragment(3, range(3, 1), 9, 2 * B))).toBe('unknown-piece');
      expect(kindOf(reduced(2, 3 * B, 9))).toBe('unknown-piece');
      expect(kindOf(reduced(3, 3 * B, 9))).toBe('unknown-piece');
      expect(machine.awaited?.piece.offset).toBe(0);
    });

    test('sends 2 (H-1)/H of the vector per host, however many ranks it has, when its slots are a node', () => {
      for (const [numHosts, perHost] of [
        [2, 1],
        [2, 4],
        [4, 2],
      ] as const) {
        const numRanks = numHosts * perHost;
        const totalFloats = numRanks * 2 * B;
        // The ranks of a host are no neighbours, and have every other slot of its node.
        const hosts = Array.from({ length: numRanks }, (_, rank) => rank % numHosts);
        const slotOwners = Array.from({ length: numRanks * 2 }, (_, slot) => {
          const host = Math.floor(slot / (perHost * 2));
          return host + numHosts * (slot % perHost);
        });
        const cluster = new AllReduceCluster({
          ...{ numRanks, hosts, slotOwners, pieceFloats: B, precision: 'float32', seed: 3 },
          leaves: slotOwners.map((_, slot) => randomFloats(totalFloats, slot)),
        });
        cluster.run();
        for (let host = 0; host < numHosts; host += 1) {
          const ranks = cluster.ranks.filter((_, rank) => hosts[rank] === host);
          const far = ranks.reduce((total, { sentFarFloats }) => total + sentFarFloats, 0);
          expect(far, `host ${host} of ${numHosts} with ${perHost} ranks`).toBe(
            (2 * (numHosts - 1) * totalFloats) / numHosts,
          );
        }
      }
    });
  });

  test('sameAttempt compares all three numbers', () => {
    expect(sameAttempt(identity, { ...identity })).toBe(true);
    for (const name of ['generation', 'step', 'attempt'] as const) {
      expect(sameAttempt(identity, { ...identity, [name]: 99 })).toBe(false);
    }
  });
});
