/**
 * Every hand-derived gradient against automatic differentiation of the plain form, on each engine that this
 * machine has: wasm composes core ops, tensorflow brings fused kernels.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { PhiloxRng } from '../../../src/base/index.ts';
import { loadEngine, probeEngines } from '../../../src/engine/index.ts';
import { attention } from '../../../src/model/attention.ts';
import { argMaxTokens, crossEntropySum, crossEntropySumOnly } from '../../../src/model/cross-entropy.ts';
import { differentiable, gradients, type Tensor, type Tf } from '../../../src/model/differentiable.ts';
import {
  addToSequences,
  dropout,
  gelu,
  layerNorm,
  linear,
  mean,
  repeatRows,
} from '../../../src/model/layers.ts';
import { gatherRows, gatherRowsOfAll } from '../../../src/model/rows.ts';
import { type Groups, RowBlocks, wholeBatch } from '../../../src/model/sequence-blocks.ts';
import { relativeError } from '../../support/model-fixtures.ts';

/** Not webgpu, which cannot be read back within a test's tidy; it composes core ops as wasm does. */
const engines = (await probeEngines())
  .filter(({ name, available }) => available && name !== 'webgpu')
  .map(({ name }) => name);
let tf: Tf;
// In this process they share one tfjs, whose backend is then switched.
for (const name of engines) ({ tf } = await loadEngine(name, { threads: 1 }));

function random(shape: number[], substream: number, scale = 1): Tensor {
  const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream, step: 0, slot: 0 });
  const size = shape.reduce((product, side) => product * side, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, () => scale * rng.nextNormal()),
    shape,
  );
}

function weightedSum(x: Tensor, weight: Tensor): Tensor {
  return differentiable(
    tf,
    [x],
    () => ({ value: tf.sum(tf.mul(x, weight)), saved: [] }),
    (dy) => [tf.mul(dy, weight)],
  );
}

/** Value and gradients, under one random output gradient, of two forms of a function. */
function expectSame(
  inputs: Tensor[],
  ours: (...inputs: Tensor[]) => Tensor,
  plain: (...inputs: Tensor[]) => Tensor,
  tolerance = 2e-6,
): void {
  const valuesOf = (tensors: readonly (Tensor | null)[]) =>
    tensors.map((tensor) => tensor!.dataSync() as Float32Array);
  tf.tidy(() => {
    const value = plain(...inputs);
    const weight = random(value.shape, 77);
    const scalar = (...arguments_: Tensor[]) => tf.sum(tf.mul(plain(...arguments_), weight));
    const expected = valuesOf([value, ...tf.grads(scalar)(inputs)]);
    const { gradients: found } = gradients(tf, () => weightedSum(ours(...inputs), weight), inputs);
    valuesOf([ours(...inputs), ...found]).forEach((values, i) => {
      expect(values.length).toBe(expected[i]!.length);
      expect(relativeError(values, expected[i]!), i === 0 ? 'value' : `input ${i - 1}`).toBeLessThan(
        tolerance,
      );
    });
  });
}

