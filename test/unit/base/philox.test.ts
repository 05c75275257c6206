/**
 * Philox4x32-10 against the known answers that its authors publish (Random123, tests/kat_vectors), and
 * the typed draws on top of it: unbiased by construction, of the right distribution, kept apart by key.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  PhiloxRng,
  philox4x32,
  philoxBase,
  RANDOM_STREAMS,
  type RandomKey,
  type RandomStream,
} from '../../../src/base/index.ts';
import { naivePhilox } from '../../support/naive-philox.ts';

const KEY: RandomKey = { seed: 42, stream: 'noise', substream: 0, step: 3, slot: 1 };
const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });

function block(counter: readonly number[], key: readonly number[]): string {
  const out = new Uint32Array(4);
  philox4x32(out, counter[0]!, counter[1]!, counter[2]!, counter[3]!, key[0]!, key[1]!);
  return [...out].map((value) => value.toString(16).padStart(8, '0')).join(' ');
}

/** A generator whose words are the given ones: to see what a draw makes of each word. */
function rngOfWords(words: readonly number[]): PhiloxRng {
  const rng = new PhiloxRng(KEY);
  let next = 0;
  rng.nextUint32 = () => {
    next += 1;
    return words[next - 1] ?? expect.fail('the draw took more words than there are');
  };
  return rng;
}

describe('philox4x32', () => {
  test.each([
    ['zeros', [0, 0, 0, 0], [0, 0], '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    [
      'ones',
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      '408f276d 41c83b0e a20bc7c6 6d5451fd',
    ],
    [
      'the digits of pi',
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      'd16cfe09 94fdcceb 5001e420 24126ea1',
    ],
  ])('gives the published answer for %s', (_, counter, key, answer) => {
    expect(block(counter, key)).toBe(answer);
  });

  test('equals its naive twin in 64-bit integers', () => {
    fc.assert(
      fc.property(fc.tuple(word, word, word, word), fc.tuple(word, word), (counter, key) => {
        expect(block(counter, key)).toBe(
          naivePhilox(counter, key)
            .map((value) => value.toString(16).padStart(8, '0'))
            .join(' '),
        );
      }),
      { numRuns: 500 },
    );
  });
});

describe('keys', () => {
  test('every field decides: no two keys share a base', () => {
    const changes: Partial<RandomKey>[] = [
      {},
      { seed: 43 },
      { seed: 42 + 2 ** 32 },
      { substream: 1 },
      { substream: 2 ** 24 - 1 },
      { step: 4 },
      { slot: 2 },
      ...(Object.keys(RANDOM_STREAMS) as RandomStream[])
        .filter((stream) => stream !== KEY.stream)
        .map((stream) => ({ stream })),
    ];
    const bases = changes.map((change) => JSON.stringify(philoxBase({ ...KEY, ...change })));
    expect(new Set(bases).size).toBe(changes.length);
  });

  test('one key gives one sequence, whatever is drawn elsewhere', () => {
    const first = new PhiloxRng(KEY);
    const sequence = Array.from({ length: 20 }, () => first.nextUint32());
    const second = new PhiloxRng(KEY);
    const other = new PhiloxRng({ ...KEY, slot: 9 });
    const again = sequence.map(() => {
      other.nextNormal();
      return second.nextUint32();
    });
    expect(again).toEqual(sequence);
    expect(new Set(sequence).size).toBe(20);
  });

  test.each([
    [{ seed: -1 }, 'seed -1'],
    [{ seed: 0.5 }, 'seed 0.5'],
    [{ seed: 2 ** 53 }, 'seed 9007199254740992'],
    [{ substream: 2 ** 24 }, 'substream 16777216'],
    [{ substream: -1 }, 'substream -1'],
  ])('asserts %o', (change, message) => {
    expect(() => new PhiloxRng({ ...KEY, ...change })).toThrow(message);
  });
});

