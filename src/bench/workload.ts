/**
 * What both systems train: a preset's shapes and the micro-batches that Lockstep itself would compute,
 * written out so that the peer reads the very same ids and counts the very same tokens.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { layoutSize } from '../base/index.ts';
import { type PresetName, type RunConfig, resolveConfig } from '../config/index.ts';
import { learningRateAt } from '../coordinator/index.ts';
import {
  type Dataset,
  microBatch,
  openDataset,
  PAIR_FIELDS,
  prepareDataset,
  preparePairs,
  tokenizerToJson,
} from '../data/index.ts';
import { probeEngine } from '../engine/index.ts';
import { parameterLayout } from '../model/index.ts';
import { writeCorpusPairs } from './corpus-pairs.ts';

/** The corpus in the repository: no figure depends on a file that others do not have. */
const CORPUS = fileURLToPath(new URL('../../corpus/encyclopedia.xml', import.meta.url));

export interface WorkloadOptions {
  readonly preset: PresetName;
  /** Trains on pairs, whose lengths are unequal, in place of texts, which nearly fill their sequences. */
  readonly pairs: boolean;
  /** Upper bound; a small corpus may yield fewer tokens. */
  readonly vocabSize: number;
  /** Of one step (M); null takes the preset's. */
  readonly microBatches: number | null;
  /** Sequences of a micro-batch, and tokens of one at most; null takes the preset's. */
  readonly microBatchSize: number | null;
  readonly sequenceLength: number | null;
  /** Steps at the start that are not counted. */
  readonly warmupSteps: number;
  readonly measuredSteps: number;
  /** How often the two systems take turns. */
  readonly rounds: number;
  /** How many processes train together, one figure for each. */
  readonly workerCounts: readonly number[];
}

export interface Workload {
  readonly options: WorkloadOptions;
  /** The preset, and what is unusual. */
  readonly name: string;
  readonly config: RunConfig;
  readonly dataDir: string;
  readonly datasetSha256: string;
  readonly tokenizerJson: string;
  /** The file the peer reads. */
  readonly peerFile: string;
  readonly numParameters: number;
  /** What the run was decided on, for a person. */
  readonly description: string;
}

export async function createWorkload(options: WorkloadOptions, folder: string): Promise<Workload> {
  const { preset, pairs, microBatches, microBatchSize, sequenceLength } = options;
  const name = pairs ? `${preset}-pairs` : preset;
  const dataDir = join(folder, `data-${name}`);
  await prepareData(options, dataDir);
  const dataset = await openDataset(dataDir);
  try {
    const steps = options.warmupSteps + options.measuredSteps;
    const tensorflow = await probeEngine('tensorflow');
    const config = resolveConfig({
      flags: {
        preset,
        steps,
        engine: tensorflow.available ? 'tensorflow' : 'wasm',
        model: { vocabSize: dataset.vocabSize },
        data: { sequenceLength: sequenceLength ?? undefined },
        step: { microBatches: microBatches ?? undefined, microBatchSize: microBatchSize ?? undefined },
        // One checkpoint, after the last step that is timed.
        checkpoint: { every: steps },
      },
    });
    const peerFile = join(folder, `peer-${name}.json`);
    await writeFile(peerFile, JSON.stringify(await peerWorkload(config, dataset)));
    const numParameters = layoutSize(parameterLayout(config.model));
    return {
      options,
      name,
      config,
      dataDir,
      datasetSha256: dataset.sha256,
      tokenizerJson: tokenizerToJson(dataset.tokenizer),
      peerFile,
      numParameters,
      description: describe(name, config, numParameters),
    };
  } finally {
    dataset.close();
  }
}

async function prepareData({ pairs, vocabSize }: WorkloadOptions, outDir: string): Promise<void> {
  if (!pairs) {
    await prepareDataset({ inputs: [CORPUS], outDir, vocabSize });
    return;
  }
  const file = `${outDir}.jsonl`;
  await writeCorpusPairs(CORPUS, file);
  await preparePairs({ inputs: [file], fields: PAIR_FIELDS, outDir, tokenizer: { vocabSize } });
}

function describe(name: string, { engine, model, data, step }: RunConfig, numParameters: number): string {
  const { dModel, encoderLayers, decoderLayers, vocabSize } = model;
  const millions = (numParameters / 1e6).toFixed(1);
  return (
    `${name}: ${millions} M parameters (${encoderLayers}+${decoderLayers} layers of ${dModel}, vocabulary ${vocabSize}), ` +
    `${step.microBatches} x ${step.microBatchSize} sequences of at most ${data.sequenceLength} tokens per step, engine ${engine}`
  );
}

async function peerWorkload(config: RunConfig, dataset: Dataset): Promise<object> {
  const { seed, steps, model, data, step, optimizer } = config;
  const numbers = Array.from({ length: steps }, (_, index) => index + 1);
  const slots = Array.from({ length: step.microBatches }, (_, slot) => slot);
  const batchAt = async (number: number, slot: number): Promise<object> => {
    const batch = await microBatch(dataset, { seed, step: number, slot }, data, step);
    const { sourceIds, sourceLengths, labels, ...sizes } = batch;
    return {
      ...sizes,
      sourceIds: [...sourceIds],
      sourceLengths: [...sourceLengths],
      labels: [...labels],
    };
  };
  return {
    model,
    optimizer,
    specialIds: dataset.manifest.specialIds,
    learningRates: numbers.map((number) => learningRateAt(number, optimizer, steps)),
    steps: await Promise.all(
      numbers.map((number) => Promise.all(slots.map((slot) => batchAt(number, slot)))),
    ),
  };
}