describe.each(engines)('operations with hand-derived gradients on %s', (engine) => {
  beforeAll(async () => {
    await tf.setBackend(engine);
  });

  it('linear', () => {
    expectSame(
      [random([5, 3], 0), random([4, 3], 1), random([4], 2)],
      (x, weight, bias) => linear(tf, x!, { weight: weight!, bias: bias! }),
      (x, weight, bias) => tf.add(tf.matMul(x!, tf.transpose(weight!)), bias!),
    );
  });

  it.each([
    [1024, 16],
    [16, 2048],
  ])('linear from %i to %i features, whose wide operand is taken in columns', (inputs, outputs) => {
    expectSame(
      [random([5, inputs], 0), random([outputs, inputs], 1), random([outputs], 2)],
      (x, weight, bias) => linear(tf, x!, { weight: weight!, bias: bias! }),
      (x, weight, bias) => tf.add(tf.matMul(x!, tf.transpose(weight!)), bias!),
    );
  });

  it('layer norm of a sum', () => {
    expectSame(
      [random([5, 8], 0), random([5, 8], 1), random([8], 2), random([8], 3)],
      (a, b, weight, bias) => layerNorm(tf, [a!, b!], { weight: weight!, bias: bias! }),
      (a, b, weight, bias) => {
        const x = tf.add(a!, b!);
        const { mean, variance } = tf.moments(x, -1, true);
        return tf.add(tf.mul(tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-5))), weight!), bias!);
      },
    );
  });

  it('GELU, to known values', () => {
    expectSame(
      [random([6, 7], 0, 2)],
      (x) => gelu(tf, x!),
      (x) => tf.mul(tf.mul(x!, 0.5), tf.add(1, tf.erf(tf.div(x!, Math.SQRT2)))),
    );
    const values = tf.tidy(() => gelu(tf, tf.tensor1d([-10, -1, 0, 1, 10])).dataSync());
    // x Phi(x); the tanh approximation would give 0.841192 at 1.
    [0, -0.15865525, 0, 0.84134475, 10].forEach((value, i) => {
      expect(values[i]).toBeCloseTo(value, 6);
    });
  });

  it('dropout and repeated rows', () => {
    const mask = tf.tensor([0, 2, 2, 0, 2, 0], [2, 3]);
    expectSame(
      [random([2, 3], 0)],
      (x) => dropout(tf, x!, mask),
      (x) => tf.mul(x!, mask),
    );
    expectSame(
      [random([2, 3], 0)],
      (x) => repeatRows(tf, x!, 4),
      (x) => tf.concat([x!, x!, x!, x!], 0),
    );
    mask.dispose();
  });

  it('rows added to those of each sequence, and the mean of scalars', () => {
    expectSame(
      [random([6, 4], 0), random([3, 4], 1)],
      (x, rows) => addToSequences(tf, x!, rows!, new RowBlocks(tf, Int32Array.of(3, 3), wholeBatch(2))),
      (x, rows) => tf.add(x!, tf.concat([rows!, rows!], 0)),
    );
    expectSame(
      [random([6, 4], 0), random([3, 4], 1)],
      (x, rows) => addToSequences(tf, x!, rows!, new RowBlocks(tf, Int32Array.of(1, 3, 2), wholeBatch(3))),
      (x, rows) => tf.add(x!, tf.concat([tf.slice(rows!, 0, 1), rows!, tf.slice(rows!, 0, 2)], 0)),
    );
    expectSame(
      [random([], 0), random([], 1), random([], 2)],
      (...terms) => mean(tf, terms),
      (...terms) => tf.mean(tf.stack(terms)),
    );
  });

  it.each<[string, { queries: number[]; keys: number[]; groups: Groups; masked: boolean }]>([
    ['plain', { queries: [3, 3], keys: [4, 4], groups: wholeBatch(2), masked: false }],
    [
      'with padding and dropped weights',
      { queries: [3, 3], keys: [3, 4], groups: wholeBatch(2), masked: true },
    ],
    ['with padded queries', { queries: [3, 1, 0], keys: [4, 4, 4], groups: wholeBatch(3), masked: true }],
    ['of each sequence by itself', { queries: [2, 3], keys: [4, 1], groups: [[0], [1]], masked: true }],
    [
      'in blocks',
      {
        queries: [2, 0, 3, 1],
        keys: [4, 1, 5, 2],
        groups: [
          [1, 3],
          [0, 2],
        ],
        masked: true,
      },
    ],
  ])('attention, %s', (_, { queries, keys, groups, masked }) => {
    const [H, D] = [2, 6];
    const sum = (lengths: number[]) => lengths.reduce((total, length) => total + length, 0);
    tf.tidy(() => {
      const blocks = [queries, keys].map((lengths) => new RowBlocks(tf, Int32Array.from(lengths), groups));
      const [ofQueries, ofKeys] = blocks as [RowBlocks, RowBlocks];
      const shapes = groups.map(({ length }, block) => [
        ...[length, H, ofQueries.blocks[block]!.length, ofKeys.blocks[block]!.length],
      ]);
      const weightMasks = shapes.map((shape, block) =>
        masked ? (tf.cast(tf.greater(random(shape, 9 + block), -0.5), 'float32') as Tensor) : null,
      );
      const biases = groups.map((group, block) => {
        const bias = tf.buffer([group.length, 1, 1, shapes[block]![3]!]);
        group.forEach((sequence, place) => {
          for (let key = keys[sequence]!; key < bias.shape[3]!; key += 1) bias.set(-1e9, place, 0, 0, key);
        });
        return bias.toTensor() as Tensor;
      });
      const rowsOf = (x: Tensor, lengths: number[], sequence: number) =>
        tf.slice(x, [sum(lengths.slice(0, sequence)), 0], [lengths[sequence]!, D]);
      const heads = (x: Tensor) => tf.transpose(tf.reshape(x, [-1, H, D / H]), [1, 0, 2]);
      expectSame(
        [random([sum(queries), D], 0), random([sum(keys), D], 1), random([sum(keys), D], 2)],
        (query, key, value) =>
          attention(tf, query!, key!, value!, {
            ...{ heads: H, queries: ofQueries, keys: ofKeys, biases, weightMasks },
          }),
        // Each sequence by itself, without any padding.
        (query, key, value) => {
          const contexts = queries.flatMap((numQueries, sequence) => {
            if (numQueries === 0) return [];
            const block = groups.findIndex((group) => group.includes(sequence));
            const [q, k, v] = [
              heads(rowsOf(query!, queries, sequence) as Tensor),
              heads(rowsOf(key!, keys, sequence) as Tensor),
              heads(rowsOf(value!, keys, sequence) as Tensor),
            ];
            let weights: Tensor = tf.softmax(tf.div(tf.matMul(q, k, false, true), Math.sqrt(D / H)));
            const mask = weightMasks[block];
            if (mask != null) {
              const begin = [groups[block]!.indexOf(sequence), 0, 0, 0];
              const ofSequence = tf.slice(mask, begin, [1, H, numQueries, keys[sequence]!]);
              weights = tf.mul(weights, tf.reshape(ofSequence, [H, numQueries, -1]));
            }
            return [tf.reshape(tf.transpose(tf.matMul(weights, v), [1, 0, 2]), [numQueries, D])];
          });
          return tf.concat(contexts, 0) as Tensor;
        },
      );
    });
  });

  it('gathers of rows and of rows of several tensors', () => {
    const choose = (x: Tensor, rows: number[]) => {
      const matrix = tf.oneHot(tf.tensor1d(rows, 'int32'), x.shape[0]!);
      return tf.matMul(tf.cast(matrix, 'float32'), x);
    };
    expectSame(
      [random([4, 3], 0)],
      (x) => gatherRows(tf, x!, Int32Array.of(3, 0), Int32Array.of(1, 2, 2, 0)),
      (x) => choose(x!, [3, 0]),
    );
    expectSame(
      [random([2, 3], 0), random([3, 3], 1)],
      (a, b) =>
        gatherRowsOfAll(tf, [a!, b!], Int32Array.of(4, 0, 2), [Int32Array.of(1, 3), Int32Array.of(2, 3, 0)]),
      (a, b) => choose(tf.concat([a!, b!], 0), [4, 0, 2]),
    );
  });
});

