/**
 * `lockstep sample RUN`: noised text of the data set in, the checkpoint's one-pass guess out; on the terminal,
 * and beside the run's curves in TensorBoard.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { savedConfig } from '../coordinator/index.ts';
import { TENSORBOARD_FOLDER, TensorBoardFile } from '../dashboard/index.ts';
import { Generator } from '../playground/index.ts';
import { atLeastOne } from './flags.ts';
import { isTerminal, runCommand, say, warn } from './terminal.ts';

/** Characters of a text that are shown where no terminal gives a width. */
const SHOWN_CHARACTERS = 240;

interface Sample {
  readonly source: string;
  readonly target: string;
  readonly generated: string;
}

export function addSampleCommand(program: Command): void {
  program
    .command('sample')
    .description('show what the newest valid checkpoint makes of noised text from the data set')
    .argument('<run>', 'folder of the run')
    .requiredOption('--data <dir>', "the run's data set")
    .option('--count <n>', 'texts', atLeastOne, 2)
    .action((run: string, flags: { data: string; count: number }) =>
      runCommand(async () => {
        const { step, samples } = await sampleReconstruction(run, flags.data, flags.count);
        for (const { source, target, generated } of samples) {
          say(`  noised    ${shorten(source)}`);
          say(`  original  ${shorten(target)}`);
          say(`  model     ${shorten(generated)}\n`);
        }
        await recordSamples(run, step, samples);
        return 0;
      }),
    );
}

function shorten(text: string): string {
  const line = text.replace(/\s+/g, ' ');
  const width = isTerminal ? Math.max(40, (process.stdout.columns ?? 100) - 14) : SHOWN_CHARACTERS;
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`;
}

/** Reconstructs rows of a step that the run does not reach. Throws CHECKPOINT_INVALID without a checkpoint. */
async function sampleReconstruction(
  runDir: string,
  dataDir: string,
  count: number,
): Promise<{ readonly step: number; readonly samples: readonly Sample[] }> {
  const config = await savedConfig(runDir);
  if (config === null) throw noCheckpoint(runDir);
  const { microBatches, microBatchSize } = config.step;
  const generator = await Generator.open(runDir, dataDir);
  try {
    let checkpointStep = 0;
    const samples: Sample[] = [];
    for (let index = 0; index < count; index += 1) {
      const slot = Math.floor(index / microBatchSize);
      const step = config.steps + 1 + Math.floor(slot / microBatches);
      const place = { step, slot: slot % microBatches, row: index % microBatchSize };
      const { source, target, generated } = await generator.example(place);
      if (generated === null) throw noCheckpoint(runDir);
      checkpointStep = generated.step;
      const noised = source.map(({ text, mask }) => (mask ? '<mask>' : text)).join('');
      const original = target.join('');
      samples.push({ source: noised.trim(), target: original.trim(), generated: generated.text.trim() });
    }
    return { step: checkpointStep, samples };
  } finally {
    await generator.close();
  }
}

function noCheckpoint(runDir: string): LockstepError {
  return new LockstepError('CHECKPOINT_INVALID', `${runDir} holds no valid checkpoint to generate from`);
}

async function recordSamples(runDir: string, step: number, samples: readonly Sample[]): Promise<void> {
  const file = await TensorBoardFile.create(join(runDir, TENSORBOARD_FOLDER), hostname(), warn);
  samples.forEach(({ source, target, generated }, index) => {
    const text = `noised    ${source}\noriginal  ${target}\nmodel     ${generated}`;
    file.addText(`samples/${index}`, step, text);
  });
  await file.close();
}
