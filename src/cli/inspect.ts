/** `lockstep inspect DATA`: what a data set holds and what the model will see of it, here or as a page. */
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { readConfigFile, resolveConfig } from '../config/index.ts';
import { savedConfig } from '../coordinator/index.ts';
import { inspectDataset, openDataset, settledDataConfig } from '../data/index.ts';
import { addConfigFlags, atLeastOne, type ConfigFlags, configTreeOf } from './flags.ts';
import { inspectionPage } from './inspect-page.ts';
import { inspectionLines } from './inspect-report.ts';
import { runCommand, say } from './terminal.ts';
import { writeWhole } from './whole-file.ts';

interface InspectFlags extends ConfigFlags {
  readonly run?: string;
  readonly html?: string;
  readonly samples: number;
}

export function addInspectCommand(program: Command): void {
  addConfigFlags(
    program
      .command('inspect')
      .description('show what a data set holds: counts, lengths, articles before and after, noised samples')
      .argument('<data>', 'folder of the data set'),
  )
    .option('--run <dir>', 'noise, lengths and packing of this run instead of a preset')
    .option('--samples <n>', 'noised samples to show', atLeastOne, 4)
    .option('--html <file>', 'write one page that needs no other file instead')
    .action((data: string, flags: InspectFlags) => runCommand(() => inspect(data, flags)));
}

async function inspect(dir: string, flags: InspectFlags): Promise<number> {
  const base = flags.run === undefined ? undefined : await savedConfig(flags.run);
  if (base === null) throw new LockstepError('DATA_MISSING', `--run ${flags.run} holds no run`);
  const file =
    flags.config === undefined ? undefined : { path: flags.config, values: readConfigFile(flags.config) };
  const { data: asked, seed, model } = resolveConfig({ base, file, flags: configTreeOf(flags) });
  const dataset = await openDataset(dir);
  try {
    const data = settledDataConfig(asked, dataset.manifest, model.maxPositions);
    const inspection = await inspectDataset(dataset, data, seed, flags.samples);
    if (flags.html === undefined) for (const line of inspectionLines(dir, inspection)) say(line);
    else {
      writeWhole('--html', flags.html, inspectionPage(dir, inspection));
      say(`${flags.html}: open it in a browser`);
    }
    return 0;
  } finally {
    dataset.close();
  }
}
