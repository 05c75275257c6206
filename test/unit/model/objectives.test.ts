import { beforeAll, describe, expect, it } from 'vitest';
import { layoutSize, PhiloxRng } from '../../../src/base/index.ts';
import type { ModelConfig, ObjectiveConfig } from '../../../src/config/index.ts';
import { loadEngine } from '../../../src/engine/index.ts';
import type { Tf } from '../../../src/model/differentiable.ts';
import { drawExitLayers, parameterLayout } from '../../../src/model/index.ts';
import {
  buildModel,
  initialParameters,
  MINI_MODEL,
  randomBatch,
  relativeError,
} from '../../support/model-fixtures.ts';
import { type NaiveObjective, naiveGradient } from '../../support/naive-elmer.ts';

const KEY = { seed: 3, step: 5, slot: 2 };
const SOFT_MODEL: ModelConfig = { ...MINI_MODEL, concatHead: true };
/** The last target slots are beyond every end. */
const batch = randomBatch(MINI_MODEL.vocabSize, {
  sourceLengths: [9, 6, 7],
  targetLengths: [8, 5, 10],
  targetLength: 12,
});
const numLayers = MINI_MODEL.decoderLayers;

let tf: Tf;
beforeAll(async () => {
  ({ tf } = await loadEngine('wasm', { threads: 1 }));
});

interface Case {
  readonly model: ModelConfig;
  readonly objective: Partial<ObjectiveConfig>;
  readonly twin: NaiveObjective;
}

const lastLayers = new Int32Array(batch.labels.length).fill(numLayers - 1);

function goldDraws(goldRatio: number): boolean[][] {
  return Array.from({ length: numLayers - 1 }, (_, layer) => {
    const rng = new PhiloxRng({ ...KEY, stream: 'goldTokens', substream: layer });
    return Array.from(batch.labels, (label) => rng.nextFloat() < goldRatio && label !== 1);
  });
}

const cases: Record<string, Case> = {
  lastLayer: {
    model: MINI_MODEL,
    objective: { kind: 'lastLayer' },
    twin: { kind: 'lplm', exitLayers: lastLayers, detachCopies: true },
  },
  'lplm, balanced': {
    model: MINI_MODEL,
    objective: { exitLayers: 'balanced' },
    twin: {
      kind: 'lplm',
      exitLayers: drawExitLayers(KEY, 'balanced', { ...batch, numLayers }),
      detachCopies: true,
    },
  },
  'soft without true tokens': {
    model: SOFT_MODEL,
    objective: { kind: 'soft', goldRatio: 0 },
    twin: { kind: 'soft', isGold: goldDraws(0), counts: 'all' },
  },
  'soft with some': {
    model: SOFT_MODEL,
    objective: { kind: 'soft', goldRatio: 0.3 },
    twin: { kind: 'soft', isGold: goldDraws(0.3), counts: 'all' },
  },
  'soft with true tokens only': {
    model: SOFT_MODEL,
    objective: { kind: 'soft', goldRatio: 1 },
    twin: { kind: 'soft', isGold: goldDraws(1), counts: 'all' },
  },
  autoregressive: {
    model: MINI_MODEL,
    objective: { kind: 'autoregressive' },
    twin: { kind: 'autoregressive' },
  },
};

/** The concat head off its start value too. */
function parametersOf(model: ModelConfig): Float32Array {
  const flat = initialParameters(model);
  const rng = new PhiloxRng({ seed: 5, stream: 'sampling', substream: 1, step: 0, slot: 0 });
  const head = parameterLayout(model).find(({ name }) => name === 'concat_head.weight');
  if (head !== undefined) {
    for (let i = 0; i < head.size; i += 1) flat[head.offset + i]! += 0.3 * rng.nextNormal();
  }
  return flat;
}

