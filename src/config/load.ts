/**
 * Making one validated run configuration out of preset, file and flags: default < file < flag.
 * Unknown keys are refused by name, with the key that was probably meant.
 */
import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { LockstepError, messageOf } from '../base/index.ts';
import { PRESETS } from './presets.ts';
import {
  type ModelConfig,
  PRESET_NAMES,
  type PresetName,
  type RunConfig,
  runConfigSchema,
} from './run-config.ts';

export type ConfigTree = { readonly [key: string]: unknown };

/** Reads a configuration file. Throws DATA_MISSING or CONFIG_INVALID naming the file. */
export function readConfigFile(path: string): ConfigTree {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new LockstepError('DATA_MISSING', `--config ${path} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new LockstepError('CONFIG_INVALID', `${path} is not valid JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
  if (!isTree(value))
    throw new LockstepError('CONFIG_INVALID', `${path}: expected a JSON object of settings`);
  return value;
}

export interface ConfigSources {
  /** The configuration of the run that is resumed; takes the preset's place. */
  readonly base?: RunConfig | undefined;
  /** The model of the weights that a new run starts from; takes the place of the preset's. */
  readonly model?: ModelConfig | undefined;
  readonly file?: { readonly path: string; readonly values: ConfigTree } | undefined;
  /** What flags say, as a tree of the same shape. */
  readonly flags?: ConfigTree | undefined;
}

/** Throws CONFIG_INVALID with one line: source, field, value, and what is expected. */
export function resolveConfig({ base, model, file, flags = {} }: ConfigSources): RunConfig {
  const preset = flags.preset ?? file?.values.preset;
  if (preset !== undefined && !isPresetName(preset)) {
    const where = flags.preset === undefined ? `${file?.path}: preset` : '--preset';
    throw invalid(where, preset, `expected one of ${PRESET_NAMES.join(', ')}`);
  }
  // A resumed run keeps its own configuration; naming its preset again changes nothing in it.
  const named = PRESETS[preset ?? 'tiny'];
  const start: RunConfig = base ?? (model === undefined ? named : { ...named, model });
  let merged: ConfigTree = start;
  if (file !== undefined) {
    refuseUnknownKeys(file.values, start, file.path);
    merged = mergeTrees(merged, file.values);
  }
  refuseUnknownKeys(flags, start, '--set');
  merged = mergeTrees(merged, flags);
  return validate(merged, file);
}

function validate(values: ConfigTree, file: ConfigSources['file']): RunConfig {
  const parsed = runConfigSchema.safeParse(values);
  if (!parsed.success) throw explain(parsed.error.issues[0]!, values, file);
  const { model, data, objective } = parsed.data;
  if (data.sequenceLength > model.maxPositions) {
    const expected = `expected at most model.maxPositions (${model.maxPositions})`;
    throw invalid('data.sequenceLength', data.sequenceLength, expected);
  }
  if (data.targetLength !== null && data.targetLength > model.maxPositions) {
    const expected = `expected at most model.maxPositions (${model.maxPositions})`;
    throw invalid('data.targetLength', data.targetLength, expected);
  }
  if (objective.kind === 'soft' && !model.concatHead) {
    throw invalid('model.concatHead', false, 'objective.kind "soft" needs true');
  }
  return freeze(parsed.data);
}

function explain(issue: z.core.$ZodIssue, values: ConfigTree, file: ConfigSources['file']): LockstepError {
  const path = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    const key = [...issue.path, issue.keys[0]].map(String).join('.');
    return new LockstepError(
      'CONFIG_INVALID',
      `unknown setting ${key}; \`lockstep config\` prints all there are`,
    );
  }
  const isFromFile = file !== undefined && valueAt(file.values, issue.path) !== undefined;
  const where = isFromFile ? `${file.path}: ${path}` : path;
  return invalid(where, valueAt(values, issue.path), issue.message);
}

function invalid(where: string, value: unknown, expected: string): LockstepError {
  return new LockstepError('CONFIG_INVALID', `${where} is ${JSON.stringify(value)}: ${expected}`);
}

function refuseUnknownKeys(values: ConfigTree, known: ConfigTree, file: string, path = ''): void {
  for (const [key, value] of Object.entries(values)) {
    const full = path === '' ? key : `${path}.${key}`;
    if (!Object.hasOwn(known, key)) {
      const meant = nearest(key, Object.keys(known));
      const hint = meant === null ? '`lockstep config` prints all there are' : `did you mean ${meant}?`;
      throw new LockstepError('CONFIG_INVALID', `${file}: unknown setting ${full}; ${hint}`);
    }
    const inner = known[key];
    if (isTree(value) && isTree(inner)) refuseUnknownKeys(value, inner, file, full);
  }
}

/** The candidate within two edits of `word`, if there is one. */
function nearest(word: string, candidates: readonly string[]): string | null {
  const scored = candidates.map((candidate) => ({ candidate, edits: editDistance(word, candidate) }));
  scored.sort((a, b) => a.edits - b.edits);
  const best = scored[0];
  return best !== undefined && best.edits <= 2 ? best.candidate : null;
}

/** Levenshtein distance, ignoring case. */
function editDistance(a: string, b: string): number {
  const left = a.toLowerCase();
  const right = b.toLowerCase();
  let row = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let i = 1; i <= left.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= right.length; j += 1) {
      const substitution = row[j - 1]! + (left[i - 1] === right[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[right.length]!;
}

function mergeTrees(under: ConfigTree, over: ConfigTree): ConfigTree {
  const merged: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue;
    const below = merged[key];
    merged[key] = isTree(below) && isTree(value) ? mergeTrees(below, value) : value;
  }
  return merged;
}

function isTree(value: unknown): value is ConfigTree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isPresetName(value: unknown): value is PresetName {
  return PRESET_NAMES.some((name) => name === value);
}

function valueAt(tree: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (isTree(value) ? value[String(key)] : undefined), tree);
}

function freeze<T extends object>(value: T): T {
  for (const member of Object.values(value)) if (isTree(member)) freeze(member);
  return Object.freeze(value);
}
