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
import { type Dataset, microBatch, openDataset, prepareDataset, tokenizerToJson } from '../data/index.ts';
import { probeEngine } from '../engine/index.ts';
import { parameterLayout } from '../model/index.ts';

/** The corpus in the repository: no figure depends on a file that others do not have. */
const CORPUS = fileURLToPath(new URL('../../corpus/encyclopedia.xml', import.meta.url));

export interface WorkloadOptions {
  readonly preset: PresetName;
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
  const { preset, vocabSize, microBatches, microBatchSize, sequenceLength } = options;
  const dataDir = join(folder, `data-${preset}`);
  await prepareDataset({ inputs: [CORPUS], outDir: dataDir, vocabSize });
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
    const peerFile = join(folder, `peer-${preset}.json`);
    await writeFile(peerFile, JSON.stringify(await peerWorkload(config, dataset)));
    const numParameters = layoutSize(parameterLayout(config.model));
    return {
      options,
      config,
      dataDir,
      datasetSha256: dataset.sha256,
      tokenizerJson: tokenizerToJson(dataset.tokenizer),
      peerFile,
      numParameters,
      description: describe(config, numParameters),
    };
  } finally {
    dataset.close();
  }
}

function describe({ preset, engine, model, data, step }: RunConfig, numParameters: number): string {
  const { dModel, encoderLayers, decoderLayers, vocabSize } = model;
  const millions = (numParameters / 1e6).toFixed(1);
  return (
    `${preset}: ${millions} M parameters (${encoderLayers}+${decoderLayers} layers of ${dModel}, vocabulary ${vocabSize}), ` +
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
