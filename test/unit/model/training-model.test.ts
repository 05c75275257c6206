import { beforeAll, describe, expect, it } from 'vitest';
import { layoutSize, PhiloxRng } from '../../../src/base/index.ts';
import { loadEngine } from '../../../src/engine/index.ts';
import type { Tf } from '../../../src/model/differentiable.ts';
import {
  createGenerationModel,
  drawExitLayers,
  parameterLayout,
  type TrainingModel,
} from '../../../src/model/index.ts';
import {
  buildModel,
  initialParameters,
  MINI_MODEL,
  randomBatch,
  relativeError,
  SPECIAL_IDS,
} from '../../support/model-fixtures.ts';
import { naiveGradient } from '../../support/naive-elmer.ts';

const KEY = { seed: 3, step: 5, slot: 2 };
const layout = parameterLayout(MINI_MODEL);
const size = layoutSize(layout);
const flat = initialParameters(MINI_MODEL);
const batch = randomBatch(MINI_MODEL.vocabSize, { sourceLengths: [9, 6, 7], targetLengths: [8, 5, 10] });

let tf: Tf;
beforeAll(async () => {
  ({ tf } = await loadEngine('wasm', { threads: 1 }));
});

async function gradientOf(model: TrainingModel, parameters = flat, on = batch, key = KEY) {
  const gradient = new Float32Array(size);
  model.setParameters(parameters);
  return { ...(await model.gradient(on, key, gradient)), gradient };
}

describe('the loss and gradient of LPLM by scheme C', () => {
  for (const detachCopies of [true, false]) {
    it(`equal the naive twin's, detachCopies ${detachCopies}`, async () => {
      const model = buildModel(tf, MINI_MODEL, { detachCopies });
      for (let slot = 0; slot < 4; slot += 1) {
        const key = { ...KEY, slot };
        const exitLayers = drawExitLayers(key, 'iid', { ...batch, numLayers: MINI_MODEL.decoderLayers });
        const twin = naiveGradient(tf, MINI_MODEL, flat, batch, { kind: 'lplm', exitLayers, detachCopies });
        const ours = await gradientOf(model, flat, batch, key);
        expect(ours.realTokens).toBe(23);
        expect(Math.abs(ours.lossSum / twin.lossSum - 1)).toBeLessThan(1e-6);
        expect(relativeError(ours.gradient, twin.gradient)).toBeLessThan(3e-6);
      }
      model.dispose();
    });
  }

  it('differ with and without the detached copies, the loss does not', async () => {
    const detached = await gradientOf(buildModel(tf, MINI_MODEL, { detachCopies: true }));
    const attached = await gradientOf(buildModel(tf, MINI_MODEL, { detachCopies: false }));
    expect(detached.lossSum).toBe(attached.lossSum);
    expect(relativeError(detached.gradient, attached.gradient)).toBeGreaterThan(1e-3);
  });

  it('agree with finite differences along the gradient of every tensor', async () => {
    // Without detaching, for that makes the gradient another function than the derivative. Along its own
    // gradient g the loss of a tensor grows by |g| per unit: central differences err by O(h^2) and by the
    // loss's rounding, some 1e-7 * 100 / 2h.
    const model = buildModel(tf, MINI_MODEL, { detachCopies: false });
    const { gradient } = await gradientOf(model);
    for (const { name, offset, size: length } of layout) {
      const g = gradient.subarray(offset, offset + length);
      const norm = Math.sqrt(g.reduce((sum, value) => sum + value * value, 0));
      // A key bias shifts all scores of a query alike: its gradient is zero but for rounding.
      if (name.endsWith('k_proj.bias')) {
        expect(norm).toBeLessThan(1e-4);
        continue;
      }
      const h = Math.min(0.01, 0.05 / norm);
      const lossAt = async (sign: number) => {
        const moved = flat.slice();
        g.forEach((value, i) => {
          moved[offset + i]! += (sign * h * value) / norm;
        });
        return (await gradientOf(model, moved)).lossSum;
      };
      const slope = ((await lossAt(1)) - (await lossAt(-1))) / (2 * h);
      expect(Math.abs(slope - norm), name).toBeLessThan(0.01 * norm + 0.01);
    }
    model.dispose();
  }, 120_000);

  it('agree with finite differences in single coordinates', async () => {
    const model = buildModel(tf, MINI_MODEL, { detachCopies: false });
    const { gradient } = await gradientOf(model);
    const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream: 0, step: 0, slot: 0 });
    const h = 0.01;
    for (let trial = 0; trial < 16; trial += 1) {
      const i = rng.nextInt(size);
      const lossAt = async (step: number) => {
        const moved = flat.slice();
        moved[i]! += step;
        return (await gradientOf(model, moved)).lossSum;
      };
      const slope = ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
      expect(Math.abs(slope - gradient[i]!)).toBeLessThan(0.02 * Math.abs(gradient[i]!) + 0.02);
    }
    model.dispose();
  });
});

