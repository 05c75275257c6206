/**
 * The loss of a run's checkpoints on what training held out (`data.validationShare`). Texts are noised by place and
 * seed: equal checkpoints get equal numbers, on one engine. Checkpoints and data are only read, so this may go on beside
 * the training.
 */
import { join } from 'node:path';
import { LockstepError, layoutSize } from '../base/index.ts';
import { checkpointName, openCheckpoint } from '../checkpoint/index.ts';
import type { RunConfig } from '../config/index.ts';
import { CHECKPOINTS_FOLDER, savedConfig } from '../coordinator/index.ts';
import { type Dataset, openDataset, sampleSpecOf, validationBatch } from '../data/index.ts';
import { loadEngine } from '../engine/index.ts';
import { createKernels } from '../kernels/index.ts';
import { createTrainingModel, type TrainingModel } from '../model/index.ts';

export interface Validated {
  readonly step: number;
  /** Mean over the real target tokens, in nats. */
  readonly loss: number;
  readonly tokens: number;
  readonly samples: number;
}

export class ValidationLoss {
  readonly #checkpointsDir: string;
  readonly #config: RunConfig;
  readonly #dataset: Dataset;
  readonly #model: TrainingModel;

  /** Throws DATA_MISSING without a run or data set, CONFIG_INVALID when nothing is held out, ENGINE_UNAVAILABLE. */
  static async open(runDir: string, dataDir: string): Promise<ValidationLoss> {
    const config = await savedConfig(runDir);
    if (config === null) throw new LockstepError('DATA_MISSING', `${runDir} holds no run yet`);
    const dataset = await openDataset(dataDir, { verifyHashes: false });
    try {
      // Refuses a run that holds nothing out before an engine is loaded for it.
      await dataset.samples(sampleSpecOf(config.data, 'validation'));
      const { tf, readInto } = await loadEngine(config.engine, { threads: 1 });
      const { model, objective } = config;
      const { specialIds } = dataset.manifest;
      const dropoutMasks = createKernels();
      const training = createTrainingModel({ tf, model, objective, specialIds, dropoutMasks, readInto });
      return new ValidationLoss(join(runDir, CHECKPOINTS_FOLDER), config, dataset, training);
    } catch (error) {
      dataset.close();
      throw error;
    }
  }

  private constructor(checkpointsDir: string, config: RunConfig, dataset: Dataset, model: TrainingModel) {
    this.#checkpointsDir = checkpointsDir;
    this.#config = config;
    this.#dataset = dataset;
    this.#model = model;
  }

  /**
   * The loss of the checkpoint of `step` on the first `samplesMax` samples held out; null takes all. Throws
   * CHECKPOINT_INVALID for one that is damaged or was removed meanwhile, CONFIG_MISMATCH for one of other data.
   */
  async of(step: number, samplesMax: number | null): Promise<Validated> {
    await this.#load(step);
    const { seed, data, step: stepConfig } = this.#config;
    const { count } = await this.#dataset.samples(sampleSpecOf(data, 'validation'));
    const samples = Math.min(count, samplesMax ?? count);
    let lossSum = 0;
    let tokens = 0;
    for (let first = 0; first < samples; first += stepConfig.microBatchSize) {
      const size = Math.min(stepConfig.microBatchSize, samples - first);
      const batch = await validationBatch(this.#dataset, first, size, seed, data);
      const result = await this.#model.evaluate(batch);
      lossSum += result.lossSum;
      tokens += result.realTokens;
    }
    return { step, loss: lossSum / tokens, tokens, samples };
  }

  close(): void {
    this.#model.dispose();
    this.#dataset.close();
  }

  async #load(step: number): Promise<void> {
    const checkpoint = await openCheckpoint(join(this.#checkpointsDir, checkpointName(step)));
    try {
      const { datasetSha256 } = checkpoint.manifest;
      if (datasetSha256 !== this.#dataset.sha256) {
        throw new LockstepError(
          'CONFIG_MISMATCH',
          `${this.#dataset.directory} has SHA-256 ${this.#dataset.sha256}, but the run was trained on ${datasetSha256}: name its own data set`,
        );
      }
      await checkpoint.verify();
      const parameters = new Float32Array(layoutSize(this.#model.layout));
      await checkpoint.read('parameters', 0, new Uint8Array(parameters.buffer));
      this.#model.setParameters(parameters);
    } finally {
      await checkpoint.close();
    }
  }
}
