/**
 * Loads a tokenizer from disk: a `tokenizer.json`, or a folder with one, or BART's own files as
 * published by Hugging Face (`vocab.json`, `merges.txt`) or by fairseq (`dict.txt`, `encoder.json`,
 * `vocab.bpe`). In fairseq's, GPT-2's ids are renumbered by frequency: row r of dict.txt is id 4 + r,
 * after the four leading specials and before `<mask>`.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { LockstepError, messageOf } from '../../base/index.ts';
import type { BpeTokenizer, Merge } from './bpe-tokenizer.ts';
import { LEADING_SPECIALS, MASK_TOKEN } from './special-tokens.ts';
import { splitMerge, tokenizerFromJson } from './tokenizer-json.ts';
import { buildTokenizer, tokenizerError } from './vocabulary.ts';

const vocabSchema = z.record(z.string(), z.int());

/**
 * Loads the tokenizer at `path`. Throws DATA_MISSING when nothing usable is there, and DATA_CORRUPT,
 * naming file and field, when what is there is no byte-level BPE with BART's special tokens.
 */
export function loadTokenizer(path: string): BpeTokenizer {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw missing(path, 'does not exist');
  if (stat.isFile()) return tokenizerFromJson(readText(path), path);
  const holds = (...names: string[]) => names.every((name) => isFile(join(path, name)));
  if (holds('tokenizer.json')) return loadTokenizer(join(path, 'tokenizer.json'));
  if (holds('vocab.json', 'merges.txt')) return loadHuggingFace(path);
  if (holds('dict.txt', 'encoder.json', 'vocab.bpe')) return loadFairseq(path);
  throw missing(path, 'holds no tokenizer');
}

function loadHuggingFace(directory: string): BpeTokenizer {
  const file = join(directory, 'vocab.json');
  return buildTokenizer(Object.entries(readVocab(file)), readMerges(join(directory, 'merges.txt')), file);
}

function loadFairseq(directory: string): BpeTokenizer {
  const tokenOf = new Map(
    Object.entries(readVocab(join(directory, 'encoder.json'))).map(([token, id]) => [String(id), token]),
  );
  const file = join(directory, 'dict.txt');
  const rows = readText(file)
    .split('\n')
    .filter((row) => row !== '');
  const words = rows.map((row, index) => {
    const key = row.split(' ')[0]!;
    // Rows that only fill the table up have names instead of GPT-2 ids.
    const token = tokenOf.get(key) ?? (/^madeupword\d+$/.test(key) ? key : undefined);
    if (token === undefined) {
      throw tokenizerError(
        file,
        `row ${index + 1} names GPT-2 id "${key}", which encoder.json lacks`,
        'fetch both again',
      );
    }
    return token;
  });
  const tokens = [...LEADING_SPECIALS, ...words, MASK_TOKEN];
  const vocabulary = tokens.map((token, id) => [token, id] as const);
  return buildTokenizer(vocabulary, readMerges(join(directory, 'vocab.bpe')), file);
}

function readVocab(file: string): Record<string, number> {
  try {
    return vocabSchema.parse(JSON.parse(readText(file)));
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause;
    throw tokenizerError(file, 'is not a JSON object of tokens and ids', 'fetch it again', cause);
  }
}

function readMerges(file: string): Merge[] {
  return readText(file)
    .split('\n')
    .filter((line, index) => line !== '' && !(index === 0 && line.startsWith('#version')))
    .map((line) => splitMerge(line, file));
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new LockstepError(
      'DATA_MISSING',
      `${file} cannot be read (${messageOf(cause)}): check its permissions`,
      {
        context: { file },
        cause,
      },
    );
  }
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function missing(path: string, what: string): LockstepError {
  return new LockstepError(
    'DATA_MISSING',
    `${path} ${what}: name a tokenizer.json, or a folder with one, with vocab.json and merges.txt, or with dict.txt, encoder.json and vocab.bpe`,
    { context: { path } },
  );
}
