/**
 * Readers of (source, target) pairs: two text files with a text on each line, as GLGE, fairseq and Du et al. (2017)
 * publish them, JSON lines, each an object with both, or dialogues (persona-chat.ts). Every line is a pair or an error: one that is left out
 * would shift all that follow in the other file. Compressed files are read as those of other inputs.
 */
import { basename } from 'node:path';
import { LockstepError } from '../../base/index.ts';
import { ByteSource, formatOfName, readLines } from '../input/index.ts';
import type { Manifest } from '../manifest.ts';
import { readPersonaChat } from './persona-chat.ts';

export interface Pair {
  readonly source: string;
  readonly target: string;
  /** What decides the side of the validation split: pairs of one group are on the same. */
  readonly group: string;
}

/** Members of a line's object. */
export interface PairFields {
  readonly source: string;
  readonly target: string;
  /** Absent from a line: its source stands for it. */
  readonly group: string;
}

export const PAIR_FIELDS: PairFields = { source: 'source', target: 'target', group: 'group' };

export type PairInput =
  | { readonly format: 'text'; readonly sourceFile: string; readonly targetFile: string }
  | { readonly format: 'json-lines'; readonly file: string; readonly fields: PairFields }
  | { readonly format: 'persona-chat'; readonly file: string };

/**
 * Files called .jsonl or .ndjson hold pairs, and .csv dialogues; others are taken two by two, source and target. Throws
 * CONFIG_INVALID.
 */
export function pairInputsOf(files: readonly string[], fields: PairFields): PairInput[] {
  const inputs: PairInput[] = [];
  for (let index = 0; index < files.length; index += 1) {
    const file = files[index]!;
    const whole = wholeInput(file, fields);
    if (whole !== null) {
      inputs.push(whole);
      continue;
    }
    index += 1;
    const targetFile = files[index];
    if (targetFile === undefined || wholeInput(targetFile, fields) !== null) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `${file} has no file of targets after it: name SOURCE and TARGET in turn, or files called .jsonl or .csv`,
        { context: { file } },
      );
    }
    inputs.push({ format: 'text', sourceFile: file, targetFile });
  }
  if (inputs.length > 0) return inputs;
  throw new LockstepError(
    'CONFIG_INVALID',
    'no pairs are named: give a file of sources and one of targets, or JSON lines',
  );
}

/** The input that `file` is on its own, or null. */
function wholeInput(file: string, fields: PairFields): PairInput | null {
  if (formatOfName(file) === 'json-lines') return { format: 'json-lines', file, fields };
  return /\.csv$/i.test(file) ? { format: 'persona-chat', file } : null;
}

export function filesOfInput(input: PairInput): Pick<Manifest['source'][number], 'file' | 'format'>[] {
  const { format } = input;
  if (format !== 'text') return [{ file: input.file, format }];
  return [input.sourceFile, input.targetFile].map((file) => ({ file, format }));
}

/**
 * All pairs of the input, in order, trimmed and in Unicode NFC. Throws DATA_MISSING for a file that cannot be read and
 * DATA_CORRUPT, naming file and line, for an empty text, bytes that are no UTF-8, a line that is no such
 * object, and files of unequal length. `warn` hears what a published collection is known to hold, and is left out.
 */
export function readPairs(
  input: PairInput,
  warn: (message: string) => void,
): AsyncIterable<Pair> | Iterable<Pair> {
  switch (input.format) {
    case 'text':
      return readTextPairs(input);
    case 'json-lines':
      return readJsonPairs(input);
    case 'persona-chat':
      return readPersonaChat(input.file, (conversations) =>
        warn(`${basename(input.file)}: ${conversations} conversations have no two turns and are left out`),
      );
  }
}

async function* readTextPairs(input: PairInput & { format: 'text' }): AsyncGenerator<Pair> {
  const { sourceFile, targetFile } = input;
  const sources = linesOf(sourceFile);
  const targets = linesOf(targetFile);
  try {
    for (let line = 1; ; line += 1) {
      const [source, target] = await Promise.all([sources.next(), targets.next()]);
      if (source.done === true && target.done === true) return;
      if (source.done === true || target.done === true) {
        const [longer, shorter] = source.done === true ? [targetFile, sourceFile] : [sourceFile, targetFile];
        throw corrupt(
          longer,
          `has a line ${line}, but ${shorter} ends after ${line - 1}: each source needs its target on the line of the same number`,
        );
      }
      const text = textOf(source.value, sourceFile, line);
      yield { source: text, target: textOf(target.value, targetFile, line), group: text };
    }
  } finally {
    await Promise.all([sources.return(undefined), targets.return(undefined)]);
  }
}

async function* readJsonPairs({ file, fields }: PairInput & { format: 'json-lines' }): AsyncGenerator<Pair> {
  let line = 0;
  for await (const text of linesOf(file)) {
    line += 1;
    if (text.trim() === '') continue;
    const value = parseObject(text, file, line);
    const member = (name: string): string => {
      const found = value[name];
      if (typeof found === 'string') return textOf(found, file, line, ` in member "${name}"`);
      const members = Object.keys(value).join(', ');
      throw corrupt(
        file,
        `line ${line}: no string member "${name}" (there are: ${members}): name the fields`,
      );
    };
    const source = member(fields.source);
    const group = value[fields.group] === undefined ? source : member(fields.group);
    yield { source, target: member(fields.target), group };
  }
}

async function* linesOf(file: string): AsyncGenerator<string, undefined> {
  const bytes = new ByteSource({ file, allowTruncated: false, warn: () => {} });
  for await (const { text } of readLines(bytes.chunks(), file)) yield text;
}

function parseObject(text: string, file: string, line: number): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw corrupt(file, `line ${line} is not JSON: mend or remove it`, cause);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw corrupt(file, `line ${line} is no JSON object: each line must be {"source": "...", "target": "..."}`);
}

function textOf(raw: string, file: string, line: number, where = ''): string {
  const text = raw.normalize('NFC').trim();
  if (text !== '') return text;
  throw corrupt(file, `line ${line} is empty${where}: remove the pair, from both files where there are two`);
}

function corrupt(file: string, what: string, cause?: unknown): LockstepError {
  return new LockstepError('DATA_CORRUPT', `${file}: ${what}`, { context: { file }, cause });
}
