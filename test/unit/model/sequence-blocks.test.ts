import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { groupByLength, planBlocks, wholeBatch } from '../../../src/model/sequence-blocks.ts';

const lengthsOfBatch = fc.array(fc.integer({ min: 0, max: 700 }), { minLength: 1, maxLength: 20 });

describe('sequences of different lengths', () => {
  it('are grouped so that each is in one block, for fewer scores than in a single one', () => {
    fc.assert(
      fc.property(lengthsOfBatch, (list) => {
        const lengths = Int32Array.from(list);
        const groups = groupByLength(lengths);
        expect(groups.flat().sort((a, b) => a - b)).toEqual([...lengths.keys()]);
        expect(groups.every((group) => group.length > 0)).toBe(true);
        const scores = (of: readonly (readonly number[])[]) =>
          of.reduce((sum, group) => sum + group.length * Math.max(...group.map((at) => list[at]!)) ** 2, 0);
        if (groups.length > 1) expect(scores(groups)).toBeLessThan(scores(wholeBatch(list.length)));
        // Sequences of a block are neighbours in length.
        const longest = groups.map((group) => Math.max(...group.map((at) => list[at]!)));
        const shortest = groups.map((group) => Math.min(...group.map((at) => list[at]!)));
        if (groups.length < list.length) {
          for (let at = 1; at < groups.length; at += 1) {
            expect(shortest[at]).toBeGreaterThanOrEqual(longest[at - 1]!);
          }
        }
      }),
    );
  });

  it('are blocked only where they are long and unequal enough', () => {
    expect(groupByLength(Int32Array.of(128, 128, 128, 128))).toEqual([[0, 1, 2, 3]]);
    expect(groupByLength(Int32Array.of(40, 20, 60, 30))).toEqual([[0, 1, 2, 3]]);
    expect(groupByLength(Int32Array.of(400, 40, 90, 200))).toEqual([[0], [1], [2], [3]]);
    expect(groupByLength(Int32Array.of(500, 30, 20, 400, 10, 450))).toEqual([[4, 2], [1], [3, 5], [0]]);
  });

  it('lie each row in one place of a block of their group, and padding after them', () => {
    const groupings = lengthsOfBatch.chain((list) =>
      fc.record({
        list: fc.constant(list),
        groups: fc.constantFrom(wholeBatch(list.length), groupByLength(Int32Array.from(list)), [
          ...list.map((_, sequence) => [sequence]),
        ]),
      }),
    );
    fc.assert(
      fc.property(groupings, ({ list, groups }) => {
        const { blocks, rows, places } = planBlocks(Int32Array.from(list), groups);
        expect(blocks.map(({ batchSize }) => batchSize)).toEqual(groups.map(({ length }) => length));
        const expected: number[] = [];
        groups.forEach((group, block) => {
          for (const sequence of group) {
            const first = list.slice(0, sequence).reduce((sum, length) => sum + length, 0);
            for (let row = 0; row < blocks[block]!.length; row += 1) {
              expected.push(row < list[sequence]! ? first + row : -1);
            }
          }
        });
        expect([...rows]).toEqual(expected);
        expect([...places]).toEqual([...places.keys()].map((row) => expected.indexOf(row)));
      }),
      { numRuns: 30 },
    );
  });
});
