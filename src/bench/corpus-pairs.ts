/**
 * Pairs of unequal lengths out of the corpus, of the kind that a model is fine-tuned on: of each paragraph the first
 * sentence is the target, what follows the source.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { PAIR_FIELDS } from '../data/index.ts';

/** Of running text, not of markup. */
const PARAGRAPH = /^['\p{L}][^<>\n]*$/gmu;
const FIRST_SENTENCE = /^(.+?[.!?]) (.+)$/;

/** Writes them to `file` as JSON lines. */
export async function writeCorpusPairs(corpusFile: string, file: string): Promise<void> {
  const corpus = await readFile(corpusFile, 'utf8');
  const pairs = [...corpus.matchAll(PARAGRAPH)].flatMap(([paragraph]) => {
    const [, target, source] = FIRST_SENTENCE.exec(paragraph) ?? [];
    return source === undefined ? [] : [{ [PAIR_FIELDS.source]: source, [PAIR_FIELDS.target]: target }];
  });
  await writeFile(file, pairs.map((pair) => `${JSON.stringify(pair)}\n`).join(''));
}
