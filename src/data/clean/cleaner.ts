/**
 * Cleans articles in a pool of threads, because taking markup out is the slow step (about 1 MB/s), and
 * hands them on in the order they came in, whatever thread finished first.
 */
import { Piscina } from 'piscina';
import { assert } from '../../base/index.ts';
import type { Article } from '../article.ts';
import { type CleanResult, cleanWikitext } from './wikitext.ts';

/** Enough to keep every thread busy while one article takes long; bounds memory. */
const ARTICLES_PER_THREAD = 8;

export interface Cleaner {
  /** How many articles may be under way at once. */
  readonly window: number;
  clean(article: Article): CleanResult | Promise<CleanResult>;
  close(): Promise<void>;
}

/** `threads` pool threads, or none: then articles are cleaned in the calling thread. */
export function createCleaner(threads: number): Cleaner {
  assert(Number.isInteger(threads) && threads >= 0, `threads ${threads} is not a count`);
  if (threads === 0) return { window: 1, clean: cleanWikitext, close: async () => {} };
  const pool = new Piscina<Article, CleanResult>({
    filename: workerUrl().href,
    minThreads: threads,
    maxThreads: threads,
    // A thread that has parsed much wikitext may hold much garbage; the cap is per thread.
    resourceLimits: { maxOldGenerationSizeMb: 1024 },
  });
  return {
    window: threads * ARTICLES_PER_THREAD,
    clean: (article) => pool.run(article),
    close: () => pool.destroy(),
  };
}

/**
 * Threads load JavaScript only. Code that itself runs from TypeScript (under a test runner) therefore
 * starts the built file, which `npm run build` makes.
 */
function workerUrl(): URL {
  const isSource = import.meta.url.endsWith('.ts');
  return new URL(
    isSource ? '../../../dist/data/clean/clean-worker.js' : './clean-worker.js',
    import.meta.url,
  );
}

/** Applies `apply` to items of `source`, at most `window` at a time, and yields results in order. */
export async function* mapInOrder<T, R>(
  source: AsyncIterable<T>,
  window: number,
  apply: (item: T) => R | Promise<R>,
): AsyncGenerator<R> {
  const underWay: Promise<R>[] = [];
  for await (const item of source) {
    const result = Promise.resolve(apply(item));
    // A failure is thrown when its turn comes; until then it must not count as unhandled.
    result.catch(() => {});
    underWay.push(result);
    if (underWay.length >= window) yield await underWay.shift()!;
  }
  for (const result of underWay) yield await result;
}
