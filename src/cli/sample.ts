/** `lockstep sample RUN`: noised text of the data set in, the checkpoint's one-pass guess out. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { LockstepError, layoutSize } from '../base/index.ts';
import { findNewestValid } from '../checkpoint/index.ts';
import { CHECKPOINTS_FOLDER, savedConfig } from '../coordinator/index.ts';
import { microBatch, openDataset } from '../data/index.ts';
import { loadEngine } from '../engine/index.ts';
import { createKernels } from '../kernels/index.ts';
import { createTrainingModel } from '../model/index.ts';

import { atLeastOne } from './flags.ts';
import { isTerminal, runCommand, say } from './terminal.ts';

/** Characters of a text that are shown where no terminal gives a width. */
const SHOWN_CHARACTERS = 240;

export function addSampleCommand(program: Command): void {
  program
    .command('sample')
    .description('show what the newest valid checkpoint makes of noised text from the data set')
    .argument('<run>', 'folder of the run')
    .requiredOption('--data <dir>', "the run's data set")
    .option('--count <n>', 'texts', atLeastOne, 2)
    .action((run: string, flags: { data: string; count: number }) =>
      runCommand(async () => {
        for (const { source, target, generated } of await sampleReconstruction(
          run,
          flags.data,
          flags.count,
        )) {
          say(`  noised    ${shorten(source)}`);
          say(`  original  ${shorten(target)}`);
          say(`  model     ${shorten(generated)}\n`);
        }
        return 0;
      }),
    );
}

function shorten(text: string): string {
  const line = text.replace(/\s+/g, ' ');
  const width = isTerminal ? Math.max(40, (process.stdout.columns ?? 100) - 14) : SHOWN_CHARACTERS;
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`;
}

interface Sample {
  readonly source: string;
  readonly target: string;
  readonly generated: string;
}

/**
 * Reconstructs rows of the micro-batch of a step that the run has not reached. The number of slots
 * is the configuration's sequence length, never the reference's. Throws CHECKPOINT_INVALID without a checkpoint.
 */
async function sampleReconstruction(runDir: string, dataDir: string, rows: number): Promise<Sample[]> {
  const config = await savedConfig(runDir);
  const { checkpoint } = await findNewestValid(join(runDir, CHECKPOINTS_FOLDER));
  if (config === null || checkpoint === null) {
    throw new LockstepError('CHECKPOINT_INVALID', `${runDir} holds no valid checkpoint to generate from`);
  }
  const dataset = await openDataset(dataDir);
  const { tf } = await loadEngine(config.engine, { threads: 1 });
  const model = createTrainingModel({
    tf,
    model: config.model,
    objective: config.objective,
    specialIds: dataset.manifest.specialIds,
    dropoutMasks: createKernels(),
  });
  try {
    const parameters = new Float32Array(layoutSize(model.layout));
    await checkpoint.read('parameters', 0, new Uint8Array(parameters.buffer));
    model.setParameters(parameters);
    const key = { seed: config.seed, step: config.steps + 1, slot: 0 };
    const step = { ...config.step, microBatchSize: rows };
    const batch = await microBatch(dataset, key, config.data, step);
    const { sourceLength, sourceLengths, sourceIds, targetLength, labels } = batch;
    const text = (ids: Int32Array) => dataset.tokenizer.decode(ids).trim();
    return model.generate(batch, config.data.sequenceLength).map((generated, row) => ({
      source: text(sourceIds.subarray(row * sourceLength + 1, row * sourceLength + sourceLengths[row]! - 1)),
      target: text(
        withoutPadding(
          labels.subarray(row * targetLength, (row + 1) * targetLength),
          dataset.manifest.specialIds,
        ),
      ),
      generated: text(generated),
    }));
  } finally {
    model.dispose();
    dataset.close();
    await checkpoint.close();
  }
}

function withoutPadding(labels: Int32Array, { eos }: { eos: number }): Int32Array {
  const end = labels.lastIndexOf(eos);
  return end === -1 ? labels : labels.subarray(0, end);
}
