/**
 * A few articles as they were before and after cleaning, for people to look at (`lockstep inspect`). They are those of
 * the lowest document hashes, so that neither order nor the number of processes decides which.
 */
import { z } from 'zod';
import { LockstepError } from '../base/index.ts';

export const ARTICLE_SAMPLES = 8;
/** Of each text; enough to see what cleaning does. */
const SHOWN_CHARACTERS = 4000;

const excerptSchema = z.strictObject({
  /** The beginning of the text. */
  text: z.string(),
  /** UTF-16 units of all of it. */
  characters: z.int().min(0),
});
const articleSampleSchema = z.strictObject({
  hash: z.int().min(0),
  title: z.string(),
  before: excerptSchema,
  after: excerptSchema,
});
export type ArticleSample = z.infer<typeof articleSampleSchema>;

export class ArticleSamples {
  #samples: ArticleSample[] = [];

  /** Whether an article of this hash would be among the lowest so far. */
  wants(hash: number): boolean {
    return this.#samples.length < ARTICLE_SAMPLES || hash < this.#samples.at(-1)!.hash;
  }

  add(sample: ArticleSample): void {
    // A stable sort: of equal hashes the earlier article comes first, and stays.
    this.#samples = [...this.#samples, sample].sort((a, b) => a.hash - b.hash).slice(0, ARTICLE_SAMPLES);
  }

  toJson(): string {
    return `${JSON.stringify(this.#samples, null, 2)}\n`;
  }
}

export function articleSample(hash: number, title: string, before: string, after: string): ArticleSample {
  return { hash, title, before: excerptOf(before), after: excerptOf(after) };
}

/** Throws DATA_CORRUPT naming `file`. */
export function parseArticleSamples(text: string, file: string): ArticleSample[] {
  try {
    return z.array(articleSampleSchema).parse(JSON.parse(text));
  } catch (cause) {
    throw new LockstepError('DATA_CORRUPT', `${file} holds no article samples: prepare the data set again`, {
      context: { file },
      cause,
    });
  }
}

function excerptOf(text: string): ArticleSample['before'] {
  // Through UTF-8, so that what is written is what was meant: a cut pair of surrogates becomes U+FFFD.
  return { text: Buffer.from(text.slice(0, SHOWN_CHARACTERS)).toString('utf8'), characters: text.length };
}
