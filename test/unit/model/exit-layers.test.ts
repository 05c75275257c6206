import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dropoutSite } from '../../../src/model/dropout.ts';
import { drawExitLayers, planExits } from '../../../src/model/exit-layers.ts';

describe('exit layers', () => {
  it('are uniform over the layers, and a function of seed, step and slot', () => {
    const shape = { batchSize: 2, targetLength: 30_000, numLayers: 6 };
    const draws = drawExitLayers({ seed: 1, step: 2, slot: 3 }, 'iid', shape);
    const counts = new Array(6).fill(0);
    for (const layer of draws) counts[layer] += 1;
    // 10,000 expected, standard deviation 91.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400);
    const fewer = { ...shape, targetLength: 50 };
    expect(drawExitLayers({ seed: 1, step: 2, slot: 3 }, 'iid', fewer)).toEqual(draws.slice(0, 100));
    expect(drawExitLayers({ seed: 1, step: 2, slot: 4 }, 'iid', fewer)).not.toEqual(draws.slice(0, 100));
  });

  it('are, balanced, every layer once in each run of as many slots, in an order of its own', () => {
    const shape = { batchSize: 3, targetLength: 20, numLayers: 6 };
    const draws = drawExitLayers({ seed: 1, step: 2, slot: 3 }, 'balanced', shape);
    const orders = new Set<string>();
    for (let sequence = 0; sequence < 3; sequence += 1) {
      for (const slot of [0, 6, 12]) {
        const run = [...draws.slice(sequence * 20 + slot, sequence * 20 + slot + 6)];
        orders.add(run.join());
        expect(run.sort()).toEqual([0, 1, 2, 3, 4, 5]);
      }
      const rest = draws.slice(sequence * 20 + 18, sequence * 20 + 20);
      expect(rest[0]).not.toBe(rest[1]);
    }
    expect(orders.size).toBeGreaterThan(4);
  });
});

/** Rows move through the layers as numbers: (row, layers computed). Mirrors what lplm.ts does with tensors. */
const cases = fc
  .record({
    batchSize: fc.integer({ min: 1, max: 4 }),
    targetLength: fc.integer({ min: 1, max: 6 }),
    numLayers: fc.integer({ min: 1, max: 4 }),
    detachCopies: fc.boolean(),
  })
  .chain((shape) => {
    const count = shape.batchSize * shape.targetLength;
    return fc.record({
      shape: fc.constant(shape),
      exits: fc.array(fc.integer({ min: 0, max: shape.numLayers - 1 }), {
        minLength: count,
        maxLength: count,
      }),
      labels: fc.array(fc.constantFrom(1, 5, 6, 7), { minLength: count, maxLength: count }),
    });
  });

describe('the plan of active rows', () => {
  it('computes each row up to its exit and picks each real token once, from there', () => {
    fc.assert(
      fc.property(cases, ({ shape, exits, labels }) => {
        const plan = planExits({
          ...shape,
          exitLayers: Int32Array.from(exits),
          labels: Int32Array.from(labels),
          padId: 1,
        });
        const numRows = exits.length;
        let state = exits.map((_, row) => ({ row, computed: 0 }));
        const outputs: { row: number; computed: number }[] = [];
        plan.layers.forEach(({ query, merge, counts, isWhole }, layer) => {
          const output = [...query].map((row) => {
            expect(Math.floor(row / shape.targetLength)).toBeLessThan(shape.batchSize);
            return { row, computed: state[row]!.computed + 1 };
          });
          const sequences = output.map(({ row }) => Math.floor(row / shape.targetLength));
          expect(sequences).toEqual([...counts].flatMap((count, sequence) => Array(count).fill(sequence)));
          if (isWhole) expect([...query]).toEqual([...state.keys()]);
          outputs.push(...output);
          if (merge === null) return;
          const all = [...state, ...output];
          state = [...merge].map((index) => all[index]!);
          state.forEach(({ row, computed }, index) => {
            expect(row).toBe(index);
            expect(computed).toBe(Math.min(exits[row]!, layer) + 1);
          });
        });
        const picked = [...plan.picked].map((index) => outputs[index]!);
        const real = labels.flatMap((label, row) => (label === 1 ? [] : [row]));
        expect(picked.map(({ row }) => row).sort((a, b) => a - b)).toEqual(real);
        picked.forEach(({ row, computed }, index) => {
          expect(computed).toBe(exits[row]! + 1);
          expect(plan.labels[index]).toBe(labels[row]);
        });
        for (const { oldInverse } of plan.layers) {
          if (shape.detachCopies) expect([...oldInverse].every((index) => index === numRows)).toBe(true);
        }
      }),
    );
  });
});

describe('dropout sites', () => {
  it('are all different', () => {
    const places = [
      'weights',
      'attention',
      'crossWeights',
      'crossAttention',
      'activation',
      'feedForward',
    ] as const;
    const sites = (['encoder', 'decoder'] as const).flatMap((stack) => [
      dropoutSite(stack, 'embedding', 'weights'),
      ...[0, 1, 2, 1022].flatMap((layer) => places.map((place) => dropoutSite(stack, layer, place))),
    ]);
    expect(new Set(sites).size).toBe(sites.length);
    expect(() => dropoutSite('encoder', 1023, 'weights')).toThrow(/1023/);
  });
});
