/** The flags that commands share, and what they say about the run's configuration. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { LockstepError } from '../base/index.ts';
import { type ConfigTree, ENGINE_NAMES, PRESET_NAMES } from '../config/index.ts';
import { HOST_THREADS_MAX } from '../kernels/index.ts';

export interface ConfigFlags {
  readonly config?: string;
  readonly preset?: string;
  readonly steps?: number;
  readonly seed?: number;
  readonly microBatches?: number;
  readonly microBatchSize?: number;
  readonly engine?: string;
  readonly set: readonly string[];
}

export interface RunFlags extends ConfigFlags {
  readonly data: string;
  readonly run: string;
  readonly resume?: boolean;
  readonly from?: string;
}

export function addConfigFlags(command: Command): Command {
  return command
    .option('--config <file>', 'JSON file of settings; flags override it')
    .option('--preset <name>', `sizes to start from: ${PRESET_NAMES.join(', ')} (default: tiny)`)
    .option('--steps <n>', 'steps of the whole run', wholeNumber)
    .option('--seed <n>', 'seed of every random choice', wholeNumber)
    .option('--micro-batches <n>', 'micro-batches in one step (M)', wholeNumber)
    .option('--micro-batch-size <n>', 'sequences in one micro-batch (B)', wholeNumber)
    .option('--engine <name>', `compute engine: auto, ${ENGINE_NAMES.join(', ')}`)
    .addOption(
      new Option(
        '--set <setting=value>',
        'any setting by its path, as optimizer.learningRate=0.001; repeatable',
      )
        .argParser((value: string, earlier: string[]) => [...earlier, value])
        .default([], 'none'),
    );
}

export function addRunFlags(command: Command): Command {
  return addConfigFlags(
    command
      .requiredOption('--data <dir>', 'data set made by `lockstep prepare`')
      .requiredOption('--run <dir>', 'folder of the run: commit log and checkpoints'),
  )
    .option('--resume', 'go on with the run in --run from its newest valid checkpoint')
    .option('--from <path>', 'weights to start from: a model folder (Hugging Face), a run, or a checkpoint');
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new InvalidArgumentError('expected a whole number');
  return value;
}

export function atLeastOne(text: string): number {
  const value = wholeNumber(text);
  if (value < 1) throw new InvalidArgumentError('expected 1 or more');
  return value;
}

export function hostThreads(text: string): number {
  const value = atLeastOne(text);
  if (value > HOST_THREADS_MAX) throw new InvalidArgumentError(`expected at most ${HOST_THREADS_MAX}`);
  return value;
}

export function moreThanZero(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0 && value < Number.POSITIVE_INFINITY))
    throw new InvalidArgumentError('expected a number above 0');
  return value;
}

export function port(text: string): number {
  const value = wholeNumber(text);
  if (value > 65_535) throw new InvalidArgumentError('expected a port number of 0 to 65535');
  return value;
}

export interface HostAndPort {
  readonly host: string;
  /** Null when only a host was given. */
  readonly port: number | null;
}

/** `HOST` or `HOST:PORT`; an IPv6 address with a port stands in brackets. */
export function addressAndPort(text: string): HostAndPort {
  const match = /^(\[[0-9a-f:.]+\]|[^\s:/@[\]]+)(?::(\d+))?$/i.exec(text);
  if (match === null) throw new InvalidArgumentError('expected HOST or HOST:PORT');
  const [, host = '', digits] = match;
  return { host, port: digits === undefined ? null : port(digits) };
}

export function hostPort(text: string): string {
  const { port: given } = addressAndPort(text);
  if (given === null || given === 0) throw new InvalidArgumentError('expected HOST:PORT');
  return text;
}

/** What the flags say, in the shape of the configuration. Throws CONFIG_INVALID for a malformed --set. */
export function configTreeOf(flags: ConfigFlags): ConfigTree {
  const tree: Record<string, unknown> = {};
  for (const setting of flags.set) {
    const match = /^([A-Za-z][\w.]*)=(.*)$/s.exec(setting);
    if (match === null) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `--set ${setting}: expected a setting and a value, as steps=100`,
      );
    }
    put(tree, match[1]!.split('.'), parseValue(match[2]!));
  }
  const { preset, steps, seed, engine, microBatches, microBatchSize } = flags;
  for (const [key, value] of Object.entries({ preset, steps, seed, engine })) {
    if (value !== undefined) tree[key] = value;
  }
  if (microBatches !== undefined) put(tree, ['step', 'microBatches'], microBatches);
  if (microBatchSize !== undefined) put(tree, ['step', 'microBatchSize'], microBatchSize);
  return tree;
}

function put(tree: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [key, ...rest] = path;
  if (key === undefined) return;
  if (rest.length === 0) {
    tree[key] = value;
    return;
  }
  const inner = tree[key];
  const branch = typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {};
  tree[key] = branch;
  put(branch, rest, value);
}

/** Numbers, booleans and null as in JSON; everything else is text. */
function parseValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
