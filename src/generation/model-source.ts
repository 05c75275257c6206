/**
 * Where a model is read from: its sizes, its tokenizer and its parameters. A run folder has the first in its
 * commit log, the last in its checkpoints, and the tokenizer of its own or that of its data set.
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
import type { RunConfig } from '../config/index.ts';
import { CHECKPOINTS_FOLDER, COMMIT_LOG_FILE, savedConfig } from '../coordinator/index.ts';
import { type BpeTokenizer, loadTokenizer, TOKENIZER_FILE } from '../data/index.ts';
import { parameterLayout } from '../model/index.ts';

export interface LoadedParameters {
  readonly flat: Float32Array;
  /** Step of the checkpoint; null for weights that belong to no run. */
  readonly step: number | null;
}

export interface ModelSource {
  readonly config: Pick<RunConfig, 'model' | 'data' | 'objective' | 'engine'>;
  readonly tokenizer: BpeTokenizer;
  /** Parameters in layout order; null takes the newest valid checkpoint. Throws CHECKPOINT_INVALID. */
  readParameters(checkpoint: number | null): Promise<LoadedParameters>;
}

/**
 * @param place a run folder
 * @param dataDir the run's data set, for runs that keep no tokenizer of their own
 * Throws DATA_MISSING when nothing usable is there, CONFIG_MISMATCH for a tokenizer of another vocabulary.
 */
export async function openModelSource(place: string, dataDir: string | null): Promise<ModelSource> {
  if (!existsSync(place)) throw missing(place, 'does not exist: name the folder of a run');
  if (existsSync(join(place, COMMIT_LOG_FILE))) return openRunSource(place, dataDir);
  throw missing(place, 'holds no run: name the folder that --run was given');
}

async function openRunSource(runDir: string, dataDir: string | null): Promise<ModelSource> {
  const config = await savedConfig(runDir);
  if (config === null) throw missing(runDir, 'holds no run yet: its commit log is empty');
  const own = join(runDir, TOKENIZER_FILE);
  const tokenizerPlace = existsSync(own) ? own : dataDir;
  if (tokenizerPlace === null) {
    throw missing(runDir, `has no ${TOKENIZER_FILE} of its own: name its data set with --data`);
  }
  const tokenizer = loadTokenizer(tokenizerPlace);
  const { vocabSize } = config.model;
  if (tokenizer.vocabSize !== vocabSize) {
    throw new LockstepError(
      'CONFIG_MISMATCH',
      `${tokenizerPlace} has ${tokenizer.vocabSize} tokens, the model of ${runDir} ${vocabSize}: name the run's own data set with --data`,
      { context: { place: tokenizerPlace, vocabSize: tokenizer.vocabSize } },
    );
  }
  const readParameters = async (step: number | null): Promise<LoadedParameters> => {
    const checkpoint = await openVerified(join(runDir, CHECKPOINTS_FOLDER), step);
    try {
      const flat = new Float32Array(layoutSize(parameterLayout(config.model)));
      await checkpoint.read('parameters', 0, new Uint8Array(flat.buffer));
      return { flat, step: checkpoint.step };
    } finally {
      await checkpoint.close();
    }
  };
  return { config, tokenizer, readParameters };
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
