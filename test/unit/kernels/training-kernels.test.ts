/** The optimizer and dropout kernels against their JavaScript twins, to the bit, and what they promise. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RandomKey } from '../../../src/base/index.ts';
import { adamwScalars, createKernels, numBlocks } from '../../../src/kernels/index.ts';
import { emptyFloats, type FloatsOptions, firstDifference, randomFloats } from '../../support/floats.ts';
import { placements } from '../../support/kernel-arguments.ts';
import { adamwTwin, dropoutMaskTwin } from '../../support/kernel-twins.ts';

const kernels = createKernels();

describe('adamw', () => {
  const config = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.01 };
  const scalarsAt = (step: number) =>
    adamwScalars(config, { step, learningRate: 3e-4, gradientScale: 1 / 37 });
  const vectorsOf = (length: number, seed: number, options: FloatsOptions = {}) => ({
    parameters: randomFloats(length, seed, options),
    gradient: randomFloats(length, seed + 1, options),
    firstMoment: randomFloats(length, seed + 2, options),
    secondMoment: randomFloats(length, seed + 3, options).map(Math.abs),
  });
  const copyOf = (vectors: ReturnType<typeof vectorsOf>) => ({
    parameters: vectors.parameters.slice(),
    gradient: vectors.gradient.slice(),
    firstMoment: vectors.firstMoment.slice(),
    secondMoment: vectors.secondMoment.slice(),
  });
  const sameNaN = (data: Float32Array) => data.map((value) => (Number.isNaN(value) ? NaN : value));
  const NAMES = ['parameters', 'gradient', 'firstMoment', 'secondMoment'] as const;

  test('equals its twin over several steps', () => {
    fc.assert(
      fc.property(placements, fc.integer({ min: 1, max: 1e6 }), ({ length, seed, ...options }, step) => {
        const actual = vectorsOf(length, seed, options);
        // Every third gradient is zero or tiny, so that moments reach the flush.
        for (let index = 0; index < length; index += 3) actual.gradient[index] = index % 2 === 0 ? 0 : 1e-30;
        const expected = copyOf(actual);
        for (const at of [step, step + 1]) {
          const digests = new BigUint64Array(numBlocks(length));
          kernels.adamw(actual, scalarsAt(at), digests);
          adamwTwin(expected, scalarsAt(at));
          const taken = new BigUint64Array(numBlocks(length));
          kernels.digestBlocks(actual.parameters, taken, 0);
          expect(digests).toEqual(taken);
        }
        for (const name of NAMES) {
          // Which NaN an operation gives is left open by IEEE 754; that it is one is not.
          expect(firstDifference(sameNaN(actual[name]), sameNaN(expected[name]))).toBeNull();
        }
      }),
    );
  });

  test('does not depend on how the vector is cut', () => {
    const whole = vectorsOf(20_000, 5);
    const cut = copyOf(whole);
    kernels.adamw(whole, scalarsAt(3), null);
    for (let begin = 0; begin < 20_000; begin += 777) {
      const part = (data: Float32Array) => data.subarray(begin, begin + 777);
      kernels.adamw(
        {
          parameters: part(cut.parameters),
          gradient: part(cut.gradient),
          firstMoment: part(cut.firstMoment),
          secondMoment: part(cut.secondMoment),
        },
        scalarsAt(3),
        null,
      );
    }
    for (const name of NAMES) expect(firstDifference(cut[name], whole[name])).toBeNull();
  });

  test('moves by the learning rate against the gradient at step 1, and decays the weight', () => {
    const vectors = {
      parameters: Float32Array.of(1, 1, 1),
      gradient: Float32Array.of(5, -0.01, 0),
      firstMoment: new Float32Array(3),
      secondMoment: new Float32Array(3),
    };
    kernels.adamw(vectors, adamwScalars(config, { step: 1, learningRate: 0.1, gradientScale: 1 }), null);
    const expected = [1 - 0.1 * 1.01, 1 + 0.1 * 0.99, 1 - 0.1 * 0.01];
    vectors.parameters.forEach((value, index) => {
      expect(value).toBeCloseTo(expected[index]!, 5);
    });
  });

  test('lets the moments of an unused element vanish instead of lingering as denormals', () => {
    const vectors = {
      parameters: Float32Array.of(0),
      gradient: Float32Array.of(0),
      firstMoment: Float32Array.of(2 ** -126),
      secondMoment: Float32Array.of(2 ** -126),
    };
    kernels.adamw(vectors, scalarsAt(100), null);
    expect(vectors.firstMoment[0]).toBe(0);
    expect(vectors.secondMoment[0]).toBe(0);
  });

  test('carries a gradient that is not a number into the parameter', () => {
    const vectors = vectorsOf(3, 1);
    vectors.gradient[1] = NaN;
    kernels.adamw(vectors, scalarsAt(1), null);
    expect([...vectors.parameters].map(Number.isNaN)).toEqual([false, true, false]);
  });
});

describe('dropoutMask', () => {
  const key: RandomKey = { seed: 2 ** 40 + 7, stream: 'dropout', substream: 3, step: 12, slot: 5 };

  test('equals its twin', () => {
    fc.assert(
      fc.property(
        placements,
        fc.integer({ min: 0, max: 999_999 }),
        fc.nat(2 ** 24 - 1),
        ({ length, seed, ...options }, millionths, substream) => {
          const rate = millionths / 1e6;
          const target = emptyFloats(length, options);
          const expected = emptyFloats(length);
          const drawn = { ...key, seed, substream };
          kernels.dropoutMask(target, drawn, rate);
          dropoutMaskTwin(expected, drawn, rate);
          expect(firstDifference(target, expected)).toBeNull();
        },
      ),
    );
  });

  test('a shorter mask is the beginning of a longer one', () => {
    const long = new Float32Array(40_000);
    const short = new Float32Array(17_001);
    kernels.dropoutMask(long, key, 0.3);
    kernels.dropoutMask(short, key, 0.3);
    expect(firstDifference(short, long.subarray(0, 17_001))).toBeNull();
  });

  test('drops the asked share, in other places for each part of the key', () => {
    const numElements = 200_000;
    const maskOf = (changed: Partial<RandomKey>) => {
      const mask = new Float32Array(numElements);
      kernels.dropoutMask(mask, { ...key, ...changed }, 0.1);
      return mask;
    };
    const mask = maskOf({});
    const dropped = mask.reduce((count, value) => count + (value === 0 ? 1 : 0), 0);
    // Five standard deviations of a binomial.
    expect(Math.abs(dropped / numElements - 0.1)).toBeLessThan(5 * Math.sqrt(0.09 / numElements));
    for (const other of [
      { seed: 1 },
      { substream: 4 },
      { step: 13 },
      { slot: 6 },
      { stream: 'noise' },
    ] as const) {
      const both = maskOf(other).reduce(
        (count, value, i) => count + (value === 0 && mask[i] === 0 ? 1 : 0),
        0,
      );
      expect(Math.abs(both / numElements - 0.01)).toBeLessThan(5 * Math.sqrt(0.0099 / numElements));
    }
  });

  test('keeps everything at rate 0 and refuses a rate of 1', () => {
    const mask = new Float32Array(100);
    kernels.dropoutMask(mask, key, 0);
    expect(mask.every((value) => value === 1)).toBe(true);
    expect(() => kernels.dropoutMask(mask, key, 1)).toThrow('dropout rate 1 is not in [0, 1)');
  });
});