describe('a gradient', () => {
  it('is the same to the bit when repeated, and depends on step and slot', async () => {
    const model = buildModel(tf, {
      ...MINI_MODEL,
      dropout: 0.1,
      attentionDropout: 0.1,
      activationDropout: 0.1,
    });
    const first = await gradientOf(model);
    const other = await gradientOf(model, flat, batch, { ...KEY, slot: 3 });
    const again = await gradientOf(model);
    expect(again).toEqual(first);
    expect(other.lossSum).not.toBe(first.lossSum);
    model.dispose();
  });

  it('writes every element of the target, and leaves unused rows at zero', async () => {
    const model = buildModel(tf, MINI_MODEL);
    model.setParameters(flat);
    const gradient = new Float32Array(size).fill(Number.NaN);
    await model.gradient(batch, KEY, gradient);
    expect(gradient.every(Number.isFinite)).toBe(true);
    const positions = layout.find(({ name }) => name === 'model.decoder.embed_positions.weight')!;
    const rows = gradient.subarray(positions.offset, positions.offset + positions.size);
    const D = MINI_MODEL.dModel;
    expect(rows.subarray(0, 2 * D).every((value) => value === 0)).toBe(true);
    expect(rows.subarray(2 * D, 12 * D).some((value) => value !== 0)).toBe(true);
    expect(rows.subarray(12 * D).every((value) => value === 0)).toBe(true);
    model.dispose();
  });

  it('does not depend on how far the sources are padded, but for rounding', async () => {
    const model = buildModel(tf, MINI_MODEL);
    const shape = { sourceLengths: [9, 6, 7], targetLengths: [8, 5, 10] };
    const wider = randomBatch(MINI_MODEL.vocabSize, { ...shape, sourceLength: 15 });
    const narrow = await gradientOf(model);
    const padded = await gradientOf(model, flat, wider);
    expect(Math.abs(padded.lossSum / narrow.lossSum - 1)).toBeLessThan(1e-6);
    expect(relativeError(padded.gradient, narrow.gradient)).toBeLessThan(3e-6);
    model.dispose();
  });

  it('is zero for a batch without a real token', async () => {
    const model = buildModel(tf, MINI_MODEL);
    const empty = { ...batch, labels: new Int32Array(batch.labels.length).fill(1), realTokens: 0 };
    const { lossSum, gradient } = await gradientOf(model, flat, empty);
    expect(lossSum).toBe(0);
    expect(gradient.every((value) => value === 0)).toBe(true);
  });

  it('leaks no tensor over 50 steps, nor does evaluation', async () => {
    const before = tf.memory().numTensors;
    const model = buildModel(tf, {
      ...MINI_MODEL,
      dropout: 0.1,
      attentionDropout: 0.1,
      activationDropout: 0.1,
    });
    model.setParameters(flat);
    const gradient = new Float32Array(size);
    const during = tf.memory().numTensors;
    for (let step = 0; step < 50; step += 1) {
      await model.gradient(batch, { seed: 1, step, slot: 0 }, gradient);
      model.setParameters(flat);
    }
    await model.evaluate(batch);
    expect(tf.memory().numTensors).toBe(during);
    model.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('refuses parameters that are not finite and sequences that are too long', async () => {
    const model = buildModel(tf, MINI_MODEL);
    const broken = flat.slice().fill(Number.NaN, 0, 1000);
    await expect(gradientOf(model, broken)).rejects.toMatchObject({ code: 'NOT_FINITE' });
    const long = randomBatch(MINI_MODEL.vocabSize, { sourceLengths: [21], targetLengths: [5] });
    await expect(gradientOf(model, flat, long)).rejects.toThrow(/source of 21 tokens .*maxPositions 20/);
    model.dispose();
  });
});

describe('training on one micro-batch', () => {
  it('learns it by heart in 60 steps, and generates it', async () => {
    const config = { ...MINI_MODEL, initStd: 0.1 };
    const one = randomBatch(config.vocabSize, { sourceLengths: [6, 5], targetLengths: [7, 4] });
    const model = buildModel(tf, config);
    const parameters = initialParameters(config);
    const gradient = new Float32Array(size);
    const moment = new Float32Array(size);
    const square = new Float32Array(size);
    model.setParameters(parameters);
    const before = (await model.evaluate(one)).lossSum;
    for (let step = 1; step <= 60; step += 1) {
      await model.gradient(one, { seed: 1, step, slot: 0 }, gradient);
      for (let i = 0; i < size; i += 1) {
        moment[i] = 0.9 * moment[i]! + 0.1 * gradient[i]!;
        square[i] = 0.98 * square[i]! + 0.02 * gradient[i]! ** 2;
        const mean = moment[i]! / (1 - 0.9 ** step);
        parameters[i]! -= (0.01 * mean) / (Math.sqrt(square[i]! / (1 - 0.98 ** step)) + 1e-8);
      }
      model.setParameters(parameters);
    }
    expect((await model.evaluate(one)).lossSum).toBeLessThan(before / 50);
    const written = [0, 1].map((row) => [...one.labels.slice(row * 7, row * 7 + [7, 4][row]!)]);
    const generation = createGenerationModel({ tf, model: config, kind: 'lplm', specialIds: SPECIAL_IDS });
    generation.setParameters(parameters);
    const encoded = generation.encode(one);
    const { sequences } = await generation.decode(encoded, {
      ...{
        exit: 'full',
        threshold: 0,
        quorum: 1,
        confidence: 'shortlist',
        targetLength: 7,
        beams: 1,
        lengthPenalty: 1,
      },
    });
    encoded.dispose();
    generation.dispose();
    expect(sequences.map(({ tokens }) => tokens.map(({ id }) => id))).toEqual(written);
    model.dispose();
  });
});
