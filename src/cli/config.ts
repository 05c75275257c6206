/** `lockstep config`: the effective configuration that the given flags or a run mean. */
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { readConfigFile, resolveConfig } from '../config/index.ts';
import { savedConfig } from '../coordinator/index.ts';
import { addConfigFlags, type ConfigFlags, configTreeOf } from './flags.ts';
import { runCommand, say } from './terminal.ts';

interface Flags extends ConfigFlags {
  readonly run?: string;
}

export function addConfigCommand(program: Command): void {
  addConfigFlags(
    program.command('config').description('print the effective configuration as JSON, for --config'),
  )
    .option('--run <dir>', 'start from the configuration this run was started with')
    .action((flags: Flags) => runCommand(() => printConfig(flags)));
}

async function printConfig(flags: Flags): Promise<number> {
  const base = flags.run === undefined ? undefined : await savedConfig(flags.run);
  if (base === null) throw new LockstepError('DATA_MISSING', `--run ${flags.run} holds no run`);
  const file =
    flags.config === undefined ? undefined : { path: flags.config, values: readConfigFile(flags.config) };
  say(JSON.stringify(resolveConfig({ base, file, flags: configTreeOf(flags) }), null, 2));
  return 0;
}