describe('draws', () => {
  test('nextInt redraws the words beyond the last whole multiple, and only those', () => {
    // 2^32 = 3 * 1431655765 + 1: the one word left over is the last.
    expect(rngOfWords([2 ** 32 - 1, 5]).nextInt(3)).toBe(2);
    expect(rngOfWords([2 ** 32 - 2]).nextInt(3)).toBe(2);
    // A bound just above half of the range refuses almost half of the words.
    const bound = 2 ** 31 + 1;
    expect(rngOfWords([bound, 2 ** 32 - 1, bound - 1]).nextInt(bound)).toBe(bound - 1);
    expect(rngOfWords([2 ** 32 - 1]).nextInt(2 ** 32)).toBe(2 ** 32 - 1);
    expect(rngOfWords([2 ** 32 - 1]).nextInt(1)).toBe(0);
  });

  test('nextInt takes each value as often as any other: every residue has the same number of words', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 32 }), (bound) => {
        const limit = 2 ** 32 - (2 ** 32 % bound);
        expect(limit % bound).toBe(0);
        expect(rngOfWords([limit - 1]).nextInt(bound)).toBe(bound - 1);
        if (limit < 2 ** 32) expect(rngOfWords([limit, 0]).nextInt(bound)).toBe(0);
      }),
    );
  });

  test.each([0, -1, 1.5, 2 ** 32 + 1, NaN])('nextInt asserts the bound %d', (bound) => {
    expect(() => new PhiloxRng(KEY).nextInt(bound)).toThrow('bound');
  });

  test('nextInt is uniform: chi-square over 10 values stays below its 99.9 % quantile', () => {
    const counts = new Array<number>(10).fill(0);
    const rng = new PhiloxRng(KEY);
    for (let draw = 0; draw < 100_000; draw += 1) {
      const value = rng.nextInt(10);
      counts[value] = counts[value]! + 1;
    }
    const chiSquare = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    expect(chiSquare).toBeLessThan(27.88);
  });

  test('nextFloat lies in [0, 1), the ends of the words included', () => {
    expect(rngOfWords([0]).nextFloat()).toBe(0);
    expect(rngOfWords([2 ** 32 - 1]).nextFloat()).toBe(1 - 2 ** -32);
  });

  test('nextNormal has mean 0, variance 1, no skew and a kurtosis of 3, and is always finite', () => {
    const rng = new PhiloxRng(KEY);
    const count = 200_000;
    const moments = [0, 0, 0, 0, 0];
    for (let draw = 0; draw < count; draw += 1) {
      const value = rng.nextNormal();
      for (let power = 1; power <= 4; power += 1) moments[power] = moments[power]! + value ** power / count;
    }
    // Six standard errors of each estimate.
    expect(Math.abs(moments[1]!)).toBeLessThan(6 * Math.sqrt(1 / count));
    expect(Math.abs(moments[2]! - 1)).toBeLessThan(6 * Math.sqrt(2 / count));
    expect(Math.abs(moments[3]!)).toBeLessThan(6 * Math.sqrt(15 / count));
    expect(Math.abs(moments[4]! - 3)).toBeLessThan(6 * Math.sqrt(96 / count));
    expect(Number.isFinite(rngOfWords([0, 0]).nextNormal())).toBe(true);
    expect(rngOfWords([2 ** 32 - 1, 0]).nextNormal()).toBeCloseTo(0, 12);
  });

  test('nextNormal gives the pair of one transform: radius and angle', () => {
    const [a, b] = [1_234_567_890, 3_000_000_000];
    const rng = rngOfWords([a, b]);
    const [first, second] = [rng.nextNormal(), rng.nextNormal()];
    expect(first ** 2 + second ** 2).toBeCloseTo(-2 * Math.log((a + 1) / 2 ** 32), 10);
    expect(Math.atan2(second, first)).toBeCloseTo(2 * Math.PI * (b / 2 ** 32) - 2 * Math.PI, 10);
  });

  test('permutation holds every index once', () => {
    fc.assert(
      fc.property(fc.nat(200), fc.nat(), (length, seed) => {
        const order = new PhiloxRng({ ...KEY, seed }).permutation(length);
        expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length }, (_, index) => index));
      }),
    );
  });

  test('permutation takes all six orders of three about equally often', () => {
    const counts = new Map<string, number>();
    const rng = new PhiloxRng(KEY);
    for (let draw = 0; draw < 12_000; draw += 1) {
      const order = rng.permutation(3).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - 2000) ** 2 / 2000, 0);
    expect(chiSquare).toBeLessThan(20.52);
  });
});
