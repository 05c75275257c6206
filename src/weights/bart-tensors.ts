/**
 * Which tensor of a file is which parameter: with or without the `model.` prefix, the tied table under any of
 * its names. Whatever is missing, unknown or of the wrong shape or type is listed at once. Pure.
 *
 * Source: the state dictionary of transformers' BartForConditionalGeneration and BartModel.
 */
import { LockstepError, type ParameterLayout } from '../base/index.ts';
import type { ModelConfig } from '../config/index.ts';
import { parameterLayout } from '../model/index.ts';
import { elementsOf, isReadable, type StoredTensor } from './tensor-archive.ts';

const TABLE = 'model.shared.weight';
const CONCAT_HEAD = 'concat_head.weight';
const LOGITS_BIAS = 'final_logits_bias';
/** Other names of the tied table; a file has any of the four, or several. */
const TABLE_ALIASES = [
  'lm_head.weight',
  'model.encoder.embed_tokens.weight',
  'model.decoder.embed_tokens.weight',
] as const;
/** Names that a message lists of each kind: more than BART-base has. */
const LISTED_MAX = 300;

export interface MatchedTensors {
  /** With `concatHead` as the file has it. */
  readonly model: ModelConfig;
  /** One for each parameter, in the order of the layout of `model`. */
  readonly parameters: readonly StoredTensor[];
  /** Further copies of the tied table, which must hold the same numbers. */
  readonly aliases: readonly StoredTensor[];
  /** Must be zero: the model adds nothing to its logits. Null when the file has none. */
  readonly logitsBias: StoredTensor | null;
}

/** Throws CHECKPOINT_INVALID listing all that does not fit `model`. */
export function matchTensors(
  tensors: readonly StoredTensor[],
  model: ModelConfig,
  path: string,
): MatchedTensors {
  const found = new Map<string, StoredTensor>();
  const faults = {
    missing: [] as string[],
    unknown: [] as string[],
    twice: [] as string[],
    other: [] as string[],
  };
  for (const tensor of tensors) {
    const name = canonicalName(tensor.name);
    if (found.has(name)) faults.twice.push(tensor.name);
    else found.set(name, tensor);
  }
  const actual = { ...model, concatHead: found.has(CONCAT_HEAD) };
  const layout = parameterLayout(actual);
  const table = [TABLE, ...TABLE_ALIASES].flatMap((name) => found.get(name) ?? []);
  const parameters = layout.flatMap(({ name }) => (name === TABLE ? table[0] : found.get(name)) ?? []);
  const shapes = shapesOf(layout, model);
  for (const { name } of layout) {
    if (name === TABLE ? table.length === 0 : !found.has(name)) faults.missing.push(name);
  }
  for (const [name, tensor] of found) {
    const expected = shapes.get(name);
    if (expected === undefined) faults.unknown.push(tensor.name);
    else if (!hasShape(tensor, expected)) {
      faults.other.push(`${tensor.name} has shape [${tensor.shape}] instead of [${expected}]`);
    } else if (!isReadable(tensor.type)) faults.other.push(`${tensor.name} is of type ${tensor.type}`);
  }
  refuse(faults, path);
  return { model: actual, parameters, aliases: table.slice(1), logitsBias: found.get(LOGITS_BIAS) ?? null };
}

/** The name within BartForConditionalGeneration of what BartModel alone has without a prefix. */
function canonicalName(name: string): string {
  return /^(?:shared|encoder|decoder)\./.test(name) ? `model.${name}` : name;
}

function shapesOf(layout: ParameterLayout, { vocabSize, dModel }: ModelConfig) {
  const shapes = new Map<string, readonly number[]>(layout.map(({ name, shape }) => [name, shape]));
  for (const alias of TABLE_ALIASES) shapes.set(alias, [vocabSize, dModel]);
  return shapes.set(LOGITS_BIAS, [1, vocabSize]);
}

function hasShape({ shape }: StoredTensor, expected: readonly number[]): boolean {
  return shape.length === expected.length && shape.every((side, axis) => side === expected[axis]);
}

function refuse(faults: Record<'missing' | 'unknown' | 'twice' | 'other', string[]>, path: string): void {
  const listed = (names: string[]) => {
    const more = names.length > LISTED_MAX ? ` and ${names.length - LISTED_MAX} more` : '';
    return `${names.slice(0, LISTED_MAX).join(', ')}${more}`;
  };
  const { missing, unknown, twice, other } = faults;
  const said = [
    ...(missing.length > 0 ? [`missing: ${listed(missing)}`] : []),
    ...(unknown.length > 0 ? [`unknown: ${listed(unknown)}`] : []),
    ...(twice.length > 0 ? [`there twice, with and without "model.": ${listed(twice)}`] : []),
    ...(other.length > 0 ? [listed(other)] : []),
  ];
  if (said.length === 0) return;
  throw new LockstepError(
    'CHECKPOINT_INVALID',
    `${path} does not hold the tensors of the model in config.json: ${said.join('; ')}: take the two files from one model`,
    { context: { path } },
  );
}

/** Numbers of a tensor. */
export function sizeOf({ shape }: StoredTensor): number {
  return elementsOf(shape);
}
