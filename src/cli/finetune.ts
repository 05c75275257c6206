/**
 * `lockstep finetune`: pairs and weights in, a run out. It prepares the pairs with the tokenizer of the weights, then
 * trains as `train` does, with the configuration of a task and the objective of a path.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { LockstepError } from '../base/index.ts';
import { type ConfigTree, type ModelConfig, readConfigFile, resolveConfig } from '../config/index.ts';
import {
  type BpeTokenizer,
  loadTokenizer,
  MANIFEST_FILE,
  openDataset,
  preparePairs,
  splitOf,
} from '../data/index.ts';
import { openWeights } from '../weights/index.ts';
import { addConfigFlags, configTreeOf, moreThanZero } from './flags.ts';
import { addDashboardFlags } from './observe.ts';
import { addPairFieldFlags, describePairs, type PairFieldFlags, pairFieldsOf } from './prepare-pairs.ts';
import { formatCount, runCommand, say, warn } from './terminal.ts';
import { addFleetFlags, exitCodeOf, type TrainFlags, train } from './train.ts';

/** Each task's file in configs/. */
const TASKS = {
  summarization: 'xsum.json',
  'question-generation': 'squad-question-generation.json',
  dialogue: 'personachat.json',
} as const;
type Task = keyof typeof TASKS;

/** What each path sets. A causal decoder learns its end from the `</s>` alone: slots beyond it would cost and teach nothing. */
const PATHS = {
  hard: ['objective.kind=lplm'],
  soft: ['objective.kind=soft', 'model.concatHead=true'],
  'last-layer': ['objective.kind=lastLayer'],
  autoregressive: ['objective.kind=autoregressive', 'data.targetSlots=longest'],
} as const;
type Path = keyof typeof PATHS;

const CONFIGS = fileURLToPath(new URL('../../configs', import.meta.url));
/** The published test configuration takes the checkpoint of the 50th epoch of 100 (ELMER.md section 4). */
const DEFAULT_EPOCHS = 50;

export interface FinetuneFlags extends Omit<TrainFlags, 'data'>, PairFieldFlags {
  readonly data?: string;
  readonly source?: string;
  readonly target?: string;
  readonly pairs?: readonly string[];
  readonly tokenizer?: string;
  readonly task?: Task;
  readonly path?: Path;
  readonly epochs?: number;
}

export function addFinetuneCommand(program: Command): void {
  const command = program
    .command('finetune')
    .description('train given weights on pairs of source and target, with the settings of a task')
    .option('--from <path>', 'weights to start from: a model folder (Hugging Face), a run, or a checkpoint')
    .requiredOption('--run <dir>', 'folder of the run: commit log and checkpoints')
    .option('--source <file>', 'sources, a text on each line')
    .option('--target <file>', 'their targets, line by line')
    .option('--pairs <files...>', 'JSON lines instead, or several SOURCE and TARGET files in turn')
    .option('--data <dir>', 'where the data set of pairs goes, or lies already (default: RUN-pairs)')
    .option('--tokenizer <path>', 'the tokenizer of the weights, where none lies with them')
    .addOption(new Option('--task <name>', 'settings in configs/').choices(Object.keys(TASKS)))
    .addOption(
      new Option('--path <name>', "what is learned (default: the configuration's objective)").choices(
        Object.keys(PATHS),
      ),
    )
    .option(
      '--epochs <n>',
      `passes over the pairs, instead of --steps (default: ${DEFAULT_EPOCHS})`,
      moreThanZero,
    )
    .option('--resume', 'go on with the run in --run: its task, weights and pairs are those of its start');
  addDashboardFlags(addConfigFlags(addFleetFlags(addPairFieldFlags(command)))).action(
    (flags: FinetuneFlags) => runCommand(() => finetune(flags)),
  );
}

async function finetune(flags: FinetuneFlags): Promise<number> {
  const data = flags.data ?? `${flags.run}-pairs`;
  // After the path's settings, so that a person's own win.
  const set = [...(flags.path === undefined ? [] : PATHS[flags.path]), ...flags.set];
  if (flags.resume === true) {
    if (flags.epochs !== undefined) {
      throw new LockstepError('CONFIG_INVALID', '--epochs with --resume: say the steps to go on to, --steps');
    }
    const { from: _from, config: _config, ...rest } = flags;
    return exitCodeOf(await train({ ...rest, data, set }));
  }
  const weights = await openWeights(required(flags.from, '--from', 'the weights to start from'));
  const { model } = weights;
  const tokenizer = flags.tokenizer === undefined ? weights.tokenizer : loadTokenizer(flags.tokenizer);
  await weights.close();
  await preparePairsOnce(flags, data, tokenizer);
  const config = configFileOf(flags);
  const values = readConfigFile(config);
  const fitted = fittingSettings(config, values, model);
  const schedule = await scheduleOf({ ...flags, set: [...fitted, ...set] }, data, values, model);
  return exitCodeOf(await train({ ...flags, data, config, set: [...fitted, ...schedule, ...set] }));
}

