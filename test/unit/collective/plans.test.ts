/** The cut of a step into ranges and of the vector into shards and pieces. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SlotRange } from '../../../src/base/index.ts';
import { isNode, planMissing, planPieces, planRanges, planShards } from '../../../src/collective/index.ts';
import { BLOCK_FLOATS } from '../../../src/kernels/index.ts';

const slotsOf = (ranges: readonly SlotRange[]): number[] =>
  ranges.flatMap(({ first, count }) => Array.from({ length: count }, (_, index) => first + index));
const textOf = (ranges: readonly SlotRange[]): string =>
  ranges.map(({ first, count }) => `${first}+${count}`).join(' ');
const ascending = (numbers: readonly number[]): number[] => [...numbers].sort((a, b) => a - b);

const speedsOf = fc.array(fc.double({ min: 0.1, max: 10, noNaN: true }), { minLength: 1, maxLength: 8 });
const sizes = fc.oneof(fc.integer({ min: 1, max: 64 }), fc.constantFrom(1000, 4096));

/** When the last worker is done, each taking the next range whenever it is free. */
function makespan(ranges: readonly SlotRange[], speeds: readonly number[]): number {
  const freeAt = speeds.map(() => 0);
  for (const { count } of ranges) {
    const worker = freeAt.indexOf(Math.min(...freeAt));
    freeAt[worker]! += count / speeds[worker]!;
  }
  return Math.max(...freeAt);
}

describe('planRanges', () => {
  test('gives like workers one range each where the number of slots allows', () => {
    expect(textOf(planRanges(24, [1, 1, 1]))).toBe('0+8 8+8 16+8');
    expect(textOf(planRanges(16, [10, 11.4]))).toBe('0+8 8+8');
    expect(textOf(planRanges(8, [3]))).toBe('0+8');
    expect(textOf(planRanges(12, [1, 1]))).toBe('0+6 6+6');
  });

  test('otherwise cuts along the tree, small ranges last', () => {
    expect(textOf(planRanges(8, [1, 1, 1]))).toBe('0+2 2+2 4+1 5+1 6+1 7+1');
    expect(textOf(planRanges(16, [1, 2]))).toBe('0+4 4+4 8+2 10+2 12+1 13+1 14+1 15+1');
    expect(textOf(planRanges(3, [1, 1, 1, 1, 1]))).toBe('0+1 1+1 2+1');
  });

  test('does not lose a slot of a share to rounding', () => {
    // 10 * (0.3 / 1.5) in float64, summed one by one, is just below 2.
    const slots = Array.from({ length: 10 }, (_, slot) => slot);
    expect(planMissing(10, slots, [0.3, 0.3, 0.3, 0.3, 0.3])[0]).toEqual({ first: 0, count: 2 });
  });

  test('holds every slot once, in nodes no longer than the slowest fair share, longest first', () => {
    fc.assert(
      fc.property(sizes, speedsOf, (numSlots, speeds) => {
        const ranges = planRanges(numSlots, speeds);
        expect(ascending(slotsOf(ranges))).toEqual(Array.from({ length: numSlots }, (_, slot) => slot));
        const sum = speeds.reduce((total, speed) => total + speed, 0);
        const share = (numSlots * Math.min(...speeds)) / sum;
        const alike = Math.max(...speeds) / Math.min(...speeds) <= 1.15;
        if (alike && numSlots % speeds.length === 0) return;
        ranges.forEach((range, index) => {
          expect(isNode(numSlots, range)).toBe(true);
          expect(range.count).toBeLessThanOrEqual(Math.max(1, share + 1e-6));
          expect(range.count).toBeLessThanOrEqual(ranges[index - 1]?.count ?? Infinity);
        });
      }),
      { numRuns: 300 },
    );
  });

  test('ends at most one slot of the slowest worker after a perfect division', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), speedsOf, (numSlots, speeds) => {
        const slowest = Math.min(...speeds);
        const sum = speeds.reduce((total, speed) => total + speed, 0);
        const alike = Math.max(...speeds) / slowest <= 1.15;
        // One range each by design: as late as the slowest worker's whole share.
        fc.pre(!(alike && numSlots % speeds.length === 0));
        const perfect = numSlots / sum;
        expect(makespan(planRanges(numSlots, speeds), speeds)).toBeLessThanOrEqual(
          perfect + 1 / slowest + 1e-9,
        );
      }),
      { numRuns: 300 },
    );
  });

  test('refuses a plan without workers or with a speed that is none', () => {
    expect(() => planRanges(8, [])).toThrow('at least one worker');
    for (const speed of [0, -1, NaN, Infinity]) expect(() => planRanges(8, [1, speed])).toThrow('speed');
  });
});

