import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  partsOfSample,
  type SampleSpec,
  SampleTableBuilder,
  type TokenRange,
} from '../../../src/data/samples.ts';
import { splitOf } from '../../../src/data/split.ts';
import type { TokenKinds } from '../../../src/data/token-kinds.ts';

/** Id 1 ends a sentence, 2 starts a word, 3 continues one. */
const kinds: TokenKinds = {
  vocabSize: 4,
  startsWord: Uint8Array.of(0, 0, 1, 0),
  endsSentence: Uint8Array.of(0, 1, 0, 0),
};
interface DocumentFixture {
  readonly ids: readonly number[];
  readonly hash: number;
}
const PLAIN = { targetLength: null, packing: 'documents', validationShare: 0, split: 'train' } as const;
const ALL_HASHES = 2 ** 32;

/** Each sample as its parts. */
async function samplesOf(
  documents: readonly DocumentFixture[],
  spec: SampleSpec,
  isPairs = false,
): Promise<TokenRange[][]> {
  const builder = new SampleTableBuilder(spec, kinds, isPairs);
  for (const { ids, hash } of documents) builder.add(Int32Array.from(ids), hash);
  const table = builder.finish();
  const read = (offset: number, length: number) => table.bytes.subarray(offset, offset + length);
  const samples = Array.from({ length: table.samples }, (_, sample) => partsOfSample(table, sample, read));
  return Promise.all(samples);
}

/** Where samples begin when each is one part. */
async function startsOf(documents: readonly (readonly number[])[], capacity: number): Promise<number[]> {
  const spec = { ...PLAIN, sequenceLength: capacity + 2 };
  const plain = documents.map((ids) => ({ ids, hash: 0 }));
  return (await samplesOf(plain, spec)).map(([part]) => part!.first);
}

/** Where each document ends among the data set's tokens. */
function endsOf(documents: readonly DocumentFixture[]): number[] {
  let end = 0;
  return documents.map(({ ids }) => {
    end += ids.length;
    return end;
  });
}

const documentsArbitrary = fc.array(
  fc.record({
    ids: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 150 }),
    hash: fc.integer({ min: 0, max: ALL_HASHES - 1 }),
  }),
  { maxLength: 12 },
);

describe('the samples of a data set', () => {
  it('cover every token of their split once, in order, within the length and within documents', async () => {
    await fc.assert(
      fc.asyncProperty(
        documentsArbitrary,
        fc.integer({ min: 8, max: 40 }),
        fc.constantFrom<SampleSpec['packing']>('documents', 'packed'),
        fc.constantFrom(0, 0.3, 0.5),
        fc.constantFrom(null, 8, 20),
        async (documents, sequenceLength, packing, validationShare, targetLength) => {
          const ends = endsOf(documents);
          const covered: number[] = [];
          for (const split of ['train', 'validation'] as const) {
            const spec = { sequenceLength, targetLength, packing, validationShare, split };
            const tokens: number[] = [];
            for (const parts of await samplesOf(documents, spec)) {
              if (packing === 'documents') expect(parts).toHaveLength(1);
              const framed = 1 + parts.reduce((sum, { count }) => sum + count + 1, 0);
              expect(framed).toBeLessThanOrEqual(sequenceLength);
              // All of a sample is target too, but for its `<s>`.
              expect(framed - 1).toBeLessThanOrEqual(targetLength ?? sequenceLength);
              for (const [index, { first, count }] of parts.entries()) {
                const document = ends.findIndex((end) => first < end);
                expect(splitOf(documents[document]!.hash, validationShare)).toBe(split);
                expect(first + count).toBeLessThanOrEqual(ends[document]!);
                // Only the last part of a sample may end within its document.
                if (index + 1 < parts.length) expect(first + count).toBe(ends[document]);
                for (let token = first; token < first + count; token += 1) tokens.push(token);
              }
            }
            expect(tokens).toEqual([...tokens].sort((a, b) => a - b));
            covered.push(...tokens);
          }
          const total = ends.at(-1) ?? 0;
          expect(covered.sort((a, b) => a - b)).toEqual(Array.from({ length: total }, (_, token) => token));
        },
      ),
      { numRuns: 200 },
    );
  });

  it('cut after a sentence, else before a word, else anywhere', async () => {
    const sentences = [2, 3, 3, 3, 3, 1, 2, 3, 3, 3, 3, 3];
    expect(await startsOf([sentences], 8)).toEqual([0, 6]);
    const wordsOnly = [2, 3, 3, 3, 3, 3, 2, 3, 3, 3, 3, 3];
    expect(await startsOf([wordsOnly], 8)).toEqual([0, 6]);
    const rubbish = new Array(12).fill(3);
    expect(await startsOf([rubbish], 8)).toEqual([0, 8]);
  });

  it('leave no scrap at the end of a document', async () => {
    expect(await startsOf([new Array(17).fill(3)], 16)).toEqual([0, 15]);
  });

  it('hold as many whole parts as fit when packed', async () => {
    const document = (length: number) => ({ ids: new Array(length).fill(3), hash: 0 });
    const spec = { ...PLAIN, packing: 'packed', sequenceLength: 12 } as const;
    const samples = await samplesOf([3, 3, 3, 9, 1].map(document), spec);
    // <s> 3 </s> 3 </s> has 9 tokens; another 3 and </s> would make 13.
    expect(samples.map((parts) => parts.map(({ count }) => count))).toEqual([[3, 3], [3], [9], [1]]);
  });

  it('are none for no documents', async () => {
    expect(await samplesOf([], { ...PLAIN, sequenceLength: 10 })).toEqual([]);
  });
});

describe('the samples of pairs', () => {
  it('are each a source and its target, of one split, cut to their limits', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            source: fc.integer({ min: 1, max: 60 }),
            target: fc.integer({ min: 1, max: 60 }),
            hash: fc.integer({ min: 0, max: ALL_HASHES - 1 }),
          }),
          { maxLength: 12 },
        ),
        fc.integer({ min: 8, max: 40 }),
        fc.constantFrom(null, 8, 20),
        async (pairs, sequenceLength, targetLength) => {
          const documents = pairs.flatMap(({ source, target, hash }) =>
            [source, target].map((length) => ({ ids: new Array(length).fill(3), hash })),
          );
          for (const split of ['train', 'validation'] as const) {
            const spec = { ...PLAIN, validationShare: 0.4, split, sequenceLength, targetLength };
            // The naive twin: each pair with the place where it begins.
            let first = 0;
            const expected = pairs.flatMap(({ source, target, hash }) => {
              const begin = first;
              first += source + target;
              if (splitOf(hash, 0.4) !== split) return [];
              return [
                [
                  { first: begin, count: Math.min(source, sequenceLength - 2) },
                  { first: begin + source, count: Math.min(target, (targetLength ?? sequenceLength) - 1) },
                ],
              ];
            });
            expect(await samplesOf(documents, spec, true)).toEqual(expected);
          }
        },
      ),
    );
  });
});
