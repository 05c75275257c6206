import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhiloxRng } from '../../../src/base/index.ts';
import type { NoiseConfig } from '../../../src/config/index.ts';
import { addNoise, type TokenKinds } from '../../../src/data/index.ts';
import { cumulativePoisson } from '../../../src/data/noise.ts';

const VOCAB = 1000;
const MASK = VOCAB - 1;
/** Ids 10..19 end a sentence, 100 and above start a word, the rest continue one. */
const kinds: TokenKinds = {
  vocabSize: VOCAB,
  startsWord: Uint8Array.from({ length: VOCAB }, (_, id) => Number(id >= 100 && id < MASK)),
  endsSentence: Uint8Array.from({ length: VOCAB }, (_, id) => Number(id >= 10 && id < 20)),
};
const NOISE: NoiseConfig = {
  sentencePermutation: 1,
  maskRatio: 0.3,
  poissonLambda: 3.5,
  randomTokenRatio: 0.1,
};
const OFF = { sentencePermutation: 0, maskRatio: 0, poissonLambda: 3.5, randomTokenRatio: 0 };
const rngOf = (step: number) => new PhiloxRng({ seed: 9, stream: 'noise', substream: 0, step, slot: 0 });
const noised = (ids: readonly number[], noise: NoiseConfig, step: number, lengthMax = 4096) => [
  ...addNoise(Int32Array.from(ids), noise, kinds, rngOf(step), lengthMax),
];
/** `<s>`, n one-token words, `</s>`; every word its own id. */
const words = (count: number) => [0, ...Array.from({ length: count }, (_, index) => 100 + index), 2];
const body = fc.array(fc.integer({ min: 3, max: MASK - 1 }), { maxLength: 120 }).map((ids) => [0, ...ids, 2]);

describe('span lengths', () => {
  it('are Poisson, cut off below 1e-7: 19 values of mean 3.5', () => {
    const table = cumulativePoisson(3.5);
    expect(table.map(({ length }) => length)).toEqual(Array.from({ length: 19 }, (_, length) => length));
    expect(table[0]!.upTo).toBeCloseTo(0.0302, 4);
    const mean = table.reduce(
      (sum, { length, upTo }, i) => sum + length * (upTo - (table[i - 1]?.upTo ?? 0)),
      0,
    );
    expect(mean / table.at(-1)!.upTo).toBeCloseTo(3.5, 4);
  });
});

describe('addNoise', () => {
  it('keeps first and last token, invents no others, and stays within the length, for any text', () => {
    fc.assert(
      fc.property(body, fc.nat(), fc.nat({ max: 3 }), (ids, step, room) => {
        const out = noised(ids, { ...NOISE, randomTokenRatio: 0 }, step, ids.length + room);
        expect(out[0]).toBe(0);
        expect(out.at(-1)).toBe(2);
        expect(out.length).toBeLessThanOrEqual(ids.length + room);
        const left = new Map<number, number>();
        for (const id of ids) left.set(id, (left.get(id) ?? 0) + 1);
        for (const id of out.filter((id) => id !== MASK)) {
          left.set(id, (left.get(id) ?? 0) - 1);
          expect(left.get(id)).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 300, seed: 4 },
    );
  });

  it('is the same for the same key and another for another', () => {
    expect(noised(words(80), NOISE, 1)).toEqual(noised(words(80), NOISE, 1));
    expect(noised(words(80), NOISE, 1)).not.toEqual(noised(words(80), NOISE, 2));
  });

  it('does nothing when all is off', () => {
    expect(noised(words(50), OFF, 1)).toEqual(words(50));
    expect(noised([0, 2], NOISE, 1)).toEqual([0, 2]);
  });

  it('only shuffles whole sentences', () => {
    const sentences = [
      [100, 101, 10],
      [102, 11],
      [103, 104, 12],
      [105, 106],
    ];
    const ids = [0, ...sentences.flat(), 2];
    const orders = new Set<string>();
    for (let step = 0; step < 200; step += 1) {
      const out = noised(ids, { ...OFF, sentencePermutation: 1 }, step);
      const inner = out.slice(1, -1).join(' ');
      const places = sentences.map((sentence) => ` ${inner} `.indexOf(` ${sentence.join(' ')} `));
      expect(places.every((place) => place >= 0)).toBe(true);
      expect([...out].sort()).toEqual([...ids].sort());
      orders.add(inner);
    }
    expect(orders.size).toBe(24);
  });

  it('shuffles as often as told', () => {
    const ids = [0, ...Array.from({ length: 12 }, (_, index) => [100 + index, 10]).flat(), 2];
    let shuffled = 0;
    for (let step = 0; step < 2000; step += 1) {
      if (noised(ids, { ...OFF, sentencePermutation: 0.25 }, step).join() !== ids.join()) shuffled += 1;
    }
    expect(Math.abs(shuffled / 2000 - 0.25)).toBeLessThan(0.03);
  });

  it('masks whole words only: a span takes its words to their end', () => {
    // Each word is three tokens, 100+i and two that continue it.
    const ids = [0, ...Array.from({ length: 40 }, (_, index) => [100 + index, 50, 51]).flat(), 2];
    for (let step = 0; step < 100; step += 1) {
      const out = noised(ids, { ...NOISE, sentencePermutation: 0, randomTokenRatio: 0 }, step).filter(
        (id) => id !== MASK,
      );
      const kept = out.slice(1, -1);
      expect(kept.length % 3).toBe(0);
      expect(kept.every((id, place) => (place % 3 === 0 ? id >= 100 : id === 49 + (place % 3)))).toBe(true);
    }
  });

  it('takes about the budget of words, and about a tenth of the replacements at random', () => {
    const count = 200;
    let removed = 0;
    let masks = 0;
    let strangers = 0;
    const runs = 400;
    for (let step = 0; step < runs; step += 1) {
      const out = noised(words(count), { ...NOISE, sentencePermutation: 0 }, step);
      const kept = new Set(out);
      for (let id = 100; id < 100 + count; id += 1) removed += kept.has(id) ? 0 : 1;
      masks += out.filter((id) => id === MASK).length;
      strangers += out.filter((id) => id !== MASK && (id < 100 || id >= 100 + count)).length - 2;
    }
    // Overlapping spans take fewer words than the budget of 60; random tokens may put some back.
    const share = removed / runs / count;
    expect(share).toBeGreaterThan(0.23);
    expect(share).toBeLessThanOrEqual(0.3);
    // Of the random ids a fifth look like words of the text, and insertions are random more often.
    const randomShare = (strangers * (VOCAB / (VOCAB - count))) / (masks + strangers);
    expect(randomShare).toBeGreaterThan(0.08);
    expect(randomShare).toBeLessThan(0.15);
  });

  it('makes a single insertion a random token, as published', () => {
    // Of one word the budget is one; a first draw of zero makes one insertion, and the word goes after it.
    const insertions: number[] = [];
    for (let step = 0; step < 3000; step += 1) {
      const out = noised([0, 100, 2], { ...NOISE, randomTokenRatio: 0.1 }, step);
      if (out.length === 4) insertions.push(...out.slice(1, -1));
    }
    expect(insertions.length).toBeGreaterThan(50);
    expect(insertions.filter((id) => id === MASK).length).toBeLessThan(insertions.length * 0.6);
  });

  it('starts no span in a first word without its space', () => {
    for (let step = 0; step < 50; step += 1) {
      expect(noised([0, 50, 51, 2], { ...NOISE, sentencePermutation: 0 }, step)).toEqual([0, 50, 51, 2]);
    }
  });
});