function configFileOf({ task, config }: FinetuneFlags): string {
  if (task !== undefined && config !== undefined) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `--task ${task} and --config ${config}: a task is a configuration file: give either`,
    );
  }
  if (task !== undefined) return join(CONFIGS, TASKS[task]);
  return required(config, '--task', `one of ${Object.keys(TASKS).join(', ')}, or --config FILE`);
}

function required(value: string | undefined, flag: string, what: string): string {
  if (value !== undefined) return value;
  throw new LockstepError('CONFIG_INVALID', `${flag} is missing: give ${what}`);
}

async function preparePairsOnce(
  flags: FinetuneFlags,
  data: string,
  tokenizer: BpeTokenizer | null,
): Promise<void> {
  const inputs = inputsOf(flags);
  if (inputs.length === 0 && existsSync(join(data, MANIFEST_FILE))) return;
  if (tokenizer === null) {
    throw new LockstepError(
      'DATA_MISSING',
      `--from ${flags.from}: no tokenizer lies with the weights: name theirs with --tokenizer`,
    );
  }
  const prepared = await preparePairs({
    ...{ inputs, fields: pairFieldsOf(flags), outDir: data, tokenizer, existing: 'keep-equal' },
  });
  if (prepared.isKept) say(`${data} is there and equal: it is taken as it is`);
  else for (const line of describePairs(data, prepared)) say(line);
}

function inputsOf({ source, target, pairs }: FinetuneFlags): readonly string[] {
  if (source === undefined && target === undefined) return pairs ?? [];
  if (pairs !== undefined) {
    throw new LockstepError('CONFIG_INVALID', '--pairs and --source, --target: give one or the other');
  }
  return [
    required(source, '--source', 'the sources of --target'),
    required(target, '--target', 'the targets'),
  ];
}

/** Lengths of the file that the weights' position tables do not hold, made to fit and said. */
function fittingSettings(file: string, values: ConfigTree, { maxPositions }: ModelConfig): string[] {
  const data = values.data as ConfigTree | undefined;
  return ['sequenceLength', 'targetLength'].flatMap((name) => {
    const asked = data?.[name];
    if (typeof asked !== 'number' || asked <= maxPositions) return [];
    warn(`data.${name} ${asked} of ${file} is ${maxPositions}: the weights have no more positions`);
    return [`data.${name}=${maxPositions}`];
  });
}

/** The run's steps, and a checkpoint each epoch, where neither file nor flags say them. */
async function scheduleOf(
  flags: FinetuneFlags,
  data: string,
  values: ConfigTree,
  model: ModelConfig,
): Promise<string[]> {
  const tree = configTreeOf(flags);
  const file = { path: configFileOf(flags), values };
  const { step, data: dataConfig } = resolveConfig({ model, file, flags: tree });
  const dataset = await openDataset(data, { verifyHashes: false });
  dataset.close();
  if (dataset.manifest.pairs === undefined) {
    throw new LockstepError(
      'CONFIG_MISMATCH',
      `--data ${data} holds texts, not pairs: \`lockstep train --from\` goes on with texts`,
    );
  }
  const documents = dataset.documentHashes.filter(
    (hash) => splitOf(hash, dataConfig.validationShare) === 'train',
  );
  const pairs = documents.length / 2;
  const epochSteps = Math.max(1, Math.ceil(pairs / (step.microBatches * step.microBatchSize)));
  say(`an epoch of ${formatCount(pairs)} pairs is ${formatCount(epochSteps)} steps`);
  const steps = Math.ceil((flags.epochs ?? DEFAULT_EPOCHS) * epochSteps);
  if (flags.epochs !== undefined && tree.steps !== undefined) {
    throw new LockstepError('CONFIG_INVALID', '--epochs and --steps: give one or the other');
  }
  const isSaid = (name: string) => tree[name] !== undefined || values[name] !== undefined;
  const isEverySaid = [tree, values].some(
    (said) => (said.checkpoint as ConfigTree | undefined)?.every !== undefined,
  );
  return [
    ...(flags.epochs !== undefined || !isSaid('steps') ? [`steps=${steps}`] : []),
    ...(isEverySaid ? [] : [`checkpoint.every=${epochSteps}`]),
  ];
}
