/** The reduction tree against its naive twin. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  childrenOf,
  commonHeight,
  isNode,
  largestNodeAt,
  maximalSubtrees,
  parentOf,
  rootOf,
  siblingOf,
} from '../../../src/collective/index.ts';
import { naiveSubtrees, naiveTree, nodesOf } from '../../support/naive-reduction.ts';

const SIZES = Array.from({ length: 40 }, (_, index) => index + 1);
const nameOf = ({ first, count }: { first: number; count: number }): string => `${first}+${count}`;

describe('reduction tree', () => {
  test('has the nodes of its definition and no others', () => {
    for (const numSlots of SIZES) {
      const names = new Set(nodesOf(naiveTree(numSlots)).map(nameOf));
      for (let first = -1; first <= numSlots + 1; first += 1) {
        for (let count = 0; count <= numSlots + 1; count += 1) {
          expect(isNode(numSlots, { first, count }), `${first}+${count} of ${numSlots}`).toBe(
            names.has(`${first}+${count}`),
          );
        }
      }
    }
  });

  test('refuses numbers that are no slots, as a damaged message may hold', () => {
    for (const bad of [NaN, 0.5, Infinity, -Infinity, 2 ** 53]) {
      expect(isNode(24, { first: bad, count: 1 })).toBe(false);
      expect(isNode(24, { first: 0, count: bad })).toBe(false);
    }
  });

  test('knows children, parents and siblings', () => {
    for (const numSlots of SIZES) {
      for (const node of nodesOf(naiveTree(numSlots))) {
        if (node.children === null) {
          expect(childrenOf(node)).toBeNull();
          continue;
        }
        const [left, right] = node.children.map(({ first, count }) => ({ first, count }));
        expect(childrenOf(node)).toEqual({ left, right });
        expect(parentOf(numSlots, left!)).toMatchObject({ first: node.first, count: node.count });
        expect(parentOf(numSlots, right!)).toMatchObject({ first: node.first, count: node.count });
        expect(siblingOf(numSlots, left!)).toEqual(right);
        expect(siblingOf(numSlots, right!)).toEqual(left);
      }
      expect(parentOf(numSlots, rootOf(numSlots))).toBeNull();
      expect(siblingOf(numSlots, rootOf(numSlots))).toBeNull();
    }
  });

  test('finds the largest node at a slot', () => {
    for (const numSlots of SIZES) {
      const nodes = nodesOf(naiveTree(numSlots));
      for (let first = 0; first < numSlots; first += 1) {
        for (const countMax of [1, 2, 3, 5, 8, 40]) {
          const counts = nodes.filter((node) => node.first === first && node.count <= countMax);
          expect(largestNodeAt(numSlots, first, countMax).count).toBe(
            Math.max(...counts.map(({ count }) => count)),
          );
        }
      }
    }
  });

  test('knows how high the smallest node over two ranges is', () => {
    for (const numSlots of [1, 2, 6, 8, 13]) {
      const nodes = nodesOf(naiveTree(numSlots));
      for (const a of nodes) {
        for (const b of nodes) {
          const [first, end] = [Math.min(a.first, b.first), Math.max(a.first + a.count, b.first + b.count)];
          const over = nodes
            .filter((node) => node.first <= first && node.first + node.count >= end)
            .map(({ count }) => count);
          const block = 2 ** commonHeight(a, b);
          const begin = Math.floor(first / block) * block;
          expect(Math.min(numSlots, begin + block) - begin).toBe(Math.min(...over));
        }
      }
    }
  });

  test('is shallow at the largest size allowed', () => {
    expect(parentOf(65_535, { first: 65_534, count: 1 })).toEqual({ first: 65_532, count: 3 });
    expect(maximalSubtrees(65_536, [65_535])).toEqual([{ first: 65_535, count: 1 }]);
  });

  test('asserts that a range whose parent is asked for is a node', () => {
    expect(() => parentOf(24, { first: 1, count: 2 })).toThrow('slots 1+2 are no node');
    expect(() => rootOf(0)).toThrow('0 slots');
  });
});

describe('maximalSubtrees', () => {
  test('equals its naive twin for any slots', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.nat(2 ** 31 - 1),
        fc.nat(99),
        (numSlots, seed, density) => {
          const slots = Array.from({ length: numSlots }, (_, slot) => slot).filter(
            (slot) => Math.imul(seed + slot, 0x9e3779b1) >>> 0 < (density / 100) * 2 ** 32,
          );
          expect(maximalSubtrees(numSlots, slots)).toEqual(
            naiveSubtrees(naiveTree(numSlots), new Set(slots)),
          );
        },
      ),
      { numRuns: 500 },
    );
  });

  test('refuses slots out of order, given twice or beyond the step', () => {
    expect(() => maximalSubtrees(8, [3, 2])).toThrow('slot 2 is out of order');
    expect(() => maximalSubtrees(8, [3, 3])).toThrow('slot 3 is out of order');
    expect(() => maximalSubtrees(8, [8])).toThrow('slot 8 is not below 8');
  });
});
