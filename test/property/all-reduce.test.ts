/**
 * Same bits and exactly once (DESIGN section 1), in the collective: any number of ranks, any placement
 * of slots and of ranks on hosts, any order of arrival gives the bits of the naive recursion over the tree, at every rank;
 * and whatever comes twice, too little or from the wrong rank never gets into a sum.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PhiloxRng } from '../../src/base/index.ts';
import { GRADIENT_PRECISIONS } from '../../src/config/index.ts';
import { BLOCK_FLOATS } from '../../src/kernels/index.ts';
import { AllReduceCluster, type ClusterOptions } from '../support/all-reduce-cluster.ts';
import { emptyFloats, firstDifference, randomFloats } from '../support/floats.ts';
import { flushIntoTwin } from '../support/kernel-twins.ts';
import { naiveSum, naiveTree } from '../support/naive-reduction.ts';

/** Less than a block, whole blocks, a short last one, more ranks than blocks. */
const LENGTHS = [0, 1, 37, 4095, 4096, 4097, 9000, 5 * BLOCK_FLOATS, 6 * BLOCK_FLOATS + 1];

const clusters = fc
  .record({
    numSlots: fc.integer({ min: 1, max: 40 }),
    numRanks: fc.integer({ min: 1, max: 6 }),
    totalFloats: fc.constantFrom(...LENGTHS),
    pieceBlocks: fc.integer({ min: 1, max: 3 }),
    precision: fc.constantFrom(...GRADIENT_PRECISIONS),
    placement: fc.constantFrom('scattered', 'contiguous', 'one rank'),
    numHosts: fc.integer({ min: 1, max: 6 }),
    seed: fc.nat(2 ** 31 - 1),
  })
  .map(
    ({
      numSlots,
      numRanks,
      numHosts,
      totalFloats,
      pieceBlocks,
      precision,
      placement,
      seed,
    }): ClusterOptions => {
      const rng = new PhiloxRng({ seed, stream: 'sampling', substream: 2, step: 0, slot: 0 });
      const lone = rng.nextInt(numRanks);
      const slotOwners = Array.from({ length: numSlots }, (_, slot) => {
        if (placement === 'one rank') return lone;
        if (placement === 'contiguous') return Math.floor((slot * numRanks) / numSlots);
        return rng.nextInt(numRanks);
      });
      const hosts = Array.from({ length: numRanks }, () => rng.nextInt(numHosts));
      const leaves = slotOwners.map((_, slot) => {
        // Some special values, but no infinity or NaN: those have tests of their own.
        const raw = randomFloats(totalFloats, seed + slot, { specials: 0.02 });
        const leaf = emptyFloats(totalFloats);
        flushIntoTwin(
          leaf,
          raw.map((value) => (Number.isFinite(value) ? value : 1)),
          precision,
        );
        return leaf;
      });
      return {
        numRanks,
        hosts,
        slotOwners,
        pieceFloats: pieceBlocks * BLOCK_FLOATS,
        leaves,
        precision,
        seed,
      };
    },
  );

const expectedOf = ({ leaves, precision }: ClusterOptions): Float32Array =>
  naiveSum(naiveTree(leaves.length), leaves, precision);

function expectReduced(cluster: AllReduceCluster, expected: Float32Array): void {
  for (const rank of cluster.ranks) {
    expect(firstDifference(rank.reduced, expected)).toBeNull();
    expect(rank.machine.phase).toBe('finished');
    expect(rank.numFinished).toBe(1);
    expect(rank.frames.size).toBe(0);
  }
}

describe('all-reduce', () => {
  test('gives the bits of the naive tree at every rank', () => {
    fc.assert(
      fc.property(clusters, (options) => {
        const cluster = new AllReduceCluster(options);
        cluster.run();
        expectReduced(cluster, expectedOf(options));
        for (const rank of cluster.ranks) expect(rank.rejections).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  test('refuses everything that is delivered a second time', () => {
    fc.assert(
      fc.property(clusters, fc.nat(), (options, pick) => {
        const cluster = new AllReduceCluster(options);
        for (let rank = 0; rank < options.numRanks; rank += 1) cluster.start(rank);
        let numRepeated = 0;
        for (let count = 0; cluster.inFlight.length > 0; count += 1) {
          const message = cluster.inFlight[(pick + count * 7919) % cluster.inFlight.length]!;
          cluster.deliver(message);
          const { rejections } = cluster.ranks[message.to]!;
          cluster.deliver(message);
          numRepeated += 1;
          expect(['overlap', 'not-reducing']).toContain(rejections.at(-1)?.kind);
        }
        expectReduced(cluster, expectedOf(options));
        expect(cluster.ranks.reduce((sum, { rejections }) => sum + rejections.length, 0)).toBe(numRepeated);
      }),
      { numRuns: 50 },
    );
  });

  test('never finishes at the rank that a message did not reach, nor at those that wait for it', () => {
    fc.assert(
      fc.property(clusters, fc.nat(), (options, pick) => {
        const cluster = new AllReduceCluster(options);
        for (let rank = 0; rank < options.numRanks; rank += 1) cluster.start(rank);
        fc.pre(cluster.inFlight.length > 0);
        const [lost] = cluster.inFlight.splice(pick % cluster.inFlight.length, 1);
        cluster.run();
        expect(cluster.ranks[lost!.to]!.machine.phase).toBe('reducing');
        if (lost!.event.type === 'fragmentArrived') {
          for (const rank of cluster.ranks) expect(rank.machine.phase).toBe('reducing');
        }
      }),
      { numRuns: 50 },
    );
  });

  test('a void attempt leaves nothing behind, and the next gives the same bits', () => {
    fc.assert(
      fc.property(clusters, fc.nat(200), (options, numDelivered) => {
        const voided = new AllReduceCluster(options);
        for (let rank = 0; rank < options.numRanks; rank += 1) voided.start(rank);
        for (let count = 0; count < numDelivered && voided.inFlight.length > 0; count += 1) {
          voided.deliver(voided.inFlight[(count * 31) % voided.inFlight.length]!);
        }
        voided.ranks.forEach(({ machine, frames }, rank) => {
          const hadFinished = machine.phase === 'finished';
          voided.step(rank, { type: 'aborted' });
          voided.step(rank, { type: 'aborted' });
          expect(machine.phase).toBe(hadFinished ? 'finished' : 'aborted');
          expect(frames.size).toBe(0);
        });
        // Stragglers of the void attempt change nothing.
        for (const message of [...voided.inFlight]) voided.deliver(message);
        for (const { frames, rejections } of voided.ranks) {
          expect(frames.size).toBe(0);
          for (const { kind } of rejections) expect(kind).toBe('not-reducing');
        }
        // The members that are left do the slots of the last rank too.
        const numRanks = Math.max(1, options.numRanks - 1);
        const slotOwners = options.slotOwners.map((owner, slot) =>
          owner < numRanks ? owner : slot % numRanks,
        );
        const hosts = options.hosts!.slice(0, numRanks);
        const next = new AllReduceCluster({ ...options, numRanks, hosts, slotOwners });
        next.run();
        expectReduced(next, expectedOf(options));
      }),
      { numRuns: 50 },
    );
  });
});
