/**
 * Makes a data set of (source, target) pairs. It is one of texts as far as files, identity and transfer go: documents
 * are sources and targets in turn, and the manifest has a section `pairs`. One process does, as pairs are few beside
 * the texts of pre-training: equal inputs and options give equal bytes.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { LockstepError, quantile } from '../../base/index.ts';
import { noDrops } from '../article.ts';
import { ArticleSamples } from '../article-samples.ts';
import { type FinishedDataset, finishDataset } from '../finish-dataset.ts';
import { fileSize, scanFile } from '../input/index.ts';
import {
  ARTICLE_SAMPLES_FILE,
  MANIFEST_FILE,
  type Manifest,
  type PairLengths,
  parseManifest,
} from '../manifest.ts';
import { checkOutDir, checkVocabSize } from '../prepare/options.ts';
import { documentHash } from '../split.ts';
import { removeUnfinished, StagedFolder } from '../staged-folder.ts';
import { TokenShardWriter } from '../token-shard.ts';
import { BpeTokenizer, tokenizerToJson, trainBpe, WordCounter } from '../tokenizer/index.ts';
import {
  filesOfInput,
  type Pair,
  type PairFields,
  type PairInput,
  pairInputsOf,
  readPairs,
} from './read-pairs.ts';

export interface PreparePairsOptions {
  /** A file of sources and one of targets in turn, or JSON lines: see `pairInputsOf`. */
  readonly inputs: readonly string[];
  readonly fields: PairFields;
  readonly outDir: string;
  /** That of the model to fine-tune, or the size of one to train on the pairs. */
  readonly tokenizer: BpeTokenizer | { readonly vocabSize: number };
  /** What to do about a data set that lies in `outDir`: keep one that is made of the same, or make it anew. Default: refuse. */
  readonly existing?: 'keep-equal' | 'replace' | undefined;
}

export interface PreparedPairs extends FinishedDataset {
  /** Whether an equal data set was there. */
  readonly isKept: boolean;
}

/**
 * Writes a data set of pairs into `outDir`. Throws CONFIG_INVALID for options that cannot be used, CONFIG_MISMATCH for
 * a data set there that is not to be replaced, DATA_MISSING and DATA_CORRUPT about inputs, DISK_FULL about
 * outputs; until all is written `outDir` holds what it held before.
 */
export async function preparePairs(options: PreparePairsOptions): Promise<PreparedPairs> {
  const { fields, outDir, existing } = options;
  const inputs = pairInputsOf(options.inputs, fields);
  const given = options.tokenizer instanceof BpeTokenizer ? options.tokenizer : null;
  if (given === null) checkVocabSize(options.tokenizer.vocabSize);
  checkOutDir(outDir, existing !== undefined);
  const source = await sourceEntries(inputs);
  const fieldsUsed = inputs.some(({ format }) => format === 'json-lines') ? fields : null;
  if (existing === 'keep-equal' && existsSync(join(outDir, MANIFEST_FILE))) {
    return keepEqual(options, given, source, fieldsUsed);
  }
  const tokenizer = given ?? (await trainTokenizer(inputs, options.tokenizer.vocabSize));
  const folder = new StagedFolder(outDir, MANIFEST_FILE);
  removeUnfinished(outDir);
  try {
    const writer = new TokenShardWriter(folder, tokenizer.vocabSize);
    const counts = await writePairs(writer, tokenizer, inputs);
    const written = writer.finish();
    const finished = finishDataset(folder, tokenizer, written, {
      articleSamples: folder.write(ARTICLE_SAMPLES_FILE, new ArticleSamples().toJson()),
      source,
      report: {
        articlesRead: written.documents,
        articlesKept: written.documents,
        dropped: noDrops(),
        characters: counts.characters,
        tokens: written.tokens,
        leftovers: 0,
        warnings: counts.warnings,
      },
      pairs: {
        count: counts.sourceLengths.length,
        source: lengthsOf(counts.sourceLengths),
        target: lengthsOf(counts.targetLengths),
        fields: fieldsUsed === null ? null : { ...fieldsUsed },
      },
    });
    return { ...finished, isKept: false };
  } finally {
    folder.abort();
  }
}

/** The data set in `outDir`, which must be made of the same files with the same tokenizer. */
function keepEqual(
  { outDir, tokenizer }: PreparePairsOptions,
  given: BpeTokenizer | null,
  source: Manifest['source'],
  fields: PairFields | null,
): PreparedPairs {
  const path = join(outDir, MANIFEST_FILE);
  const bytes = readFileSync(path);
  const manifest = parseManifest(bytes.toString('utf8'), path);
  const contents = (entries: Manifest['source']) => entries.map(({ sha256 }) => sha256).join();
  const sameTokenizer =
    given === null
      ? manifest.vocabSize === tokenizer.vocabSize
      : manifest.tokenizer.sha256 === sha256Of(Buffer.from(tokenizerToJson(given)));
  const sameFields = JSON.stringify(fields) === JSON.stringify(manifest.pairs?.fields);
  if (!sameTokenizer || !sameFields || contents(source) !== contents(manifest.source)) {
    const what = sameTokenizer ? 'of other pairs' : 'with another tokenizer';
    throw new LockstepError(
      'CONFIG_MISMATCH',
      `${outDir} holds a data set ${what}: name another folder for this one, or delete it`,
      { context: { outDir } },
    );
  }
  return { sha256: sha256Of(bytes), manifest, isKept: true };
}

async function trainTokenizer(inputs: readonly PairInput[], vocabSize: number): Promise<BpeTokenizer> {
  const words = new WordCounter();
  for await (const { source, target } of allPairs(inputs)) {
    words.add(source);
    words.add(target);
  }
  return trainBpe(words.counts, vocabSize);
}

async function writePairs(writer: TokenShardWriter, tokenizer: BpeTokenizer, inputs: readonly PairInput[]) {
  const sourceLengths: number[] = [];
  const targetLengths: number[] = [];
  const warnings: string[] = [];
  let characters = 0;
  for await (const { source, target, group } of allPairs(inputs, (message) => warnings.push(message))) {
    const hash = documentHash({ title: group, digest: '' });
    const [sourceIds, targetIds] = [tokenizer.encode(source), tokenizer.encode(target)];
    writer.append(sourceIds, hash);
    writer.append(targetIds, hash);
    sourceLengths.push(sourceIds.length);
    targetLengths.push(targetIds.length);
    characters += source.length + target.length;
  }
  if (sourceLengths.length > 0) return { sourceLengths, targetLengths, characters, warnings };
  const files = inputs.flatMap(filesOfInput).map(({ file }) => file);
  throw new LockstepError('DATA_CORRUPT', `${files.join(', ')}: no pair is in there: check the files`);
}

async function* allPairs(
  inputs: readonly PairInput[],
  warn: (message: string) => void = () => {},
): AsyncGenerator<Pair> {
  for (const input of inputs) yield* readPairs(input, warn);
}

async function sourceEntries(inputs: readonly PairInput[]): Promise<Manifest['source']> {
  const entries: Manifest['source'] = [];
  for (const { file, format } of inputs.flatMap(filesOfInput)) {
    const bytes = fileSize(file);
    entries.push({ file: basename(file), format, bytes, sha256: await scanFile(file, () => {}) });
  }
  return entries;
}

function lengthsOf(lengths: readonly number[]): PairLengths {
  return {
    median: quantile(lengths, 0.5),
    percentile99: quantile(lengths, 0.99),
    longest: quantile(lengths, 1),
  };
}

const sha256Of = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
