/**
 * `lockstep evaluate RUN`: the loss of the run's checkpoints on the documents that training held out
 * (`data.validationShare`). It reads checkpoints and the data set only, so it may run beside the training and changes
 * nothing in it. The text is noised by place and seed: equal checkpoints get equal numbers, on one engine.
 */
import { join } from 'node:path';
import type { Command } from 'commander';
import { LockstepError, layoutSize, messageOf } from '../base/index.ts';
import { type CheckpointReader, listCheckpoints, openCheckpoint } from '../checkpoint/index.ts';
import type { RunConfig } from '../config/index.ts';
import { CHECKPOINTS_FOLDER, savedConfig } from '../coordinator/index.ts';
import { type Dataset, openDataset, sampleSpecOf, validationBatch } from '../data/index.ts';
import { loadEngine } from '../engine/index.ts';
import { createKernels } from '../kernels/index.ts';
import { createTrainingModel, type TrainingModel } from '../model/index.ts';
import { atLeastOne } from './flags.ts';
import { formatCount, runCommand, say, warn } from './terminal.ts';

interface EvaluateFlags {
  readonly data: string;
  readonly all?: boolean;
  readonly samples?: number;
}

export function addEvaluateCommand(program: Command): void {
  program
    .command('evaluate')
    .description('loss of the newest checkpoint on the documents held out for validation')
    .argument('<run>', 'folder of the run')
    .requiredOption('--data <dir>', "the run's data set")
    .option('--all', 'every checkpoint that is kept, oldest first')
    .option('--samples <n>', 'only the first so many validation samples', atLeastOne)
    .action((run: string, flags: EvaluateFlags) => runCommand(() => evaluate(run, flags)));
}

async function evaluate(run: string, flags: EvaluateFlags): Promise<number> {
  const config = await savedConfig(run);
  const listed = await listCheckpoints(join(run, CHECKPOINTS_FOLDER));
  const whole = listed.filter((listing) => listing.state === 'complete');
  for (const listing of listed) {
    if (listing.state === 'invalid')
      warn(`checkpoint of step ${listing.step} passed over: ${listing.reason}`);
  }
  const newest = whole.at(-1);
  if (config === null || newest === undefined) {
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${run} holds no valid checkpoint: is it the folder given to --run?`,
    );
  }
  const dataset = await openDataset(flags.data, { expectedSha256: newest.manifest.datasetSha256 });
  try {
    const samples = await dataset.samples(sampleSpecOf(config.data, 'validation'));
    const count = Math.min(samples.count, flags.samples ?? samples.count);
    const { tf } = await loadEngine(config.engine, { threads: 1 });
    const { model: shape, objective } = config;
    const { specialIds } = dataset.manifest;
    const model = createTrainingModel({
      tf,
      model: shape,
      objective,
      specialIds,
      dropoutMasks: createKernels(),
    });
    try {
      const wanted = flags.all === true ? whole : [newest];
      for (const { dir, step } of wanted) {
        if (!(await loadParameters(model, dir, step))) continue;
        const { lossSum, tokens } = await lossOf(model, dataset, config, count);
        const loss = lossSum / tokens;
        say(
          `step ${formatCount(step)}  loss ${loss.toFixed(4)}  perplexity ${Math.exp(loss).toFixed(1)}  ` +
            `${formatCount(tokens)} tokens in ${formatCount(count)} samples`,
        );
      }
    } finally {
      model.dispose();
    }
    return 0;
  } finally {
    dataset.close();
  }
}

/** False where the checkpoint is damaged or was deleted meanwhile by the run, which is said. */
async function loadParameters(model: TrainingModel, dir: string, step: number): Promise<boolean> {
  let checkpoint: CheckpointReader | null = null;
  try {
    checkpoint = await openCheckpoint(dir);
    await checkpoint.verify();
    const parameters = new Float32Array(layoutSize(model.layout));
    await checkpoint.read('parameters', 0, new Uint8Array(parameters.buffer));
    model.setParameters(parameters);
    return true;
  } catch (error) {
    if (!(error instanceof LockstepError) || error.code !== 'CHECKPOINT_INVALID') throw error;
    warn(`checkpoint of step ${step} passed over: ${messageOf(error)}`);
    return false;
  } finally {
    await checkpoint?.close();
  }
}

/** Summed over the first `count` validation samples, in nats. */
async function lossOf(
  model: TrainingModel,
  dataset: Dataset,
  { seed, data, step }: RunConfig,
  count: number,
): Promise<{ lossSum: number; tokens: number }> {
  let lossSum = 0;
  let tokens = 0;
  for (let first = 0; first < count; first += step.microBatchSize) {
    const size = Math.min(step.microBatchSize, count - first);
    const batch = await validationBatch(dataset, first, size, seed, data);
    const result = await model.evaluate(batch);
    lossSum += result.lossSum;
    tokens += result.realTokens;
  }
  return { lossSum, tokens };
}
