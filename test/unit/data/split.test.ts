/** A document's side of the split: by what it is, the same in every dump, nested in the share. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ARTICLE_SAMPLES,
  ArticleSamples,
  articleSample,
  parseArticleSamples,
} from '../../../src/data/article-samples.ts';
import { documentHash, splitOf } from '../../../src/data/index.ts';
import { errorOf } from '../../support/data-files.ts';

const hashes = Array.from({ length: 20_000 }, (_, index) =>
  documentHash({ title: `Article ${index}`, digest: '' }),
);

describe('the split', () => {
  it('depends on the title, not on the text; on the text where there is no title', () => {
    const hash = documentHash({ title: 'Glacier', digest: '01234567' });
    expect(documentHash({ title: 'Glacier', digest: '89abcdef' })).toBe(hash);
    expect(documentHash({ title: ' Glacier ', digest: '' })).toBe(hash);
    expect(documentHash({ title: 'Caf\u00e9', digest: '' })).toBe(
      documentHash({ title: 'Cafe\u0301', digest: '' }),
    );
    expect(documentHash({ title: ' ', digest: '0000002a99' })).toBe(42);
    // Written down once: another value would move articles between the sides of existing data sets.
    expect(hash).toBe(4_005_332_655);
  });

  it.each([0, 0.01, 0.1, 0.5])('holds out %d of the documents', (share) => {
    const held = hashes.filter((hash) => splitOf(hash, share) === 'validation').length;
    expect(Math.abs(held / hashes.length - share)).toBeLessThan(0.01);
  });

  it('keeps those of a smaller share in a larger one', () => {
    const share = fc.double({ min: 0, max: 0.5, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), share, share, (hash, a, b) => {
        const [small, large] = a < b ? [a, b] : [b, a];
        if (splitOf(hash, small) === 'validation') expect(splitOf(hash, large)).toBe('validation');
      }),
    );
  });
});

describe('article samples', () => {
  it('are the same whatever the order, with the beginning and the length of each text', () => {
    const articles = hashes.slice(0, 50).map((hash, index) => ({ hash, title: `Article ${index}` }));
    const kept = (order: typeof articles) => {
      const samples = new ArticleSamples();
      for (const { hash, title } of order) {
        if (samples.wants(hash))
          samples.add(articleSample(hash, title, `'''${title}'''`.repeat(2000), title));
      }
      return samples.toJson();
    };
    expect(kept([...articles].reverse())).toBe(kept(articles));
    const samples = parseArticleSamples(kept(articles), 'articles.json');
    expect(samples).toHaveLength(ARTICLE_SAMPLES);
    const lowest = [...articles].sort((a, b) => a.hash - b.hash)[0]!;
    expect(samples[0]).toMatchObject({ title: lowest.title, after: { text: lowest.title } });
    expect(samples[0]!.before.characters).toBeGreaterThan(samples[0]!.before.text.length);
  });

  it('name a file that holds none', async () => {
    const error = await errorOf(() => parseArticleSamples('[{}]', 'some/articles.json'));
    expect([error.code, error.message.includes('some/articles.json')]).toEqual(['DATA_CORRUPT', true]);
  });
});
