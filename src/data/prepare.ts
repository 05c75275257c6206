/**
 * `lockstep prepare`: inputs to data set. With a tokenizer at hand, texts go straight on into token
 * shards; else by way of a temporary file, while their words are counted for training. Equal inputs and
 * options give equal bytes, whatever the number of threads.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { join } from 'node:path';
import { LockstepError } from '../base/index.ts';
import type { CleanDocument } from './article.ts';
import { INPUT_FORMATS, type InputFormat, readLines } from './input/index.ts';
import { Intake } from './intake.ts';
import {
  ARTICLE_SAMPLES_FILE,
  isTokenShardFile,
  MANIFEST_FILE,
  MANIFEST_VERSION,
  type Manifest,
  manifestText,
  TOKENIZER_FILE,
} from './manifest.ts';
import { isNoFolder, StagedFolder } from './staged-folder.ts';
import { idBytesFor, TokenShardWriter } from './token-shard.ts';
import {
  BOS_ID,
  type BpeTokenizer,
  EOS_ID,
  loadTokenizer,
  PAD_ID,
  tokenizerToJson,
  trainBpe,
  UNK_ID,
  VOCAB_SIZE_MAX,
  VOCAB_SIZE_MIN,
  WordCounter,
} from './tokenizer/index.ts';

export interface PrepareProgress {
  readonly phase: 'read' | 'train' | 'encode';
  /** Of `total`: input bytes (`read`), merges (`train`), articles (`encode`). */
  readonly done: number;
  readonly total: number;
  /** Articles kept so far. */
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
  /** One format for all inputs; told from each file's name when absent. */
  readonly format?: InputFormat | undefined;
  /** Cleaning threads; 0 (the default) cleans in the calling thread. */
  readonly threads?: number | undefined;
  /** Use what is whole of inputs that were cut short. Default false. */
  readonly allowTruncated?: boolean | undefined;
  /** Replace a data set that lies in `outDir`. Default false. */
  readonly force?: boolean | undefined;
  /** Shorter articles (UTF-16 units, cleaned) are dropped. Default 200 for dumps, 1 for other formats. */
  readonly minCharacters?: number | undefined;
  /** Size past which a new token shard begins. Default 64 MiB. */
  readonly tokenShardBytes?: number | undefined;
  readonly onProgress?: ((progress: PrepareProgress) => void) | undefined;
  readonly onWarning?: ((message: string) => void) | undefined;
}

export interface PreparedDataset {
  /** SHA-256 (hex) of the manifest: the data set's identity. */
  readonly sha256: string;
  /** Its `report` says what was read, kept and dropped. */
  readonly manifest: Manifest;
}

const SPOOL_FILE = 'articles.jsonl';

/**
 * Writes a data set into `outDir`. Throws CONFIG_INVALID for options that cannot be used, DATA_MISSING and
 * DATA_CORRUPT about inputs, DISK_FULL about outputs; until all is written `outDir` holds what it held before.
 */
export async function prepareDataset(options: PrepareOptions): Promise<PreparedDataset> {
  checkOptions(options);
  // A bad tokenizer or input path is told before an hour of reading, not after.
  const given = options.tokenizerPath === undefined ? null : loadTokenizer(options.tokenizerPath);
  const { onProgress = () => {}, onWarning = () => {} } = options;
  const intake = new Intake({
    inputs: options.inputs,
    format: options.format,
    threads: options.threads ?? 0,
    allowTruncated: options.allowTruncated ?? false,
    minCharacters: options.minCharacters,
    onWarning,
    onProgress: (done, total, articles) => onProgress({ phase: 'read', done, total, articles }),
  });
  const folder = new StagedFolder(options.outDir, MANIFEST_FILE);
  try {
    if (given !== null) return await encode(folder, given, intake.documents(), intake, options, []);
    const { counts, samplingFactor, articles } = await spool(folder, intake.documents());
    if (articles === 0) throw nothingKept(options);
    const vocabSize = options.vocabSize!;
    const tokenizer = trainBpe(counts, vocabSize, (done, total) =>
      onProgress({ phase: 'train', done, total, articles }),
    );
    const warnings: string[] = [];
    if (tokenizer.vocabSize < vocabSize) {
      warnings.push(
        `vocabSize ${vocabSize}: the text yields ${tokenizer.vocabSize} tokens, and that is the size taken`,
      );
    }
    if (samplingFactor > 1) {
      warnings.push(`the tokenizer was trained on a sample of the articles, about 1 in ${samplingFactor}`);
    }
    for (const warning of warnings) onWarning(warning);
    const documents = spooledDocuments(join(options.outDir, `${SPOOL_FILE}.partial`), (done) =>
      onProgress({ phase: 'encode', done, total: articles, articles }),
    );
    return await encode(folder, tokenizer, documents, intake, options, warnings);
  } finally {
    folder.abort();
  }
}

