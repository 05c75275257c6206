import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { indexSamples } from '../../../src/data/samples.ts';
import type { TokenKinds } from '../../../src/data/token-kinds.ts';

/** Id 1 ends a sentence, 2 starts a word, 3 continues one. */
const kinds: TokenKinds = {
  vocabSize: 4,
  startsWord: Uint8Array.of(0, 0, 1, 0),
  endsSentence: Uint8Array.of(0, 1, 0, 0),
};
const startsOf = (documents: readonly (readonly number[])[], capacity: number) => [
  ...indexSamples(
    documents.map((ids) => Int32Array.from(ids)),
    capacity,
    kinds,
  ).starts,
];

describe('indexSamples', () => {
  it('covers every token once, in order, within capacity and within documents', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 150 }), {
          maxLength: 8,
        }),
        fc.integer({ min: 6, max: 40 }),
        (documents, capacity) => {
          const starts = startsOf(documents, capacity);
          const total = documents.reduce((sum, ids) => sum + ids.length, 0);
          expect(starts[0]).toBe(0);
          expect(starts.at(-1)).toBe(total);
          let base = 0;
          for (const { length } of documents) {
            expect(starts).toContain(base);
            base += length;
          }
          for (let sample = 0; sample + 1 < starts.length; sample += 1) {
            const length = starts[sample + 1]! - starts[sample]!;
            expect(length).toBeGreaterThan(0);
            expect(length).toBeLessThanOrEqual(capacity);
          }
        },
      ),
      { numRuns: 200, seed: 5 },
    );
  });

  it('cuts after a sentence, else before a word, else anywhere', () => {
    const sentences = [2, 3, 3, 3, 3, 1, 2, 3, 3, 3, 3, 3];
    expect(startsOf([sentences], 8)).toEqual([0, 6, 12]);
    const wordsOnly = [2, 3, 3, 3, 3, 3, 2, 3, 3, 3, 3, 3];
    expect(startsOf([wordsOnly], 8)).toEqual([0, 6, 12]);
    const rubbish = new Array(12).fill(3);
    expect(startsOf([rubbish], 8)).toEqual([0, 8, 12]);
  });

  it('leaves no scrap at the end of a document', () => {
    expect(startsOf([new Array(17).fill(3)], 16)).toEqual([0, 15, 17]);
  });

  it('is empty for no documents', () => {
    expect(indexSamples([], 10, kinds)).toEqual({ count: 0, starts: Float64Array.of(0) });
  });
});
