/** `lockstep export RUN`: a run's weights as a model folder that Python's transformers opens. */
import type { Command } from 'commander';
import { LockstepError, layoutSize } from '../base/index.ts';
import { openDataset } from '../data/index.ts';
import { openWeights, requireVacant, type WeightsSource, writeModelFolder } from '../weights/index.ts';
import { describeModel } from './describe-model.ts';
import { wholeNumber } from './flags.ts';
import { runCommand, say, warn } from './terminal.ts';

interface ExportFlags {
  readonly out: string;
  readonly checkpoint?: number;
  readonly data?: string;
}

export function addExportCommand(program: Command): void {
  program
    .command('export')
    .description(
      "write a run's weights and tokenizer as a model folder that Hugging Face's transformers opens",
    )
    .argument('<run>', 'folder of the run, or of one checkpoint')
    .requiredOption('--out <dir>', 'folder to write; it must be new or empty')
    .option('--checkpoint <step>', 'the checkpoint of this step (default: the newest valid one)', wholeNumber)
    .option('--data <dir>', "the run's data set, for the tokenizer of a run that has kept none")
    .action((run: string, flags: ExportFlags) => runCommand(() => exportRun(run, flags)));
}

async function exportRun(run: string, flags: ExportFlags): Promise<number> {
  const { out, checkpoint = null } = flags;
  await requireVacant(out);
  const source = await openWeights(run, checkpoint);
  for (const notice of source.notices) warn(notice);
  try {
    const { model, weights, description } = source;
    const tokenizer = await tokenizerOf(source, flags.data);
    const sha256 = await writeModelFolder(out, { model, weights, tokenizer });
    say(`weights    ${description}`);
    say(`model      ${describeModel(model, layoutSize(weights.layout))}`);
    say(`${sha256}  ${out}`);
    return 0;
  } finally {
    await source.close();
  }
}

async function tokenizerOf({ path, tokenizer, model }: WeightsSource, data: string | undefined) {
  if (tokenizer !== null) return tokenizer;
  if (data === undefined) {
    throw new LockstepError(
      'DATA_MISSING',
      `${path} has kept no tokenizer.json, as runs of older versions: name the run's data set with --data`,
    );
  }
  const dataset = await openDataset(data, { verifyHashes: false });
  dataset.close();
  if (dataset.vocabSize === model.vocabSize) return dataset.tokenizer;
  throw new LockstepError(
    'CONFIG_MISMATCH',
    `--data ${data} has ${dataset.vocabSize} tokens, but the model in ${path} ${model.vocabSize}: name the run's data set`,
  );
}
