/**
 * Where a model is read from: its sizes, its tokenizer and its parameters. A run folder has the first in its
 * commit log, the last in its checkpoints, and the tokenizer of its own or, in a run of an older version, that of
 * its data set. A model folder as Hugging Face lays it out has all three, but does not say what its decoder has
 * learned: an ELMER and a BART look alike (ELMER.md section 1).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LockstepError, layoutSize } from '../base/index.ts';
import {
  type CheckpointReader,
  checkpointName,
  findNewestValid,
  openCheckpoint,
} from '../checkpoint/index.ts';
import type { ModelConfig, ObjectiveKind, RunConfig } from '../config/index.ts';
import { CHECKPOINTS_FOLDER, COMMIT_LOG_FILE, runTokenizerFile, savedConfig } from '../coordinator/index.ts';
import { type BpeTokenizer, loadTokenizer } from '../data/index.ts';
import { parameterLayout } from '../model/index.ts';
import { openWeights } from '../weights/index.ts';

export interface LoadedParameters {
  readonly flat: Float32Array;
  /** Step of the checkpoint; null for weights that belong to no run. */
  readonly step: number | null;
}

export interface ModelSource {
  readonly model: ModelConfig;
  readonly kind: ObjectiveKind;
  readonly engine: RunConfig['engine'];
  /** Longest source and usual number of target slots, in tokens. */
  readonly sourceLengthMax: number;
  readonly targetLength: number;
  readonly tokenizer: BpeTokenizer;
  /** Parameters in layout order; null takes the newest valid checkpoint. Throws CHECKPOINT_INVALID. */
  readParameters(checkpoint: number | null): Promise<LoadedParameters>;
}

export interface ModelPlace {
  /** A run folder or a model folder. */
  readonly place: string;
  /** The run's data set, or whatever else holds the tokenizer, for folders that keep none. */
  readonly data: string | null;
  /** What the decoder of a model folder has learned; null takes ELMER's `lplm`, or `soft` with a concat head. */
  readonly kind: ObjectiveKind | null;
}

/** Sources and outputs of a model folder whose training is not known: BART's own limits (ELMER.md section 2). */
const FOLDER_SOURCE_TOKENS = 512;
const FOLDER_TARGET_TOKENS = 64;

/** Throws DATA_MISSING when nothing usable is there, CONFIG_MISMATCH for a tokenizer of another vocabulary. */
export async function openModelSource({ place, data, kind }: ModelPlace): Promise<ModelSource> {
  if (!existsSync(place)) {
    throw missing(place, 'does not exist: name the folder of a run or of a model');
  }
  if (!existsSync(join(place, COMMIT_LOG_FILE))) return openFolderSource(place, data, kind);
  if (kind === null) return openRunSource(place, data);
  throw new LockstepError('CONFIG_INVALID', `--objective ${kind}: ${place} is a run, which knows its own`);
}

async function openRunSource(runDir: string, dataDir: string | null): Promise<ModelSource> {
  const config = await savedConfig(runDir);
  if (config === null) throw missing(runDir, 'holds no run yet: its commit log is empty');
  const { model, data, objective, engine } = config;
  const readParameters = async (step: number | null): Promise<LoadedParameters> => {
    const checkpoint = await openVerified(join(runDir, CHECKPOINTS_FOLDER), step);
    try {
      const flat = new Float32Array(layoutSize(parameterLayout(model)));
      await checkpoint.read('parameters', 0, new Uint8Array(flat.buffer));
      return { flat, step: checkpoint.step };
    } finally {
      await checkpoint.close();
    }
  };
  return {
    ...{ model, kind: objective.kind, engine, readParameters },
    // Positions beyond the longest sequence of the training have never been learned.
    sourceLengthMax: Math.min(data.sequenceLength, model.maxPositions),
    targetLength: Math.min(data.targetLength ?? data.sequenceLength, model.maxPositions),
    tokenizer: tokenizerFor(runDir, runTokenizerFile(runDir) ?? dataDir, model),
  };
}

async function openFolderSource(
  place: string,
  data: string | null,
  kind: ObjectiveKind | null,
): Promise<ModelSource> {
  const weights = await openWeights(place);
  const { model } = weights;
  const readParameters = async (): Promise<LoadedParameters> => {
    const flat = new Float32Array(layoutSize(parameterLayout(model)));
    try {
      await weights.weights.read(0, new Uint8Array(flat.buffer));
    } finally {
      await weights.close();
    }
    return { flat, step: null };
  };
  return {
    ...{ model, kind: kind ?? (model.concatHead ? 'soft' : 'lplm'), engine: 'auto', readParameters },
    sourceLengthMax: Math.min(FOLDER_SOURCE_TOKENS, model.maxPositions),
    targetLength: Math.min(FOLDER_TARGET_TOKENS, model.maxPositions),
    tokenizer: weights.tokenizer ?? tokenizerFor(place, data, model),
  };
}

function tokenizerFor(
  place: string,
  tokenizerPlace: string | null,
  { vocabSize }: ModelConfig,
): BpeTokenizer {
  if (tokenizerPlace === null) {
    throw missing(place, 'has no tokenizer of its own: name its data set, or a tokenizer, with --data');
  }
  const tokenizer = loadTokenizer(tokenizerPlace);
  if (tokenizer.vocabSize === vocabSize) return tokenizer;
  throw new LockstepError(
    'CONFIG_MISMATCH',
    `${tokenizerPlace} has ${tokenizer.vocabSize} tokens, the model of ${place} ${vocabSize}: name the model's own with --data`,
    { context: { place: tokenizerPlace, vocabSize: tokenizer.vocabSize } },
  );
}

async function openVerified(checkpointsDir: string, step: number | null): Promise<CheckpointReader> {
  if (step !== null) {
    const checkpoint = await openCheckpoint(join(checkpointsDir, checkpointName(step)));
    try {
      await checkpoint.verify();
      return checkpoint;
    } catch (error) {
      await checkpoint.close();
      throw error;
    }
  }
  const { checkpoint } = await findNewestValid(checkpointsDir);
  if (checkpoint !== null) return checkpoint;
  const reason = `${checkpointsDir} holds no valid checkpoint yet: wait for the first one`;
  throw new LockstepError('CHECKPOINT_INVALID', reason);
}

function missing(path: string, what: string): LockstepError {
  return new LockstepError('DATA_MISSING', `${path} ${what}`, { context: { path } });
}
