/**
 * Weights to start from or to export, wherever they come from: a model folder as Hugging Face lays it out, a
 * run (its newest valid checkpoint, or a named one), or a checkpoint's own folder.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { LockstepError } from '../base/index.ts';
import {
  type CheckpointReader,
  checkpointName,
  findNewestValid,
  openCheckpoint,
} from '../checkpoint/index.ts';
import { canonicalJson, type ModelConfig, runConfigSchema } from '../config/index.ts';
import { CHECKPOINTS_FOLDER, COMMIT_LOG_FILE, runTokenizerFile } from '../coordinator/index.ts';
import { type BpeTokenizer, loadTokenizer } from '../data/index.ts';
import { parameterLayout } from '../model/index.ts';
import { type FlatWeights, withConcatHead } from './flat-weights.ts';
import { CONFIG_FILE, ModelFolder } from './model-folder.ts';

const CHECKPOINT_MANIFEST = 'manifest.json';

export interface WeightsSource {
  readonly path: string;
  /** What was found, for a person. */
  readonly description: string;
  readonly model: ModelConfig;
  /** In the layout of `model`. */
  readonly weights: FlatWeights;
  /** The tokenizer that lies with the weights; null when none does. */
  readonly tokenizer: BpeTokenizer | null;
  /** Checkpoints that were passed over, one line each. */
  readonly notices: readonly string[];
  close(): Promise<void>;
}

/**
 * Opens what lies at `path`; `step` names the checkpoint of a run. Throws DATA_MISSING when nothing usable is
 * there, CHECKPOINT_INVALID when it is damaged or describes another kind of model, and what opening a tokenizer throws.
 */
export async function openWeights(path: string, step: number | null = null): Promise<WeightsSource> {
  if (existsSync(join(path, COMMIT_LOG_FILE))) return openRunWeights(path, step);
  if (existsSync(join(path, CHECKPOINT_MANIFEST))) return openCheckpointWeights(path);
  if (existsSync(join(path, CONFIG_FILE))) {
    const folder = await ModelFolder.open(path);
    const { description, model, weights, tokenizer } = folder;
    return { path, description, model, weights, tokenizer, notices: [], close: () => folder.close() };
  }
  throw new LockstepError(
    'DATA_MISSING',
    `${path} holds no weights: name a model folder (config.json and model.safetensors or pytorch_model.bin), a run, or a checkpoint of one`,
    { context: { path } },
  );
}

/** What a model of this configuration starts as: with a concat head of [I | 0] where it is to have one and has none. */
export function weightsFor({ model: own, weights }: WeightsSource, model: ModelConfig): FlatWeights {
  return model.concatHead && !own.concatHead ? withConcatHead(weights, own) : weights;
}

async function openRunWeights(path: string, step: number | null): Promise<WeightsSource> {
  const checkpointsDir = join(path, CHECKPOINTS_FOLDER);
  const tokenizerFile = runTokenizerFile(path);
  const tokenizer = tokenizerFile === null ? null : loadTokenizer(tokenizerFile);
  if (step !== null) {
    const reader = await openNamed(path, step);
    return checkpointSource(path, reader, tokenizer, []);
  }
  const { checkpoint, rejected } = await findNewestValid(checkpointsDir);
  const notices = rejected.map((one) => `checkpoint of step ${one.step} passed over: ${one.reason}`);
  if (checkpoint !== null) return checkpointSource(path, checkpoint, tokenizer, notices);
  throw new LockstepError(
    'CHECKPOINT_INVALID',
    `${path} holds no valid checkpoint yet: wait for the first one`,
  );
}

async function openNamed(path: string, step: number): Promise<CheckpointReader> {
  const dir = join(path, CHECKPOINTS_FOLDER, checkpointName(step));
  if (!existsSync(dir)) {
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${path} has no checkpoint of step ${step}: name one that is kept in ${CHECKPOINTS_FOLDER}/`,
    );
  }
  const reader = await openCheckpoint(dir);
  return verified(reader);
}

async function openCheckpointWeights(path: string): Promise<WeightsSource> {
  const tokenizerFile = runTokenizerFile(dirname(dirname(path)));
  const tokenizer = tokenizerFile === null ? null : loadTokenizer(tokenizerFile);
  return checkpointSource(path, await verified(await openCheckpoint(path)), tokenizer, []);
}

async function verified(reader: CheckpointReader): Promise<CheckpointReader> {
  try {
    await reader.verify();
    return reader;
  } catch (error) {
    await reader.close();
    throw error;
  }
}

async function checkpointSource(
  path: string,
  reader: CheckpointReader,
  tokenizer: BpeTokenizer | null,
  notices: readonly string[],
): Promise<WeightsSource> {
  const parsed = runConfigSchema.shape.model.safeParse(reader.manifest.bitDeciding.model);
  if (!parsed.success || canonicalJson(parameterLayout(parsed.data)) !== canonicalJson(reader.layout)) {
    await reader.close();
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${reader.dir}: its tensors are not those of the model in its manifest; take another checkpoint`,
    );
  }
  return {
    path,
    description: `${reader.dir}: checkpoint of step ${reader.step} of run ${reader.manifest.runId}`,
    model: parsed.data,
    weights: {
      layout: reader.layout,
      read: (offset, target) => reader.read('parameters', offset, target),
    },
    tokenizer,
    notices,
    close: () => reader.close(),
  };
}