describe('planMissing', () => {
  test('cuts what a lost worker leaves', () => {
    expect(textOf(planMissing(24, [8, 9, 10, 11, 12, 13, 14, 15], [1, 1]))).toBe('8+4 12+2 14+1 15+1');
    expect(textOf(planMissing(24, [3, 16, 17, 18, 19], [1]))).toBe('16+4 3+1');
    // The long run is cut while there is much left, though single slots come before it.
    expect(textOf(planMissing(24, [1, 3, 5, 16, 17, 18, 19], [1, 1]))).toBe('16+2 18+2 1+1 3+1 5+1');
    expect(planMissing(24, [], [1, 1])).toEqual([]);
  });

  test('holds the missing slots, each once, and no other', () => {
    const cases = fc.integer({ min: 1, max: 64 }).chain((numSlots) =>
      fc.record({
        numSlots: fc.constant(numSlots),
        missing: fc.subarray(Array.from({ length: numSlots }, (_, slot) => slot)),
      }),
    );
    fc.assert(
      fc.property(cases, speedsOf, ({ numSlots, missing }, speeds) => {
        const ranges = planMissing(numSlots, missing, speeds);
        expect(ascending(slotsOf(ranges))).toEqual(missing);
        for (const range of ranges) expect(isNode(numSlots, range)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe('planShards and planPieces', () => {
  test('cut the vector in order at block boundaries, evenly to a block', () => {
    fc.assert(
      fc.property(
        fc.nat(40 * BLOCK_FLOATS),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 5 }),
        (...sizes) => {
          const [totalFloats, numRanks, pieceBlocks] = sizes;
          const shards = planShards(totalFloats, numRanks, pieceBlocks * BLOCK_FLOATS);
          const pieces = planPieces(totalFloats, numRanks, pieceBlocks * BLOCK_FLOATS);
          expect(shards.length).toBe(numRanks);
          let at = 0;
          shards.forEach((shard, owner) => {
            expect(shard.offset).toBe(at);
            if (shard.length > 0) expect(shard.offset % BLOCK_FLOATS).toBe(0);
            for (const piece of pieces[owner]!) {
              expect(piece.owner).toBe(owner);
              expect(piece.offset).toBe(at);
              expect(piece.offset % BLOCK_FLOATS).toBe(0);
              expect(piece.length).toBeGreaterThan(0);
              expect(piece.length).toBeLessThanOrEqual(pieceBlocks * BLOCK_FLOATS);
              at += piece.length;
            }
            expect(at).toBe(shard.offset + shard.length);
          });
          expect(at).toBe(totalFloats);
          const owners = shards.filter(({ length }) => length > 0);
          const blocks = owners.map(({ length }) => Math.ceil(length / BLOCK_FLOATS));
          expect(Math.max(0, ...blocks) - Math.min(...blocks, 40)).toBeLessThanOrEqual(1);
        },
      ),
    );
  });

  test('leave the last ranks empty when there are fewer blocks than ranks', () => {
    expect(planShards(5000, 4, BLOCK_FLOATS)).toEqual([
      { offset: 0, length: 4096 },
      { offset: 4096, length: 904 },
      { offset: 5000, length: 0 },
      { offset: 5000, length: 0 },
    ]);
    expect(planPieces(0, 2, BLOCK_FLOATS)).toEqual([[], []]);
  });

  test('have each owner take in a quarter of a piece, if there are several', () => {
    const pieceFloats = 256 * BLOCK_FLOATS;
    const ownersOf = (totalFloats: number, numRanks: number) =>
      planShards(totalFloats, numRanks, pieceFloats).filter(({ length }) => length > 0).length;
    // Up to this length one owner of two takes in less.
    expect([1, 100 * BLOCK_FLOATS, 128 * BLOCK_FLOATS].map((floats) => ownersOf(floats, 2))).toEqual([
      1, 1, 2,
    ]);
    // With more ranks more comes in.
    expect([2, 3, 4, 8, 64].map((numRanks) => ownersOf(64 * BLOCK_FLOATS, numRanks))).toEqual([
      1, 2, 3, 7, 63,
    ]);
    expect(ownersOf(0, 4)).toBe(0);
  });

  test('refuse pieces that would split a block', () => {
    expect(() => planPieces(100, 1, 1000)).toThrow('pieces of 1000 floats');
    expect(() => planPieces(100, 1, 0)).toThrow('pieces of 0 floats');
  });
});