describe('the loss and gradient of', () => {
  for (const [name, { model: config, objective, twin }] of Object.entries(cases)) {
    it(`${name} equal the naive twin's`, async () => {
      const flat = parametersOf(config);
      const expected = naiveGradient(tf, config, flat, batch, twin);
      const model = buildModel(tf, config, objective);
      const gradient = new Float32Array(flat.length).fill(Number.NaN);
      model.setParameters(flat);
      const { lossSum, realTokens } = await model.gradient(batch, KEY, gradient);
      expect(realTokens).toBe(23);
      expect(Math.abs(lossSum / expected.lossSum - 1)).toBeLessThan(1e-6);
      expect(relativeError(gradient, expected.gradient)).toBeLessThan(5e-6);
      model.dispose();
    });
  }
});

describe('every objective', () => {
  for (const [name, { model: config, objective }] of Object.entries(cases)) {
    it(`repeats to the bit and leaks nothing: ${name}`, async () => {
      const before = tf.memory().numTensors;
      const model = buildModel(tf, { ...config, dropout: 0.1, activationDropout: 0.1 }, objective);
      model.setParameters(parametersOf(config));
      const during = tf.memory().numTensors;
      const compute = async () => {
        const gradient = new Float32Array(layoutSize(model.layout));
        return { ...(await model.gradient(batch, KEY, gradient)), gradient };
      };
      const first = await compute();
      expect(await compute()).toEqual(first);
      await model.evaluate(batch);
      expect(tf.memory().numTensors).toBe(during);
      model.dispose();
      expect(tf.memory().numTensors).toBe(before);
    });
  }

  it('evaluates the last layer: as the naive twin does without dropout and true tokens', async () => {
    for (const name of ['lastLayer', 'soft without true tokens', 'autoregressive']) {
      const { model: config, objective, twin } = cases[name]!;
      const flat = parametersOf(config);
      const model = buildModel(tf, { ...config, dropout: 0.1 }, objective);
      model.setParameters(flat);
      const { lossSum } = await model.evaluate(batch);
      const last: NaiveObjective = twin.kind === 'soft' ? { ...twin, counts: 'last' } : twin;
      const expected = naiveGradient(tf, config, flat, batch, last).lossSum;
      expect(Math.abs(lossSum / expected - 1)).toBeLessThan(1e-6);
      model.dispose();
    }
  });

  it('starts soft training from the state as it is: a fresh concat head changes nothing', async () => {
    const flat = initialParameters(SOFT_MODEL);
    const head = parameterLayout(SOFT_MODEL).at(-1)!;
    const soft = buildModel(tf, SOFT_MODEL, { kind: 'soft' });
    const plain = buildModel(tf, MINI_MODEL, { kind: 'lastLayer' });
    soft.setParameters(flat);
    plain.setParameters(flat.subarray(0, head.offset));
    const [left, right] = [await soft.evaluate(batch), await plain.evaluate(batch)];
    expect(Math.abs(left.lossSum / right.lossSum - 1)).toBeLessThan(1e-6);
    soft.dispose();
    plain.dispose();
  });

  it('autoregressive does not look ahead: a later label changes no earlier loss', async () => {
    const model = buildModel(tf, MINI_MODEL, { kind: 'autoregressive' });
    model.setParameters(initialParameters(MINI_MODEL));
    /** Loss of the first `slots` labels of the first row, the others unscored. */
    const lossOf = async (labels: readonly number[], scored: number) => {
      const one = randomBatch(MINI_MODEL.vocabSize, { sourceLengths: [6], targetLengths: [5] });
      const all = Int32Array.from(labels);
      const hidden = all.map((label, slot) => (slot < scored ? label : 1));
      return [
        (await model.evaluate({ ...one, labels: all, realTokens: 5 })).lossSum,
        (await model.evaluate({ ...one, labels: hidden, realTokens: scored })).lossSum,
      ];
    };
    const [wholeA, startA] = await lossOf([9, 8, 7, 6, 2], 3);
    const [wholeB, startB] = await lossOf([9, 8, 7, 30, 2], 3);
    expect(Math.abs(startA! - startB!)).toBeLessThan(1e-5);
    expect(wholeA).not.toBeCloseTo(wholeB!, 3);
    model.dispose();
  });
});