describe.each(engines)('the off-ramp on %s', (engine) => {
  beforeAll(async () => {
    await tf.setBackend(engine);
  });

  const labels = Int32Array.of(3, 0, 10, 3, 7);
  const plain = (hidden: Tensor, table: Tensor) => {
    const logits = tf.matMul(hidden, tf.transpose(table));
    return tf.neg(tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(tf.tensor1d(labels, 'int32'), 11))));
  };

  for (const rowsAtOnce of [1, 2, 5, 100]) {
    it(`sums the cross entropy in chunks of ${rowsAtOnce} rows`, () => {
      expectSame(
        [random([5, 4], 0), random([11, 4], 1)],
        (hidden, table) => crossEntropySum(tf, hidden!, table!, labels, rowsAtOnce),
        (hidden, table) => plain(hidden!, table!),
      );
    });
  }

  it('stays finite where exponentials would overflow, and agrees with the form without gradients', () => {
    tf.tidy(() => {
      const [hidden, table] = [random([5, 4], 0, 100), random([11, 4], 1, 10)];
      const sum = crossEntropySum(tf, hidden, table, labels).dataSync()[0]!;
      expect(sum).toBeGreaterThan(1000);
      expect(Number.isFinite(sum)).toBe(true);
      expect(crossEntropySumOnly(tf, hidden, table, labels).dataSync()[0]).toBe(sum);
      const found = gradients(tf, () => crossEntropySum(tf, hidden, table, labels), [hidden, table]);
      for (const grad of found.gradients) expect(grad!.dataSync().every(Number.isFinite)).toBe(true);
    });
  });

  it('picks the most probable token', () => {
    const table = tf.tensor2d([1, 0, 0, 1, -1, -1], [3, 2]);
    const hidden = tf.tensor2d([5, 1, 1, 5, -3, -3], [3, 2]);
    expect([...argMaxTokens(tf, hidden, table).dataSync()]).toEqual([0, 1, 2]);
  });
});
