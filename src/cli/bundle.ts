/** `lockstep bundle`: Node, this program and its modules in one archive, for hosts without network or root. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { LockstepError, messageOf } from '../base/index.ts';
import { packFolder } from './bundle/archive.ts';
import { stageBundle } from './bundle/contents.ts';
import { formatBytes, runCommand, say } from './terminal.ts';
import { lockstepVersion } from './version.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export function addBundleCommand(program: Command): void {
  program
    .command('bundle')
    .description('pack Node, this program and its modules for hosts like this one, without network or root')
    .requiredOption('--output <file>', 'archive to write, as lockstep.tar.gz; its checksum goes beside it')
    .action((flags: { output: string }) => runCommand(() => bundle(flags.output)));
}

async function bundle(output: string): Promise<number> {
  if (!/\.(tar\.gz|tgz)$/.test(output)) {
    throw new LockstepError('CONFIG_INVALID', `--output ${output}: expected a name that ends in .tar.gz`, {
      context: { field: '--output', value: output },
    });
  }
  const name = `lockstep-${lockstepVersion()}-${process.platform}-${process.arch}`;
  const staged = await stageBundle(ROOT, name);
  const partial = `${output}.partial`;
  try {
    await packFolder(staged.parent, name, partial);
    const hash = createHash('sha256');
    await pipeline(createReadStream(partial), hash);
    await writeFile(`${output}.sha256`, `${hash.digest('hex')}  ${basename(output)}\n`);
    await rename(partial, output);
  } catch (error) {
    await rm(partial, { force: true });
    if (error instanceof LockstepError) throw error;
    throw new LockstepError('DISK_FULL', `${output} cannot be written: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    await rm(staged.parent, { recursive: true, force: true });
  }
  const { size } = await stat(output);
  say(`${output}: ${formatBytes(size)}, ${staged.numPackages} packages; checksum in ${output}.sha256`);
  say(`on the other host: tar xzf ${basename(output)} && ${name}/lockstep doctor`);
  return 0;
}
