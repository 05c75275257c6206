/** Padding exists in attention alone: what a batch of unequal sequences computes, and what it gives. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig, ObjectiveConfig } from '../../../src/config/index.ts';
import type { MicroBatch } from '../../../src/data/index.ts';
import { loadEngine } from '../../../src/engine/index.ts';
import type { Tensor, Tf } from '../../../src/model/differentiable.ts';
import { groupByLength } from '../../../src/model/sequence-blocks.ts';
import {
  type BatchShape,
  buildModel,
  initialParameters,
  MINI_MODEL,
  randomBatch,
  relativeError,
  SPECIAL_IDS,
} from '../../support/model-fixtures.ts';

const KEY = { seed: 3, step: 5, slot: 2 };
const SOFT_MODEL: ModelConfig = { ...MINI_MODEL, concatHead: true };

let tf: Tf;
beforeAll(async () => {
  ({ tf } = await loadEngine('wasm', { threads: 1 }));
});

async function gradientOf(
  on: Tf,
  model: ModelConfig,
  objective: Partial<ObjectiveConfig>,
  batch: MicroBatch,
): Promise<{ lossSum: number; gradient: Float32Array }> {
  const training = buildModel(on, model, objective);
  const flat = initialParameters(model);
  const gradient = new Float32Array(flat.length);
  training.setParameters(flat);
  const { lossSum } = await training.gradient(batch, KEY, gradient);
  training.dispose();
  return { lossSum, gradient };
}

/** Each sequence of a batch as a batch of its own; with as many slots as all where the model cannot know the end. */
function singles(batch: MicroBatch, keepsSlots: boolean): MicroBatch[] {
  return [...batch.sourceLengths].map((sourceLength, row) => {
    const slots = batch.labels.slice(row * batch.targetLength, (row + 1) * batch.targetLength);
    const realTokens = slots.filter((label) => label !== SPECIAL_IDS.pad).length;
    const targetLength = keepsSlots ? batch.targetLength : realTokens;
    const first = row * batch.sourceLength;
    return {
      ...{ batchSize: 1, sourceLength, targetLength, realTokens },
      sourceIds: batch.sourceIds.slice(first, first + sourceLength),
      sourceLengths: Int32Array.of(sourceLength),
      labels: slots.slice(0, targetLength),
    };
  });
}

async function expectSumOfSingles(
  model: ModelConfig,
  objective: Partial<ObjectiveConfig>,
  batch: MicroBatch,
): Promise<void> {
  const together = await gradientOf(tf, model, objective, batch);
  const sum = new Float32Array(together.gradient.length);
  let lossSum = 0;
  for (const one of singles(batch, objective.kind !== 'autoregressive')) {
    const apart = await gradientOf(tf, model, objective, one);
    lossSum += apart.lossSum;
    apart.gradient.forEach((value, at) => {
      sum[at]! += value;
    });
  }
  expect(Math.abs(together.lossSum / lossSum - 1)).toBeLessThan(2e-6);
  expect(relativeError(together.gradient, sum)).toBeLessThan(1e-5);
}

const objectives = [
  ['autoregressive', MINI_MODEL, { kind: 'autoregressive' }],
  ['lastLayer', MINI_MODEL, { kind: 'lastLayer' }],
  ['soft', SOFT_MODEL, { kind: 'soft', goldRatio: 0 }],
] as const satisfies readonly (readonly [string, ModelConfig, Partial<ObjectiveConfig>])[];

describe.each(objectives)('the gradient of unequal sequences, %s', (_, model, objective) => {
  it('is the sum of that of each by itself', async () => {
    const length = fc.integer({ min: 2, max: 12 });
    const shapes = fc.array(fc.tuple(length, length), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(shapes, fc.nat(1000), async (pairs, seed) => {
        const shape = {
          sourceLengths: pairs.map(([source]) => source),
          targetLengths: pairs.map(([, target]) => target),
        };
        await expectSumOfSingles(model, objective, randomBatch(model.vocabSize, shape, seed));
      }),
      { numRuns: 6 },
    );
  }, 60_000);

  it('is that also where lengths are so unequal that attention takes several blocks', async () => {
    const sourceLengths = [240, 11, 180, 30, 90];
    expect(groupByLength(Int32Array.from(sourceLengths)).length).toBeGreaterThan(1);
    const batch = randomBatch(model.vocabSize, { sourceLengths, targetLengths: [5, 9, 2, 9, 4] });
    await expectSumOfSingles({ ...model, maxPositions: 240 }, objective, batch);
  }, 60_000);
});

/** Rows of each product with a weight in the forward pass, and how many operations of some kinds there were. */
async function observed(kind: ObjectiveConfig['kind'], shape: BatchShape) {
  const rows = new Set<number>();
  const calls = { gather: 0, concat: 0, slice: 0, tile: 0 };
  const counted = Object.fromEntries(
    (Object.keys(calls) as (keyof typeof calls)[]).map((name) => [
      name,
      (...inputs: never[]) => {
        calls[name] += 1;
        return (tf[name] as (...inputs: never[]) => Tensor)(...inputs);
      },
    ]),
  );
  const watched = Object.assign({}, tf, counted, {
    matMul: (a: Tensor, b: Tensor, transposeA = false, transposeB = false) => {
      if (a.rank === 2 && !transposeA && transposeB) rows.add(a.shape[0]!);
      return tf.matMul(a, b, transposeA, transposeB);
    },
  });
  await gradientOf(watched, MINI_MODEL, { kind }, randomBatch(MINI_MODEL.vocabSize, shape));
  return { rows: [...rows].sort((a, b) => a - b), calls };
}

describe('the rows that are computed', () => {
  const unequal = { sourceLengths: [9, 6, 7], targetLengths: [8, 5, 10] };
  const equal = { sourceLengths: [9, 9, 9], targetLengths: [10, 10, 10] };

  it('are the real tokens of sources and targets', async () => {
    expect((await observed('autoregressive', unequal)).rows).toEqual([22, 23]);
    expect((await observed('autoregressive', equal)).rows).toEqual([27, 30]);
  });

  it('are all slots where the end is not known before, and of the last layer the real ones', async () => {
    expect((await observed('lastLayer', unequal)).rows).toEqual([22, 23, 30]);
  });

  it('are moved nowhere where no sequence is padded', async () => {
    // Of the lookups: two tables' rows by token, two ranges of positions.
    expect((await observed('autoregressive', equal)).calls).toEqual({
      ...{ gather: 2, concat: 0, slice: 2, tile: 0 },
    });
    expect((await observed('autoregressive', unequal)).calls.gather).toBeGreaterThan(2);
  });
});
