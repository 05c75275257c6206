/** Ranges of one host are kept together in the tree, whoever comes to the queue first. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PhiloxRng } from '../../../src/base/index.ts';
import { isNode, maximalSubtrees } from '../../../src/collective/index.ts';
import { type Ledger, lease, openLedger } from '../../../src/coordinator/ledger.ts';
import { placeNearHost } from '../../../src/coordinator/placement.ts';

/** 'b3' is a worker of host b. */
const isOnHostOf = (worker: string) => (holder: string) => holder[0] === worker[0];

/** Workers take the next job from the queue one after the other. */
function leasedBy(before: Ledger, workers: readonly string[]): Ledger {
  let ledger = before;
  for (const worker of workers) {
    const { id } = ledger.ranges.find(({ holder }) => holder === null)!;
    const verdict = lease(placeNearHost(ledger, id, isOnHostOf(worker)), id, worker, 0);
    if (!verdict.granted) throw new Error(verdict.reason);
    ledger = verdict.ledger;
  }
  return ledger;
}

const slotsOf = (ledger: Ledger, takes: (holder: string) => boolean) =>
  ledger.ranges
    .filter(({ holder }) => holder !== null && takes(holder))
    .flatMap(({ first, count }) => Array.from({ length: count }, (_, place) => first + place))
    .sort((a, b) => a - b);

function workersOf(numHosts: number, perHost: number, seed: number): string[] {
  const rng = new PhiloxRng({ seed, stream: 'sampling', substream: 8, step: 0, slot: 0 });
  const names = Array.from({ length: numHosts * perHost }, (_, worker) => {
    return `${'abcdefgh'[worker % numHosts]}${worker}`;
  });
  return [...rng.permutation(names.length)].map((index) => names[index]!);
}

describe('placement', () => {
  test('gives like hosts a node each, in whatever order their workers come', () => {
    const powers = fc.constantFrom(1, 2, 4, 8);
    fc.assert(
      fc.property(powers, powers, powers, fc.nat(10_000), (numHosts, perHost, each, seed) => {
        const workers = workersOf(numHosts, perHost, seed);
        const numSlots = workers.length * each;
        const speeds = workers.map(() => 1);
        const ledger = leasedBy(openLedger('run', 1, 1, numSlots, speeds), workers);
        for (const worker of workers) {
          expect(maximalSubtrees(numSlots, slotsOf(ledger, isOnHostOf(worker)))).toHaveLength(1);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('keeps every slot in one range, and each job as long as it was', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 5 }),
        fc.nat(10_000),
        (numSlots, numHosts, perHost, seed) => {
          const workers = workersOf(numHosts, perHost, seed);
          const before = openLedger(
            'run',
            1,
            1,
            numSlots,
            workers.map((_, index) => 1 + (index % 3)),
          );
          const takers = before.ranges.map((_, index) => workers[index % workers.length]!);
          const after = leasedBy(before, takers);
          expect(slotsOf(after, () => true)).toEqual(Array.from({ length: numSlots }, (_, slot) => slot));
          for (const [index, { id, count, first }] of after.ranges.entries()) {
            expect({ id, count }).toEqual({
              id: before.ranges[index]!.id,
              count: before.ranges[index]!.count,
            });
            // Equally long ranges of a plan are nodes, or none of them is.
            if (before.ranges.every((range) => isNode(numSlots, range))) {
              expect(isNode(numSlots, { first, count })).toBe(true);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('leaves a job its own range when no other lies better, and one that is held in any case', () => {
    const open = openLedger('run', 1, 1, 8, [1, 1, 1, 1]);
    const [first, second, third] = open.ranges;
    expect(placeNearHost(open, third!.id, isOnHostOf('a1'))).toBe(open);
    const held = leasedBy(open, ['a1']);
    expect(placeNearHost(held, second!.id, isOnHostOf('a2'))).toBe(held);
    expect(placeNearHost(held, first!.id, isOnHostOf('b1'))).toBe(held);
    expect(placeNearHost(held, 'run-1-1-9-0-2', isOnHostOf('b1'))).toBe(held);
    // The other half for another host: the job keeps its name.
    const placed = placeNearHost(held, second!.id, isOnHostOf('b1'));
    expect(placed.ranges.map((range) => range.first)).toEqual([0, 4, 2, 6]);
    expect(placed.ranges.map(({ id }) => id)).toEqual(open.ranges.map(({ id }) => id));
  });
});
