/** `lockstep playground-process`: what the dashboard starts to answer its playground; not for people. */
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { savedConfig } from '../coordinator/index.ts';
import { Playground, servePlayground } from '../playground/index.ts';
import { endingWithParent } from '../queue/index.ts';
import { runCommand } from './terminal.ts';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const COMMAND = 'playground-process';

export function addPlaygroundCommand(program: Command): void {
  program
    .command(COMMAND, { hidden: true })
    .argument('<run>')
    .argument('<data>')
    .action((run: string, data: string) =>
      runCommand(async () => {
        await servePlayground(run, data);
        return 0;
      }),
    );
}

/** Makes the playground of a run, given its data folder. */
export function playgroundStarter(runDir: string): (dataDir: string) => Playground {
  return (dataDir) => {
    const command = endingWithParent('KILL', [process.execPath, MAIN, COMMAND, runDir, dataDir]);
    // A device is the workers': an engine would take all of its memory.
    return new Playground(command, { ...process.env, CUDA_VISIBLE_DEVICES: '' });
  };
}

/**
 * The same for a run that was trained autoregressively on the same data, to compare speeds with; null for none.
 * Throws CONFIG_INVALID for a run of another kind, DATA_MISSING for a folder without one.
 */
export async function twinStarter(
  runDir: string | undefined,
): Promise<((dataDir: string) => Playground) | null> {
  if (runDir === undefined) return null;
  const config = await savedConfig(runDir);
  if (config === null) throw new LockstepError('DATA_MISSING', `--twin ${runDir} holds no run`);
  const { kind } = config.objective;
  if (kind === 'autoregressive') return playgroundStarter(runDir);
  throw new LockstepError(
    'CONFIG_INVALID',
    `--twin ${runDir} has objective.kind ${kind}: name a run that was trained with autoregressive`,
  );
}
