/** `lockstep digest RUN`: what the run's weights are, in one line that two runs can be compared by. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { findNewestValid } from '../checkpoint/index.ts';
import { CHECKPOINTS_FOLDER } from '../coordinator/index.ts';
import { runCommand, say, warn } from './terminal.ts';

export function addDigestCommand(program: Command): void {
  program
    .command('digest')
    .description("print the SHA-256 of the newest valid checkpoint's weights, and its step")
    .argument('<run>', 'folder of the run')
    .action((run: string) => runCommand(() => digest(run)));
}

async function digest(run: string): Promise<number> {
  const { sha256, step } = await weightsDigest(run);
  say(`${sha256}  step ${step}`);
  return 0;
}

/** Verifies the checkpoint it speaks of. Throws CHECKPOINT_INVALID when there is none. */
export async function weightsDigest(run: string): Promise<{ sha256: string; step: number }> {
  const { checkpoint, rejected } = await findNewestValid(join(run, CHECKPOINTS_FOLDER));
  for (const { step, reason } of rejected) warn(`checkpoint of step ${step} passed over: ${reason}`);
  if (checkpoint === null) {
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${run} holds no valid checkpoint: is it the folder given to --run?`,
    );
  }
  const { weightsSha256: sha256, step } = checkpoint.manifest;
  await checkpoint.close();
  return { sha256, step };
}
