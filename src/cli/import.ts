/** `lockstep import FOLDER`: checks a model folder of others and writes it anew, as this program would. */
import type { Command } from 'commander';
import { layoutSize } from '../base/index.ts';
import { ModelFolder, requireVacant, writeModelFolder } from '../weights/index.ts';
import { describeModel } from './describe-model.ts';
import { runCommand, say } from './terminal.ts';

export function addImportCommand(program: Command): void {
  program
    .command('import')
    .description('check a BART model folder of Hugging Face, and write it as one safetensors file of float32')
    .argument('<folder>', 'with config.json, and model.safetensors or pytorch_model.bin')
    .requiredOption('--out <dir>', 'folder to write; it must be new or empty')
    .action((folder: string, flags: { out: string }) => runCommand(() => importFolder(folder, flags.out)));
}

async function importFolder(path: string, out: string): Promise<number> {
  await requireVacant(out);
  const folder = await ModelFolder.open(path);
  try {
    const sha256 = await writeModelFolder(out, folder);
    say(`weights    ${folder.description}`);
    say(`model      ${describeModel(folder.model, layoutSize(folder.weights.layout))}`);
    say(
      folder.tokenizer === null
        ? `tokenizer  none in ${path}: none is written`
        : 'tokenizer  byte-level BPE, written too',
    );
    say(`${sha256}  ${out}`);
    return 0;
  } finally {
    await folder.close();
  }
}
