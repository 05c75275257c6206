/** The flags that say which model generates and how; `generate` and `serve` have them in common. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { LockstepError } from '../base/index.ts';
import { ENGINE_NAMES, type EngineName, OBJECTIVE_KINDS, type ObjectiveKind } from '../config/index.ts';
import {
  type GenerationOptions,
  type GeneratorFacts,
  generationDefaults,
  type OpenGeneratorOptions,
} from '../generation/index.ts';
import { CONFIDENCES, EXITS } from '../model/index.ts';
import { atLeastOne, wholeNumber } from './flags.ts';

export interface ModelFlags {
  readonly data?: string;
  readonly checkpoint?: number;
  readonly objective?: ObjectiveKind;
  readonly engine?: EngineName | 'auto';
}

export interface GenerationFlags {
  readonly exit?: GenerationOptions['exit'];
  readonly threshold?: number;
  readonly quorum?: number;
  readonly confidence?: GenerationOptions['confidence'];
  readonly targetLength?: number;
  readonly beams?: number;
  readonly lengthPenalty?: number;
  readonly dedup: boolean;
}

export function addModelFlags(command: Command): Command {
  return command
    .option('--data <dir>', 'data set, or tokenizer, for a folder that keeps no tokenizer')
    .option('--checkpoint <step>', 'checkpoint to take (default: the newest valid one)', wholeNumber)
    .addOption(
      new Option(
        '--objective <kind>',
        'what the decoder of a model folder has learned (default: lplm, or soft with a concat head)',
      ).choices(OBJECTIVE_KINDS),
    )
    .addOption(
      new Option('--engine <name>', "compute engine (default: the run's)").choices(['auto', ...ENGINE_NAMES]),
    );
}

export function addGenerationFlags(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--exit <kind>',
        'layer that tokens are read from (default: as the model was trained)',
      ).choices(EXITS),
    )
    .option('--threshold <nats>', 'hard exit: entropy below which a token leaves its layer', zeroOrMore)
    .option('--quorum <share>', "hard exit: share of a text's tokens that the others follow", share)
    .addOption(
      new Option('--confidence <kind>', 'hard exit: what the entropy is taken over').choices(CONFIDENCES),
    )
    .option('--target-length <n>', "slots of an output (default: the run's target length)", atLeastOne)
    .option('--beams <n>', 'autoregressive: beams; 1 is greedy', atLeastOne)
    .option('--length-penalty <n>', 'autoregressive: power of the length that scores are divided by', number)
    .option('--no-dedup', 'keep words that repeat the one before');
}

export function openOptionsOf({ data, checkpoint, objective, engine }: ModelFlags): OpenGeneratorOptions {
  return {
    ...(data === undefined ? {} : { data }),
    ...(objective === undefined ? {} : { objective }),
    ...(engine === undefined ? {} : { engine }),
    checkpoint: checkpoint ?? null,
  };
}

/** Flags over the defaults of the model. Throws CONFIG_INVALID for what the model has not got. */
export function generationOptionsOf(flags: GenerationFlags, facts: GeneratorFacts): GenerationOptions {
  const defaults = generationDefaults(facts.kind);
  const options = {
    exit: flags.exit ?? defaults.exit,
    threshold: flags.threshold ?? defaults.threshold,
    quorum: flags.quorum ?? defaults.quorum,
    confidence: flags.confidence ?? defaults.confidence,
    targetLength: flags.targetLength ?? null,
    beams: flags.beams ?? defaults.beams,
    lengthPenalty: flags.lengthPenalty ?? defaults.lengthPenalty,
    removeRepeats: flags.dedup,
  };
  for (const name of ['threshold', 'quorum'] as const) {
    if (flags[name] === undefined || options.exit === 'hard') continue;
    throw new LockstepError(
      'CONFIG_INVALID',
      `--${name} ${flags[name]}: exit ${options.exit} tests no token; use --exit hard or leave it out`,
    );
  }
  return options;
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('expected a number');
  return value;
}

export function share(text: string): number {
  const value = number(text);
  if (value < 0 || value > 1) throw new InvalidArgumentError('expected a share from 0 to 1');
  return value;
}

function zeroOrMore(text: string): number {
  const value = number(text);
  if (value < 0) throw new InvalidArgumentError('expected 0 or more');
  return value;
}
