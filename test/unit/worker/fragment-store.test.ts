/** A worker's own sums: any slots in any order leave the fragments and bits of the naive tree. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PhiloxRng } from '../../../src/base/index.ts';
import { createKernels } from '../../../src/kernels/index.ts';
import { FragmentStore } from '../../../src/worker/fragment-store.ts';
import { emptyFloats, firstDifference, randomFloats } from '../../support/floats.ts';
import { addSlot } from '../../support/fragment-slots.ts';
import { flushIntoTwin } from '../../support/kernel-twins.ts';
import {
  type NaiveNode,
  naiveSubtrees,
  naiveSum,
  naiveTree,
  nodesOf,
} from '../../support/naive-reduction.ts';

const FLOATS = 4100;
const kernels = createKernels();

function leafOf(slot: number, seed: number): Float32Array {
  const leaf = randomFloats(FLOATS, seed * 100 + slot, { specials: 0.02 });
  return leaf.map((value) => (Number.isFinite(value) ? value : 1));
}

function flushed(leaf: Float32Array): Float32Array {
  const result = emptyFloats(leaf.length);
  flushIntoTwin(result, leaf);
  return result;
}

function filled(value: number): Float32Array {
  return new Float32Array(8).fill(value);
}

describe('FragmentStore', () => {
  test('holds the maximal subtrees of its slots, with the bits of the naive sum', () => {
    const cases = fc.record({
      microBatches: fc.integer({ min: 1, max: 20 }),
      share: fc.integer({ min: 1, max: 10 }),
      seed: fc.nat(1000),
    });
    fc.assert(
      fc.property(cases, ({ microBatches, share, seed }) => {
        const rng = new PhiloxRng({ seed, stream: 'sampling', substream: 4, step: 0, slot: 0 });
        const slots = [...rng.permutation(microBatches)].filter(() => rng.nextInt(10) < share);
        const leaves = Array.from({ length: microBatches }, (_, slot) => leafOf(slot, seed));
        const store = new FragmentStore(kernels, FLOATS, microBatches);
        for (const slot of slots) addSlot(store, slot, leaves[slot]!);
        const tree = naiveTree(microBatches);
        const expected = naiveSubtrees(tree, new Set(slots));
        expect(store.fragments().map(({ first, count }) => ({ first, count }))).toEqual(expected);
        const nodes = nodesOf(tree);
        const flushedLeaves = leaves.map(flushed);
        for (const { first, count, value } of store.fragments()) {
          const node = nodes.find((found: NaiveNode) => found.first === first && found.count === count)!;
          expect(firstDifference(value, naiveSum(node, flushedLeaves))).toBeNull();
          // The other thread of the worker sends from it.
          expect(value.buffer).toBeInstanceOf(SharedArrayBuffer);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('takes sums of several slots in, with the bits of slots that came one by one', () => {
    const slots = [...Array(13).keys()];
    const whole = new FragmentStore(kernels, FLOATS, 13);
    const inRanges = new FragmentStore(kernels, FLOATS, 13);
    for (const range of [slots.slice(7, 11), slots.slice(0, 3), slots.slice(11), slots.slice(3, 7)]) {
      const ofRange = new FragmentStore(kernels, FLOATS, 13);
      for (const slot of range) {
        addSlot(whole, slot, leafOf(slot, 5));
        addSlot(ofRange, slot, leafOf(slot, 5));
      }
      for (const { first, count, value } of ofRange.fragments()) {
        const target = inRanges.leaf();
        target.set(value);
        inRanges.addNode({ first, count }, target);
      }
    }
    expect(inRanges.fragments().map(({ first, count }) => [first, count])).toEqual([[0, 13]]);
    expect(firstDifference(inRanges.fragments()[0]!.value, whole.fragments()[0]!.value)).toBeNull();
    expect(() => inRanges.addNode({ first: 4, count: 4 }, inRanges.leaf())).toThrow('slot 4');
  });

  test('refuses a slot that it holds, alone or within a sum', () => {
    const store = new FragmentStore(kernels, 8, 4);
    for (const slot of [0, 1, 3]) addSlot(store, slot, filled(1));
    for (const slot of [0, 1, 3])
      expect(() => store.add(slot, store.leaf())).toThrow(`slot ${slot} is already in`);
    expect(() => store.add(4, store.leaf())).toThrow('slot 4');
  });

  test('forgets all when it is cleared, and writes into memory it has', () => {
    const store = new FragmentStore(kernels, 8, 4);
    const memory = new Set<ArrayBufferLike>();
    for (let step = 0; step < 10; step += 1) {
      for (const slot of [2, 0, 3, 1]) {
        const leaf = store.leaf();
        memory.add(leaf.buffer);
        leaf.fill(slot + step);
        store.add(slot, leaf);
      }
      expect(store.fragments()).toMatchObject([{ first: 0, count: 4 }]);
      expect([...store.fragments()[0]!.value]).toEqual(new Array(8).fill(6 + 4 * step));
      store.clear();
      expect(store.fragments()).toEqual([]);
    }
    // Slots 2, 0 and 3 before the first sum: never more at once.
    expect(memory.size).toBe(3);
  });

  test('takes a leaf back that is not wanted: nothing of it is in a sum, and its memory serves again', () => {
    const store = new FragmentStore(kernels, 8, 4);
    addSlot(store, 0, filled(1));
    const unwanted = store.leaf().fill(99);
    store.release(unwanted);
    expect(store.fragments()).toMatchObject([{ first: 0, count: 1 }]);
    expect(store.leaf().buffer).toBe(unwanted.buffer);
    addSlot(store, 1, filled(2));
    expect([...store.fragments()[0]!.value]).toEqual(new Array(8).fill(3));
  });
});