/** Writes documents to the temporary file, one a line, and counts their words. */
async function spool(folder: StagedFolder, documents: AsyncIterable<CleanDocument>) {
  const file = folder.create(SPOOL_FILE);
  const words = new WordCounter();
  let articles = 0;
  for await (const document of documents) {
    words.add(document.text);
    file.append(Buffer.from(`${JSON.stringify(document)}\n`));
    articles += 1;
  }
  file.finish();
  return { counts: words.counts, samplingFactor: words.samplingFactor, articles };
}

async function* spooledDocuments(
  path: string,
  onDocument: (done: number) => void,
): AsyncGenerator<CleanDocument> {
  let done = 0;
  for await (const line of readLines(createReadStream(path), path)) {
    // Written by `spool` a moment ago.
    yield JSON.parse(line.text) as CleanDocument;
    done += 1;
    onDocument(done);
  }
}

async function encode(
  folder: StagedFolder,
  tokenizer: BpeTokenizer,
  documents: AsyncIterable<CleanDocument>,
  intake: Intake,
  options: PrepareOptions,
  warnings: readonly string[],
): Promise<PreparedDataset> {
  const { vocabSize } = tokenizer;
  const writer = new TokenShardWriter(folder, vocabSize, options.tokenShardBytes);
  for await (const { text, hash } of documents) writer.append(tokenizer.encode(text), hash);
  const written = writer.finish();
  if (written.documents === 0) throw nothingKept(options);
  folder.discard(SPOOL_FILE);
  const manifest: Manifest = {
    format: 'lockstep-dataset',
    version: MANIFEST_VERSION,
    tokenizer: folder.write(TOKENIZER_FILE, tokenizerToJson(tokenizer)),
    vocabSize,
    specialIds: { bos: BOS_ID, pad: PAD_ID, eos: EOS_ID, unk: UNK_ID, mask: tokenizer.maskId },
    idBytes: idBytesFor(vocabSize),
    tokens: written.tokens,
    documents: written.documents,
    documentIndex: written.documentIndex,
    documentHashes: written.documentHashes,
    articleSamples: folder.write(ARTICLE_SAMPLES_FILE, intake.samples.toJson()),
    shards: [...written.shards],
    source: intake.source(),
    report: intake.report(written.tokens, warnings),
  };
  const text = manifestText(manifest);
  folder.commit(text, isTokenShardFile);
  return { sha256: createHash('sha256').update(text).digest('hex'), manifest };
}

function nothingKept(options: PrepareOptions): LockstepError {
  return new LockstepError(
    'DATA_CORRUPT',
    `${options.inputs.join(', ')}: no article is left after cleaning: check --format, or lower --min-characters`,
  );
}

function checkOptions(options: PrepareOptions): void {
  const refuse = (field: string, message: string) => {
    throw new LockstepError('CONFIG_INVALID', message, { context: { field } });
  };
  const { inputs, outDir, vocabSize, tokenizerPath, format, threads, minCharacters, tokenShardBytes } =
    options;
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
  const ranges = [
    [
      'vocabSize',
      vocabSize,
      VOCAB_SIZE_MIN,
      VOCAB_SIZE_MAX,
      ` (bytes and special tokens alone take ${VOCAB_SIZE_MIN})`,
    ],
    ['threads', threads, 0, 256, ''],
    ['minCharacters', minCharacters, 0, 2 ** 31, ''],
    ['tokenShardBytes', tokenShardBytes, 1, 2 ** 40, ''],
  ] as const;
  for (const [field, value, low, high, why] of ranges) {
    if (value !== undefined && !(Number.isInteger(value) && value >= low && value <= high)) {
      refuse(field, `${field} ${value} is not a whole number of ${low} .. ${high}${why}`);
    }
  }
  if (isNoFolder(outDir)) refuse('outDir', `${outDir} is a file: name a folder for the data set`);
  if (existsSync(join(outDir, MANIFEST_FILE)) && options.force !== true) {
    refuse(
      'outDir',
      `${outDir} holds a data set already: name another folder, or pass --force to replace it`,
    );
  }
}
