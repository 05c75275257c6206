/**
 * The words of the sample, counted: each clean job writes those of its unit, one JSON pair a line, and training adds them
 * up in the order of units, so that the counts are the same whoever counted.
 */
import { readFileSync } from 'node:fs';
import { WordCounter } from '../tokenizer/index.ts';
import type { UnitRef, WorkFolder } from './work-folder.ts';

export function writeWords(work: WorkFolder, ref: UnitRef, counts: ReadonlyMap<string, number>): void {
  const part = work.createPart('words', ref);
  try {
    for (const entry of counts) part.append(Buffer.from(`${JSON.stringify(entry)}\n`));
    part.commit();
  } finally {
    part.abort();
  }
}

/** The counts of all units together. */
export function sumWords(work: WorkFolder, units: readonly UnitRef[]): ReadonlyMap<string, number> {
  const words = new WordCounter();
  for (const ref of units) {
    const lines = readFileSync(work.partPath('words', ref), 'utf8').split('\n');
    // The part was written by `writeWords`, whole; its last line is empty.
    words.addCounts(lines.slice(0, -1).map((line) => JSON.parse(line) as [string, number]));
  }
  return words.counts;
}
