/**
 * The words of the sample, counted: each clean job writes those of its unit, level by level, and training puts the levels
 * together. What comes out is what one counter would have counted that had seen every text.
 */
import { readFileSync } from 'node:fs';
import { WordCounter, type WordLevel } from '../tokenizer/index.ts';
import type { UnitRef, WorkFolder } from './work-folder.ts';

/** A line for each level; small units keep lines short. */
export function writeWords(work: WorkFolder, ref: UnitRef, words: WordCounter): void {
  const part = work.createPart('words', ref);
  try {
    for (const level of words.levels) {
      part.append(Buffer.from(`${JSON.stringify({ ...level, counts: [...level.counts] })}\n`));
    }
    part.commit();
  } finally {
    part.abort();
  }
}

/** The words of all units together. */
export function sumWords(work: WorkFolder, units: readonly UnitRef[]): WordCounter {
  const words = new WordCounter();
  for (const ref of units) {
    const lines = readFileSync(work.partPath('words', ref), 'utf8').split('\n');
    // The part was written by `writeWords`, whole; its last line is empty.
    for (const line of lines.slice(0, -1)) words.addLevel(JSON.parse(line) as WordLevel);
  }
  return words;
}
