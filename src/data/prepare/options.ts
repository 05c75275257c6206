/** What a caller asks of a preparation, and whether it can be done. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LockstepError } from '../../base/index.ts';
import type { Keepable } from '../clean/index.ts';
import { INPUT_FORMATS, type InputFormat } from '../input/index.ts';
import { MANIFEST_FILE } from '../manifest.ts';
import { isNoFolder } from '../staged-folder.ts';
import { VOCAB_SIZE_MAX, VOCAB_SIZE_MIN } from '../tokenizer/index.ts';

export const PREPARE_PHASES = ['scan', 'clean', 'train', 'encode', 'write'] as const;
/**
 * `scan`: sizes, hashes and units of the inputs; `clean`: articles to documents; `train`: the tokenizer;
 * `encode`: documents to ids; `write`: token shards.
 */
export type PreparePhase = (typeof PREPARE_PHASES)[number];

export interface PrepareProgress {
  readonly phase: PreparePhase;
  /** Of `total`: input bytes (`scan`, `clean`), merges (`train`), units (`encode`, `write`). */
  readonly done: number;
  readonly total: number;
  /** Articles cleaned in this attempt so far. */
  readonly articles: number;
}

export interface PrepareOptions {
  /** Input files, read in this order. */
  readonly inputs: readonly string[];
  readonly outDir: string;
  /** Size of the vocabulary to train; exactly one of this and `tokenizerPath`. */
  readonly vocabSize?: number | undefined;
  /** A tokenizer to load instead: see `loadTokenizer`. */
  readonly tokenizerPath?: string | undefined;
  /** One format for all inputs; told from each file's name or content when absent. */
  readonly format?: InputFormat | undefined;
  /** Use what is whole of inputs that were cut short or damaged. Default false. */
  readonly allowTruncated?: boolean | undefined;
  /** Replace a data set that lies in `outDir`. Default false. */
  readonly force?: boolean | undefined;
  /** Shorter articles (UTF-16 units, cleaned) are dropped. Default 200 for dumps and parquet, 1 for other formats. */
  readonly minCharacters?: number | undefined;
  /** What cleaning keeps of wikitext beside running text. Default nothing. */
  readonly keep?: readonly Keepable[] | undefined;
  /** Size past which a new token shard begins. Default 64 MiB. */
  readonly tokenShardBytes?: number | undefined;
  /** Uncompressed size of what one job reads, about. Default 8 MiB. */
  readonly unitBytes?: number | undefined;
  /** Text of the sample that the tokenizer is trained on, about. Default 1 GB. */
  readonly sampleBytes?: number | undefined;
  readonly onProgress?: ((progress: PrepareProgress) => void) | undefined;
  readonly onWarning?: ((message: string) => void) | undefined;
}

/** Throws CONFIG_INVALID naming the first option that cannot be used. */
export function checkOptions(options: PrepareOptions): void {
  const { inputs, outDir, vocabSize, tokenizerPath, format } = options;
  if (inputs.length === 0) refuse('inputs', 'inputs: none is named: give a dump, JSON lines or text file');
  if ((vocabSize === undefined) === (tokenizerPath === undefined)) {
    refuse(
      'vocabSize',
      'vocabSize, tokenizerPath: give one of the two: a size to train, or a tokenizer to load',
    );
  }
  if (format !== undefined && !INPUT_FORMATS.includes(format)) {
    refuse('format', `format "${format}" is not one of ${INPUT_FORMATS.join(', ')}`);
  }
  if (vocabSize !== undefined) checkVocabSize(vocabSize);
  const ranges = [
    ['minCharacters', options.minCharacters, 0, 2 ** 31],
    ['tokenShardBytes', options.tokenShardBytes, 1, 2 ** 40],
    ['unitBytes', options.unitBytes, 1024, 2 ** 30],
    ['sampleBytes', options.sampleBytes, 1, 2 ** 40],
  ] as const;
  for (const [field, value, low, high] of ranges) {
    if (value !== undefined) checkRange(field, value, low, high);
  }
  checkOutDir(outDir, options.force === true);
}

/** Throws CONFIG_INVALID for a size of which no tokenizer can be trained. */
export function checkVocabSize(size: number): void {
  const why = ` (bytes and special tokens alone take ${VOCAB_SIZE_MIN})`;
  checkRange('vocabSize', size, VOCAB_SIZE_MIN, VOCAB_SIZE_MAX, why);
}

/** Throws CONFIG_INVALID for a file, and for a folder with a data set that is not to be replaced. */
export function checkOutDir(outDir: string, mayReplace: boolean): void {
  if (isNoFolder(outDir)) refuse('outDir', `${outDir} is a file: name a folder for the data set`);
  if (existsSync(join(outDir, MANIFEST_FILE)) && !mayReplace) {
    refuse(
      'outDir',
      `${outDir} holds a data set already: name another folder, or pass --force to replace it`,
    );
  }
}

function checkRange(field: string, value: number, low: number, high: number, why = ''): void {
  if (Number.isInteger(value) && value >= low && value <= high) return;
  refuse(field, `${field} ${value} is not a whole number of ${low} .. ${high}${why}`);
}

function refuse(field: string, message: string): never {
  throw new LockstepError('CONFIG_INVALID', message, { context: { field } });
}
