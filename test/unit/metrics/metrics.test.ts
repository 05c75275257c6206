/** Each metric on texts that can be counted by hand, and what holds for all texts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../src/base/index.ts';
import { porterStem, scoreTexts, stemmerWithExceptions } from '../../../src/metrics/index.ts';
import { align } from '../../../src/metrics/meteor-alignment.ts';
import { commonSubsequenceLength } from '../../../src/metrics/ngrams.ts';
import { naiveAlignment, naiveSubsequenceLength } from '../../support/naive-metrics.ts';

const one = (hypothesis: string, ...references: string[]) => scoreTexts([hypothesis], [references]);

describe('ROUGE', () => {
  it('counts what a text and its reference share', () => {
    // Lin 2004, section 3: S1 against S2 share "police the gunman" of four words each.
    const { rouge1, rouge2, rougeL } = one('police kill the gunman', 'police killed the gunman');
    expect(rouge1.f1).toBe(1);
    expect(rougeL.f1).toBe(1);
    const plain = scoreTexts(['police kill the gunman'], [['police killed the gunman']], { rougeStem: null });
    expect(plain.rouge1).toEqual({ precision: 3 / 4, recall: 3 / 4, f1: 3 / 4 });
    expect(plain.rouge2).toEqual({ precision: 1 / 3, recall: 1 / 3, f1: 1 / 3 });
    expect(plain.rougeL.f1).toBe(3 / 4);
    // And S3 shares only "the gunman" in order.
    const third = scoreTexts(['the gunman kill police'], [['police killed the gunman']], { rougeStem: null });
    expect(third.rougeL.f1).toBe(2 / 4);
    expect(rouge2.f1).toBe(1);
  });

  it('clips what a text repeats, and tells precision from recall', () => {
    const { rouge1 } = one('the the the the', 'the cat');
    expect(rouge1).toEqual({ precision: 1 / 4, recall: 1 / 2, f1: 1 / 3 });
  });

  it('takes runs of letters and digits for words, hyphens and quotes apart', () => {
    expect(one("It's a 2-day well-known co-op!", 'it s a 2 day well known co op').rouge2.f1).toBe(1);
  });

  it('stems words of more than three letters, and looks irregular forms up first where it has them', () => {
    expect(one('words', 'word').rouge1.f1).toBe(1);
    expect(one('ads', 'ad').rouge1.f1).toBe(0);
    expect(one('they were', 'they be').rouge1.f1).toBe(1 / 2);
    const rougeStem = stemmerWithExceptions(['were be\nwas be\n', 'geese goose\n\n']);
    expect(scoreTexts(['they were'], [['they be']], { rougeStem }).rouge1.f1).toBe(1);
    // Not looked up, for it is short: ROUGE-1.5.5 does the same.
    expect(scoreTexts(['he was'], [['he be']], { rougeStem }).rouge1.f1).toBe(1 / 2);
  });

  it('takes the best of several references, and 0 for a text without words', () => {
    expect(one('a b', 'c d', 'a b', 'a c').rouge1.f1).toBe(1);
    expect(one('...', 'a b').rouge1).toEqual({ precision: 0, recall: 0, f1: 0 });
    expect(one('word', 'word').rouge2.f1, 'one word makes no pair').toBe(0);
  });
});

describe('BLEU', () => {
  it('clips by the reference with the most, and punishes what is short', () => {
    // Papineni et al. 2002, example 2: 2 of 7.
    const { bleu } = one('the the the the the the the', 'the cat is on the mat', 'there is a cat on the mat');
    expect(bleu[0]).toBeCloseTo(2 / 7, 12);
    expect(bleu.slice(1)).toEqual([0, 0, 0]);
    // All is right, but 4 words stand against 5: exp(1 - 5/4).
    expect(one('a b c d', 'a b c d e').bleu[3]).toBeCloseTo(Math.exp(1 - 5 / 4), 12);
  });

  it('takes the reference closest in length, the shorter of two as close', () => {
    expect(one('a b c', 'a b c d', 'x y').bleu[0]).toBeCloseTo(1, 12);
    expect(one('a b c', 'a b c d').bleu[0]).toBeCloseTo(Math.exp(1 - 4 / 3), 12);
  });

  it('sums counts over the corpus before it divides', () => {
    const { bleu } = scoreTexts(['a b', 'c x y z'], [['a b'], ['c d e f']]);
    expect(bleu[0]).toBeCloseTo(3 / 6, 12);
    expect(bleu[1]).toBeCloseTo(Math.sqrt((3 / 6) * (1 / 4)), 12);
  });
});

describe('METEOR', () => {
  const score = (precision: number, recall: number, fragmentation: number) =>
    ((precision * recall) / (0.85 * precision + 0.15 * recall)) * (1 - 0.6 * fragmentation ** 0.2);

  it('weighs matches by stage and punishes fragments', () => {
    // Four of five words in two chunks; "cats" matches by its stem.
    expect(one('the cats sat here quietly', 'the cat sat quietly').meteor).toBeCloseTo(
      score(3.6 / 5, 3.6 / 4, 2 / 4),
      12,
    );
    expect(one('b a', 'a b').meteor).toBeCloseTo(score(1, 1, 1), 12);
    expect(one('x y', 'a b').meteor).toBe(0);
  });

  it('sums over the corpus, with whole matches as unbroken', () => {
    const { meteor } = scoreTexts(['a b c', 'd x'], [['a b c'], ['d']]);
    expect(meteor).toBeCloseTo(score(4 / 5, 1, 1 / 4), 12);
  });

  it('aligns as well as the best of all alignments', () => {
    // Four words of two stems, so that words repeat and stages compete.
    const words = fc.array(fc.constantFrom('runs', 'running', 'cat', 'cats'), { maxLength: 5 });
    fc.assert(
      fc.property(words, words, (hypothesis, reference) => {
        expect(align(hypothesis, reference, porterStem)).toEqual(
          naiveAlignment(hypothesis, reference, porterStem),
        );
      }),
      { numRuns: 120, seed: 3 },
    );
  });

  it('keeps up with texts that repeat one word', () => {
    const many = (count: number) => Array.from({ length: count }, () => 'the');
    expect(align(many(64), many(48), porterStem)).toEqual({ exact: 48, stem: 0, chunks: 1 });
  });
});

describe('variety and repetition', () => {
  it('counts different words and pairs over all, in the corpus together', () => {
    const { distinct1, distinct2 } = scoreTexts(['a b a', 'a b'], [['x'], ['x']]);
    expect(distinct1).toBe(2 / 5);
    expect(distinct2).toBe(2 / 3);
  });

  it('counts words that follow themselves, and pairs that come again', () => {
    const { repetitionRate, duplicateBigramRate, meanLength } = scoreTexts(
      ['so so so it is so it is', 'it'],
      [['x'], ['x']],
    );
    expect(repetitionRate).toBe(2 / 9);
    // Pairs: so so, so so, so it, it is, is so, so it, it is.
    expect(duplicateBigramRate).toBe(3 / 7);
    expect(meanLength).toBe(4.5);
  });
});

describe('all metrics', () => {
  const text = fc
    .array(fc.constantFrom('the', 'cat', 'cats', 'sat', 'Sat', 'on', 'mat.', '-', 'été'), { maxLength: 9 })
    .map((words) => words.join(' '));
  const corpus = fc.array(fc.tuple(text, fc.array(text, { minLength: 1, maxLength: 3 })), {
    minLength: 1,
    maxLength: 6,
  });
  const scoresOf = (pairs: readonly (readonly [string, readonly string[]])[]) =>
    scoreTexts(
      pairs.map(([hypothesis]) => hypothesis),
      pairs.map(([, references]) => references),
    );
  const sharesOf = ({ rouge1, rouge2, rougeL, bleu, ...rest }: ReturnType<typeof scoresOf>) => [
    ...[rouge1, rouge2, rougeL].flatMap((overlap) => Object.values(overlap)),
    ...bleu,
    ...[rest.meteor, rest.distinct1, rest.distinct2, rest.repetitionRate, rest.duplicateBigramRate],
  ];

  it('stay within 0 and 1, and do not depend on the order of texts', () => {
    fc.assert(
      fc.property(corpus, (pairs) => {
        const scores = scoresOf(pairs);
        for (const share of sharesOf(scores)) {
          expect(share).toBeGreaterThanOrEqual(0);
          expect(share).toBeLessThanOrEqual(1 + 1e-12);
        }
        sharesOf(scoresOf([...pairs].reverse())).forEach((share, index) => {
          expect(share).toBeCloseTo(sharesOf(scores)[index]!, 12);
        });
      }),
      { numRuns: 80, seed: 4 },
    );
  });

  it('of BLEU do not depend on the order of references either', () => {
    fc.assert(
      fc.property(text, fc.array(text, { minLength: 2, maxLength: 3 }), (hypothesis, references) => {
        expect(one(hypothesis, ...references).bleu).toEqual(one(hypothesis, ...references.reverse()).bleu);
      }),
      { numRuns: 100, seed: 8 },
    );
  });

  it('give a text its own whole score', () => {
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 5 }), (texts) => {
        const long = texts.map((words) => `${words} the cat sat on`);
        const { rouge1, rouge2, rougeL, bleu, meteor } = scoreTexts(
          long,
          long.map((same) => [same]),
        );
        for (const share of [rouge1.f1, rouge2.f1, rougeL.f1, ...bleu, meteor])
          expect(share).toBeCloseTo(1, 12);
      }),
      { numRuns: 40, seed: 5 },
    );
  });

  it('give precision for recall where text and reference change places', () => {
    fc.assert(
      fc.property(text, text, (left, right) => {
        const there = one(left, right);
        const back = one(right, left);
        for (const name of ['rouge1', 'rouge2', 'rougeL'] as const) {
          expect(there[name].precision).toBe(back[name].recall);
          expect(there[name].f1).toBeCloseTo(back[name].f1, 12);
        }
      }),
      { numRuns: 100, seed: 6 },
    );
  });

  it('find the longest common subsequence as trying all does', () => {
    const words = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 9 });
    fc.assert(
      fc.property(words, words, (left, right) => {
        expect(commonSubsequenceLength(left, right)).toBe(naiveSubsequenceLength(left, right));
      }),
      { numRuns: 200, seed: 7 },
    );
  });

  it('refuse what cannot be scored', () => {
    expect(() => scoreTexts([], [])).toThrow(InvariantError);
    expect(() => scoreTexts(['a'], [[]])).toThrow(InvariantError);
    expect(() => scoreTexts(['a', 'b'], [['a']])).toThrow(InvariantError);
  });
});
