/**
 * Generates from sources and measures on the way: twice, once text by text for the latency, once in batches for the
 * texts and the throughput. Times are the generator's own `modelMs`: encoder and decoder, without tokenizing and
 * without turning tokens into text. What warms up is not counted. References never come near it: the number of target
 * slots is asked for or the model's own.
 */
import { quantile } from '../base/index.ts';
import type { GeneratedText, GenerationOptions } from '../generation/index.ts';
import { repetitionRate } from '../metrics/index.ts';

/** Texts generated before any time counts: engines compile and allocate on first use. */
const WARM_UP_TEXTS = 3;

export interface TextSource {
  generate(texts: readonly string[], options: GenerationOptions): Promise<GeneratedText[]>;
}

export interface MeasureOptions {
  readonly generation: GenerationOptions;
  readonly batchSize: number;
  /** How many of the sources are generated alone; at least 1. */
  readonly latencyTexts: number;
  /** Called after each call of the generator with the share done, 0 .. 1. */
  readonly onProgress?: (share: number) => void;
}

export interface Measured {
  readonly hypotheses: readonly string[];
  /** Mean layer that tokens were read from, over all tokens, from 1; null where no token was generated. */
  readonly meanLayer: number | null;
  /** Tokens equal to the token before them, over all tokens: what Ghazvininejad et al. 2019 count. */
  readonly tokenRepetitionRate: number;
  /** Texts that came to their end within their slots. */
  readonly ended: number;
  /** Sources that were longer than the model reads. */
  readonly cut: number;
  readonly latency: Latency;
  readonly throughput: Throughput;
}

/** Of one text generated alone, in milliseconds. */
export interface Latency {
  readonly texts: number;
  readonly medianMs: number;
  readonly p90Ms: number;
  readonly encoderMedianMs: number;
  readonly decoderMedianMs: number;
}

export interface Throughput {
  readonly batchSize: number;
  readonly textsPerSecond: number;
  readonly tokensPerSecond: number;
}

/** At least one source. */
export async function measure(
  generator: TextSource,
  sources: readonly string[],
  { generation, batchSize, latencyTexts, onProgress }: MeasureOptions,
): Promise<Measured> {
  // Repeated words stay for now: what they cost is told apart afterwards.
  const options = { ...generation, removeRepeats: false };
  const alone = sources.slice(0, latencyTexts);
  const batches = batchesOf(sources, batchSize);
  const calls = alone.length + batches.length;

  for (const text of sources.slice(0, WARM_UP_TEXTS)) await generator.generate([text], options);
  const single: GeneratedText[] = [];
  for (const text of alone) {
    single.push(...(await generator.generate([text], options)));
    onProgress?.(single.length / calls);
  }

  await generator.generate(batches[0]!, options);
  const generated: GeneratedText[] = [];
  let totalMs = 0;
  for (const [index, batch] of batches.entries()) {
    const texts = await generator.generate(batch, options);
    totalMs += texts[0]!.modelMs;
    generated.push(...texts);
    onProgress?.((alone.length + index + 1) / calls);
  }

  const tokens = generated.reduce((sum, { tokens: { length } }) => sum + length, 0);
  return {
    hypotheses: generated.map(({ text }) => text),
    meanLayer: meanLayerOf(generated),
    tokenRepetitionRate: repetitionRate(
      generated.map(({ tokens: ofText }) => ofText.map(({ id }) => String(id))),
    ),
    ended: generated.filter(({ ended }) => ended).length,
    cut: generated.filter(({ cutTo }) => cutTo !== null).length,
    latency: latencyOf(single),
    throughput: {
      batchSize,
      textsPerSecond: (1000 * generated.length) / totalMs,
      tokensPerSecond: (1000 * tokens) / totalMs,
    },
  };
}

function batchesOf(sources: readonly string[], size: number): string[][] {
  const batches: string[][] = [];
  for (let first = 0; first < sources.length; first += size) batches.push(sources.slice(first, first + size));
  return batches;
}

/** Each text's mean counts its end token, so that it weighs as much here. */
function meanLayerOf(texts: readonly GeneratedText[]): number | null {
  let sum = 0;
  let count = 0;
  for (const { meanLayer, tokens, ended } of texts) {
    const read = tokens.length + (ended ? 1 : 0);
    if (read === 0) continue;
    sum += meanLayer * read;
    count += read;
  }
  return count === 0 ? null : sum / count;
}

function latencyOf(texts: readonly GeneratedText[]): Latency {
  const medianOf = (times: number[]) => quantile(times, 0.5);
  const modelMs = texts.map((text) => text.modelMs);
  return {
    texts: texts.length,
    medianMs: medianOf(modelMs),
    p90Ms: quantile(modelMs, 0.9),
    encoderMedianMs: medianOf(texts.map(({ encoderMs }) => encoderMs)),
    decoderMedianMs: medianOf(texts.map(({ decoderMs }) => decoderMs)),
  };
}
