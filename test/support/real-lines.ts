/**
 * Ten thousand real lines of every kind a tokenizer meets: encyclopedia text with its markup, program code, and
 * what package authors write (emoji, badges, tables). From files of the checkout, so that no machine lacks
 * them, and from the shared data where those are there.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SHARED_DATA } from './data-files.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const SPECIAL = /<(?:s|pad|\/s|unk|mask)>/;
export const REAL_LINES = 10_000;

/** Different lines without a literal special token, which other tokenizers take for one; here text is text. */
export function realLines(): string[] {
  const texts = [
    ...sharedTexts(),
    readFileSync(join(ROOT, 'corpus', 'encyclopedia.xml'), 'utf8'),
    ...filesBelow(join(ROOT, 'src'), '.ts'),
    ...filesBelow(join(ROOT, 'test'), '.ts'),
    ...readmes(),
  ];
  const lines = new Set(texts.flatMap((text) => text.split(/\r?\n/)));
  const usable = [...lines].filter((line) => line.length > 1 && !SPECIAL.test(line));
  // Evenly over all sources: the first ten thousand would be of one kind.
  const stride = usable.length / REAL_LINES;
  return Array.from({ length: REAL_LINES }, (_, index) => usable[Math.floor(index * stride)]!);
}

function sharedTexts(): string[] {
  const wikitext = join(SHARED_DATA, 'wikitext-2', 'valid.txt');
  const slice = join(SHARED_DATA, 'enwiki-2022-slice', 'testdata_en.bz2');
  const texts = existsSync(wikitext) ? [readFileSync(wikitext, 'utf8')] : [];
  // Its head: the dump is larger than all the rest together.
  if (existsSync(slice)) texts.push(decompressed(slice).slice(0, 1_500_000));
  return texts;
}

function decompressed(path: string): string {
  return execFileSync('bzip2', ['-dc', path], { encoding: 'utf8', maxBuffer: 2 ** 27 });
}

function filesBelow(folder: string, ending: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .sort()
    .map((name) => readFileSync(join(folder, name), 'utf8'));
}

function readmes(): string[] {
  const modules = join(ROOT, 'node_modules');
  return readdirSync(modules, { encoding: 'utf8' })
    .sort()
    .map((name) => join(modules, name, 'README.md'))
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, 'utf8'));
}
