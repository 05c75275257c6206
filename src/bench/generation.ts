/**
 * Time of one output at batch 1, by the ways there are to generate it: all layers at once, hard exit with either
 * confidence test, and the autoregressive twin of the same sizes. The parameters are drawn, not trained: what
 * is measured is the cost at a mean exit layer, never a quality. `</s>` is made improbable, so that every way
 * fills all slots; a trained model ends before, and its hard exit also saves what lies behind the end.
 */
import { performance } from 'node:perf_hooks';
import { layoutSize, PhiloxRng } from '../base/index.ts';
import type { ModelConfig, ObjectiveKind } from '../config/index.ts';
import { BOS_ID, EOS_ID, PAD_ID } from '../data/index.ts';
import { loadEngine } from '../engine/index.ts';
import {
  createGenerationModel,
  type DecodingOptions,
  type GenerationModel,
  initializeParameters,
  parameterLayout,
} from '../model/index.ts';
import { type Summary, summarize } from './statistics.ts';
import { formatSummary } from './table.ts';

/** The `small` preset with the paper's six layers; weights start wider, so that confidences differ. */
const MODEL: ModelConfig = {
  ...{ vocabSize: 8000, dModel: 256, encoderLayers: 6, decoderLayers: 6, heads: 4, ffnDim: 1024 },
  ...{ maxPositions: 128, dropout: 0, attentionDropout: 0, activationDropout: 0, initStd: 0.1 },
  concatHead: false,
};
const TARGET_LENGTH = 32;
const SOURCE_LENGTH = 64;
const WARM_UP = 3;
const BISECTIONS = 10;

export interface GenerationRow {
  readonly way: string;
  readonly meanLayer: number;
  readonly decoderMs: Summary;
}

export interface GenerationFigures {
  readonly engine: string;
  readonly encoderMs: Summary;
  readonly rows: readonly GenerationRow[];
}

export async function measureGeneration(rounds: number): Promise<GenerationFigures> {
  const { tf, version, device } = await loadEngine('auto', { threads: 1 });
  const parameters = drawnParameters();
  const modelOf = (kind: ObjectiveKind) => {
    const specialIds = { bos: BOS_ID, pad: PAD_ID, eos: EOS_ID, mask: MODEL.vocabSize - 1 };
    const model = createGenerationModel({ tf, model: MODEL, kind, specialIds });
    model.setParameters(parameters);
    return model;
  };
  const parallel = modelOf('lplm');
  const causal = modelOf('autoregressive');
  const half = await thresholdFor(parallel, (1 + MODEL.decoderLayers) / 2);
  const hard = (threshold: number, confidence: 'shortlist' | 'full') =>
    ({ exit: 'hard', threshold, confidence }) as const;
  const ways: readonly (readonly [string, GenerationModel, Partial<DecodingOptions>])[] = [
    ['all layers', parallel, { exit: 'full' }],
    ['hard, shortlist, none leaves', parallel, hard(0, 'shortlist')],
    ['hard, shortlist, half way', parallel, hard(half, 'shortlist')],
    ['hard, shortlist, all leave first', parallel, hard(Number.POSITIVE_INFINITY, 'shortlist')],
    ['hard, whole vocabulary, half way', parallel, hard(await thresholdFor(parallel, 3.5, 'full'), 'full')],
    ['autoregressive, greedy', causal, { exit: 'full' }],
    ['autoregressive, 4 beams', causal, { exit: 'full', beams: 4 }],
  ];
  const times = ways.map(() => ({ decoderMs: [] as number[], meanLayer: 0 }));
  const encoderMs: number[] = [];
  // The ways take turns, so that what else the machine does meets them alike.
  for (let round = -WARM_UP; round < rounds; round += 1) {
    for (const [index, [, model, options]] of ways.entries()) {
      const timed = await timeOne(model, options);
      times[index]!.meanLayer = timed.meanLayer;
      if (round < 0) continue;
      times[index]!.decoderMs.push(timed.decoderMs);
      encoderMs.push(timed.encoderMs);
    }
  }
  parallel.dispose();
  causal.dispose();
  return {
    engine: `${version}, ${device}`,
    encoderMs: summarize(encoderMs),
    rows: ways.map(([way], index) => ({
      way,
      meanLayer: times[index]!.meanLayer,
      decoderMs: summarize(times[index]!.decoderMs),
    })),
  };
}

export function reportGeneration({ engine, encoderMs, rows }: GenerationFigures): string[] {
  const base = rows[0]!.decoderMs.median;
  return [
    `generation, batch 1, ${TARGET_LENGTH} slots, ${SOURCE_LENGTH} source tokens, d ${MODEL.dModel}, ${MODEL.decoderLayers} layers, V ${MODEL.vocabSize}; ${engine}`,
    `encoder ${formatSummary(encoderMs)} ms`,
    `${'way'.padEnd(34)} ${'mean layer'.padStart(10)}  decoder ms, median (min..max)  times all layers`,
    ...rows.map(
      ({ way, meanLayer, decoderMs }) =>
        `${way.padEnd(34)} ${meanLayer.toFixed(2).padStart(10)}  ${formatSummary(decoderMs).padEnd(30)} ${(decoderMs.median / base).toFixed(2)}`,
    ),
  ];
}

async function timeOne(model: GenerationModel, options: Partial<DecodingOptions>) {
  const startMs = performance.now();
  const encoded = model.encode(source());
  const encodedMs = performance.now();
  const { sequences } = await model.decode(encoded, {
    ...{ exit: 'full', threshold: 0, quorum: 1, confidence: 'shortlist', targetLength: TARGET_LENGTH },
    ...{ beams: 1, lengthPenalty: 1, ...options },
  });
  const endMs = performance.now();
  encoded.dispose();
  const { tokens } = sequences[0]!;
  const meanLayer = tokens.reduce((sum, { layer }) => sum + layer + 1, 0) / tokens.length;
  return { encoderMs: encodedMs - startMs, decoderMs: endMs - encodedMs, meanLayer };
}

/** A threshold at which the mean exit layer is about `meanLayer`. */
async function thresholdFor(
  model: GenerationModel,
  meanLayer: number,
  confidence: 'shortlist' | 'full' = 'shortlist',
): Promise<number> {
  let low = 0;
  let high = Math.log(MODEL.vocabSize);
  for (let step = 0; step < BISECTIONS; step += 1) {
    const threshold = (low + high) / 2;
    const found = await timeOne(model, { exit: 'hard', threshold, confidence });
    if (found.meanLayer > meanLayer) low = threshold;
    else high = threshold;
  }
  return high;
}

function source() {
  const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream: 0, step: 0, slot: 0 });
  const ids = Int32Array.from({ length: SOURCE_LENGTH }, () => 4 + rng.nextInt(MODEL.vocabSize - 5));
  ids[0] = BOS_ID;
  ids[SOURCE_LENGTH - 1] = EOS_ID;
  const sourceLengths = Int32Array.of(SOURCE_LENGTH);
  return { batchSize: 1, sourceLength: SOURCE_LENGTH, sourceIds: ids, sourceLengths };
}

function drawnParameters(): Float32Array {
  const layout = parameterLayout(MODEL);
  const flat = new Float32Array(layoutSize(layout));
  initializeParameters(layout, MODEL, 1, flat);
  // A logit of 0 beside many that are not: never the largest.
  flat.fill(0, EOS_ID * MODEL.dModel, (EOS_ID + 1) * MODEL.dModel);
  return flat;
}
