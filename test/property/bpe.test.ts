import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { trainBpe, VOCAB_SIZE_MIN } from '../../src/data/tokenizer/index.ts';
import { preTokenize } from '../../src/data/tokenizer/pre-tokenize.ts';
import { encodeNaively, trainNaively } from '../support/naive-bpe.ts';

/** Few letters, so that pairs repeat, overlap ("aaa") and tie. */
const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'é'), minLength: 1, maxLength: 9 });
const longWord = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'é'), minLength: 60, maxLength: 90 });
const wordCounts = fc
  .array(fc.tuple(word, fc.integer({ min: 1, max: 5 })), { minLength: 1, maxLength: 12 })
  .map((entries) => new Map(entries));

describe('byte-level BPE', () => {
  it('trains as the naive twin does, merge for merge', () => {
    fc.assert(
      fc.property(wordCounts, fc.integer({ min: 0, max: 25 }), (counts, merges) => {
        const fast = trainBpe(counts, VOCAB_SIZE_MIN + merges);
        const naive = trainNaively(counts, VOCAB_SIZE_MIN + merges);
        expect(fast.merges).toEqual(naive.merges);
        expect(fast.tokens).toEqual(naive.tokens);
      }),
      { numRuns: 150, seed: 1 },
    );
  });

  it('encodes as the naive twin does', () => {
    fc.assert(
      // Short words and long ones are merged in different ways.
      fc.property(wordCounts, fc.oneof(word, longWord), (counts, text) => {
        const fast = trainBpe(counts, VOCAB_SIZE_MIN + 20);
        expect(fast.encode(text)).toEqual(encodeNaively(fast, text));
      }),
      { numRuns: 150, seed: 2 },
    );
  });

  it('loses nothing of any text', () => {
    const tokenizer = trainBpe(
      new Map([
        ['the', 5],
        [' the', 9],
        ['\n\n', 3],
        ['é', 4],
      ]),
      VOCAB_SIZE_MIN + 6,
    );
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        expect(preTokenize(text).join('')).toBe(text);
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }),
      { numRuns: 500, seed: 3 },
    );
  });
});
