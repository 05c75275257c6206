/** The coverage check: any order of arrival gives the tree's merges, and no slot comes in twice. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SlotRange } from '../../../src/base/index.ts';
import { FragmentSet } from '../../../src/collective/index.ts';
import { naiveSubtrees, naiveTree, nodesOf } from '../../support/naive-reduction.ts';

const range = (first: number, count: number): SlotRange => ({ first, count });

/** Slots in an order drawn by fast-check. */
const shuffledSlots = fc.integer({ min: 1, max: 40 }).chain((numSlots) =>
  fc.shuffledSubarray(
    Array.from({ length: numSlots }, (_, slot) => slot),
    { minLength: numSlots },
  ),
);

describe('FragmentSet', () => {
  test('adds up each inner node once, after its children, whatever the order', () => {
    fc.assert(
      fc.property(shuffledSlots, (slots) => {
        const set = new FragmentSet(slots.length);
        const present = new Set<string>();
        const added = new Set<number>();
        for (const slot of slots) {
          const result = set.add(range(slot, 1));
          if (!result.accepted) throw new Error(result.error.message);
          added.add(slot);
          present.add(`${slot}+1`);
          for (const { left, right, parent } of result.merges) {
            expect(left.first + left.count).toBe(right.first);
            for (const child of [left, right]) {
              expect(present.delete(`${child.first}+${child.count}`)).toBe(true);
            }
            present.add(`${parent.first}+${parent.count}`);
          }
          expect(set.fragments).toEqual(naiveSubtrees(naiveTree(slots.length), added));
          expect(set.complete).toBe(added.size === slots.length);
        }
        expect(present).toEqual(new Set([`0+${slots.length}`]));
      }),
    );
  });

  test('accepts a node exactly when it is one and overlaps nothing, and stays as it was otherwise', () => {
    const tries = fc.array(fc.tuple(fc.nat(24), fc.nat(24)), { maxLength: 60 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 24 }), tries, (numSlots, attempts) => {
        const names = new Set(nodesOf(naiveTree(numSlots)).map(({ first, count }) => `${first}+${count}`));
        const set = new FragmentSet(numSlots);
        const covered = new Set<number>();
        for (const [first, count] of attempts) {
          const slots = Array.from({ length: count }, (_, index) => first + index);
          const isNode = names.has(`${first}+${count}`);
          const free = slots.every((slot) => !covered.has(slot));
          const before = [...set.fragments];
          const result = set.add(range(first, count));
          expect(result.accepted).toBe(isNode && free);
          if (result.accepted) {
            for (const slot of slots) covered.add(slot);
          } else {
            expect(result.error.kind).toBe(isNode ? 'overlap' : 'not-a-node');
            if (isNode) expect(result.error.slot).toBe(slots.find((slot) => covered.has(slot)));
            expect(set.fragments).toEqual(before);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('names the slots at fault', () => {
    const set = new FragmentSet(24);
    set.add(range(4, 2));
    set.add(range(16, 8));
    const messageOf = (node: SlotRange): string => {
      const result = set.add(node);
      return result.accepted ? 'accepted' : result.error.message;
    };
    expect(messageOf(range(5, 1))).toBe('slot 5 is already in slots 4..5');
    expect(messageOf(range(0, 8))).toBe('slot 4 is already in slots 4..5');
    expect(messageOf(range(16, 8))).toBe('slot 16 is already in slots 16..23');
    expect(messageOf(range(1, 2))).toBe('slots 1..2: no node of the tree over 24 slots');
    expect(messageOf(range(24, 1))).toBe('slot 24: no node of the tree over 24 slots');
  });

  test('a root that comes whole is complete without a merge', () => {
    const set = new FragmentSet(6);
    expect(set.add(range(0, 6))).toEqual({ accepted: true, merges: [] });
    expect(set.complete).toBe(true);
    expect(new FragmentSet(6).complete).toBe(false);
  });
});
