/**
 * `lockstep evaluate`, in three modes. A RUN with its data set: the loss of its checkpoints on what training held out
 * (`data.validationShare`). RUNs with --source and --target: the texts that they generate, scored and timed. Files of
 * --hypotheses with --target: texts from elsewhere, scored (both in evaluate-texts.ts).
 *
 * It reads checkpoints and data only, so it may run beside the training and changes nothing in it.
 */
import { join } from 'node:path';
import type { Command } from 'commander';
import { LockstepError, messageOf } from '../base/index.ts';
import { listCheckpoints } from '../checkpoint/index.ts';
import { CHECKPOINTS_FOLDER } from '../coordinator/index.ts';
import { type Validated, ValidationLoss } from '../evaluation/index.ts';
import { addTextFlags, evaluateModels, scoreFiles, type TextFlags } from './evaluate-texts.ts';
import { atLeastOne } from './flags.ts';
import { formatCount, runCommand, say, warn } from './terminal.ts';

interface LossFlags {
  readonly data?: string;
  readonly all?: boolean;
  readonly samples?: number;
}

type EvaluateFlags = LossFlags & TextFlags;

const MODES = {
  loss: 'a run and --data alone',
  generate: 'runs with --source and --target',
  score: '--hypotheses and --target',
} as const;
type Mode = keyof typeof MODES;

/** The flags that not all modes have. */
const MODES_OF: Readonly<Record<string, readonly Mode[]>> = {
  data: ['loss', 'generate'],
  all: ['loss'],
  samples: ['loss'],
  target: ['generate', 'score'],
  limit: ['generate', 'score'],
  stemming: ['generate', 'score'],
  wordnet: ['generate', 'score'],
  json: ['generate', 'score'],
  exit: ['generate'],
  threshold: ['generate'],
  quorum: ['generate'],
  confidence: ['generate'],
  targetLength: ['generate'],
  beams: ['generate'],
  batchSize: ['generate'],
  latencyTexts: ['generate'],
  engine: ['generate'],
  output: ['generate'],
};

export function addEvaluateCommand(program: Command): void {
  addTextFlags(
    program
      .command('evaluate')
      .description('loss of a run on what it held out, or scores and speed of the texts that models generate')
      .argument('[runs...]', 'folder of the run; several models with --source')
      .option('--data <dir>', "the run's data set")
      .option('--all', 'loss: every checkpoint that is kept, oldest first')
      .option('--samples <n>', 'loss: only the first so many validation samples', atLeastOne),
  ).action((runs: string[], flags: EvaluateFlags, command: Command) =>
    runCommand(() => evaluate(runs, flags, command)),
  );
}

async function evaluate(runs: readonly string[], flags: EvaluateFlags, command: Command): Promise<number> {
  const mode = flags.hypotheses !== undefined ? 'score' : flags.source !== undefined ? 'generate' : 'loss';
  for (const [name, modes] of Object.entries(MODES_OF)) {
    if (command.getOptionValueSource(name) !== 'cli' || modes.includes(mode)) continue;
    const { long } = command.options.find((option) => option.attributeName() === name)!;
    throw refused(`${long} goes with ${modes.map((one) => MODES[one]).join(', or with ')}`);
  }
  switch (mode) {
    case 'score':
      if (runs.length > 0 || flags.source !== undefined) {
        throw refused('--hypotheses are texts that are there already: leave out the runs and --source');
      }
      return scoreFiles(flags);
    case 'generate':
      if (runs.length === 0) throw refused('no run is named to generate from --source');
      return evaluateModels(runs, flags);
    case 'loss': {
      const [run, ...more] = runs;
      if (run === undefined) throw refused('name a run, or texts with --hypotheses and --target');
      if (more.length > 0) throw refused('the loss is that of one run; several are compared with --source');
      if (flags.data === undefined) throw refused(`--data is missing: the data set of ${run}`);
      return evaluateLoss(run, flags.data, flags);
    }
  }
}

function refused(message: string): LockstepError {
  return new LockstepError('CONFIG_INVALID', message);
}

async function evaluateLoss(run: string, data: string, flags: LossFlags): Promise<number> {
  const listed = await listCheckpoints(join(run, CHECKPOINTS_FOLDER));
  const whole = listed.filter((listing) => listing.state === 'complete');
  for (const listing of listed) {
    if (listing.state === 'invalid')
      warn(`checkpoint of step ${listing.step} passed over: ${listing.reason}`);
  }
  const newest = whole.at(-1);
  if (newest === undefined) {
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${run} holds no valid checkpoint: is it the folder given to --run?`,
    );
  }
  const validation = await ValidationLoss.open(run, data);
  try {
    for (const { step } of flags.all === true ? whole : [newest]) {
      const validated = await lossUnlessDamaged(validation, step, flags.samples ?? null);
      if (validated === null) continue;
      const { loss, tokens, samples } = validated;
      say(
        `step ${formatCount(step)}  loss ${loss.toFixed(4)}  perplexity ${Math.exp(loss).toFixed(1)}  ` +
          `${formatCount(tokens)} tokens in ${formatCount(samples)} samples`,
      );
    }
  } finally {
    validation.close();
  }
  return 0;
}

/** Null where the checkpoint is damaged or was deleted meanwhile by the run, which is said. */
async function lossUnlessDamaged(
  validation: ValidationLoss,
  step: number,
  samples: number | null,
): Promise<Validated | null> {
  try {
    return await validation.of(step, samples);
  } catch (error) {
    if (!(error instanceof LockstepError) || error.code !== 'CHECKPOINT_INVALID') throw error;
    warn(`checkpoint of step ${step} passed over: ${messageOf(error)}`);
    return null;
  }
}
