/**
 * What there is to see of a data set: counts, lengths, articles before and after cleaning, and samples as the model
 * will get them under a configuration. Facts only; how they are shown is the caller's.
 */
import type { DataConfig } from '../config/index.ts';
import type { ArticleSample } from './article-samples.ts';
import type { Dataset } from './dataset.ts';
import type { Manifest } from './manifest.ts';
import { type MicroBatch, microBatch, sampleSpecOf } from './micro-batch.ts';
import { type CutCounts, countCuts } from './pair-settings.ts';
import { splitOf } from './split.ts';
import { type BpeTokenizer, EOS_ID, MASK_TOKEN, PAD_ID, UNK_ID } from './tokenizer/index.ts';

/** Documents of `from` to `to` tokens, both included. */
export interface LengthBin {
  readonly from: number;
  readonly to: number;
  readonly documents: number;
}

/** A piece of a noised or clean text; special tokens stand alone. */
export interface SpelledPiece {
  readonly text: string;
  readonly isSpecial: boolean;
}

export interface NoisedSample {
  /** What the encoder reads, and what the decoder is to write. */
  readonly source: readonly SpelledPiece[];
  readonly target: readonly SpelledPiece[];
  readonly sourceTokens: number;
  readonly targetTokens: number;
}

export interface Inspection {
  readonly sha256: string;
  readonly manifest: Manifest;
  readonly data: DataConfig;
  readonly lengths: readonly LengthBin[];
  readonly shortest: number;
  readonly longest: number;
  /** Documents of each side of the split, and the training samples that the configuration makes of its own. */
  readonly trainDocuments: number;
  readonly validationDocuments: number;
  readonly trainSamples: number;
  /** Pairs of which an end is cut off; nothing of texts is. */
  readonly cuts: CutCounts;
  readonly articles: readonly ArticleSample[];
  readonly noised: readonly NoisedSample[];
}

/** `samples` rows of the first micro-batch that a run of `seed` would compute. */
export async function inspectDataset(
  dataset: Dataset,
  data: DataConfig,
  seed: number,
  samples: number,
): Promise<Inspection> {
  const lengths = dataset.documentLengths;
  const held = dataset.documentHashes.filter((hash) => splitOf(hash, data.validationShare) === 'validation');
  const training = await dataset.samples(sampleSpecOf(data, 'train'));
  const key = { seed, step: 1, slot: 0 };
  const batch = await microBatch(dataset, key, data, { microBatches: 1, microBatchSize: samples });
  return {
    sha256: dataset.sha256,
    manifest: dataset.manifest,
    data,
    lengths: lengthBins(lengths),
    shortest: lengths.reduce((least, length) => Math.min(least, length), lengths[0] ?? 0),
    longest: lengths.reduce((most, length) => Math.max(most, length), 0),
    trainDocuments: lengths.length - held.length,
    validationDocuments: held.length,
    trainSamples: training.count,
    cuts: dataset.manifest.pairs === undefined ? { sources: 0, targets: 0 } : countCuts(lengths, data),
    articles: dataset.articleSamples(),
    noised: Array.from({ length: samples }, (_, row) => noisedSample(batch, row, dataset.tokenizer)),
  };
}

/** Bins of doubling width, from the first to the last that holds a document. */
export function lengthBins(lengths: Iterable<number>): LengthBin[] {
  const counts: number[] = [];
  for (const length of lengths) {
    const bin = 31 - Math.clz32(Math.max(1, length));
    while (counts.length <= bin) counts.push(0);
    counts[bin]! += 1;
  }
  const bins = counts.map((documents, bin) => ({ from: 2 ** bin, to: 2 ** (bin + 1) - 1, documents }));
  return bins.slice(bins.findIndex(({ documents }) => documents > 0));
}

function noisedSample(batch: MicroBatch, row: number, tokenizer: BpeTokenizer): NoisedSample {
  const { sourceIds, sourceLength, sourceLengths, labels, targetLength } = batch;
  const source = sourceIds.subarray(row * sourceLength, row * sourceLength + sourceLengths[row]!);
  const padded = labels.subarray(row * targetLength, (row + 1) * targetLength);
  const target = padded.subarray(0, padded.lastIndexOf(EOS_ID) + 1);
  return {
    source: spell(source, tokenizer),
    target: spell(target, tokenizer),
    sourceTokens: source.length,
    targetTokens: target.length,
  };
}

/** Ids as text; unlike `decode` it shows special tokens. */
export function spell(ids: Int32Array, tokenizer: BpeTokenizer): SpelledPiece[] {
  const pieces: SpelledPiece[] = [];
  let start = 0;
  const flush = (end: number) => {
    if (end > start) pieces.push({ text: tokenizer.decode(ids.subarray(start, end)), isSpecial: false });
  };
  ids.forEach((id, place) => {
    const isSpecial = id <= UNK_ID || id === tokenizer.maskId;
    if (!isSpecial) return;
    flush(place);
    start = place + 1;
    if (id !== PAD_ID)
      pieces.push({ text: id === tokenizer.maskId ? MASK_TOKEN : tokenizer.tokens[id]!, isSpecial: true });
  });
  flush(ids.length);
  return pieces;
}
