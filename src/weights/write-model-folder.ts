/**
 * Writes a model folder that transformers opens as BartForConditionalGeneration. The folder appears whole or not
 * at all: everything is written and synced beside its place, under another name, which then changes.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { LockstepError, messageOf, systemCodeOf } from '../base/index.ts';
import { encodeTensorHeader } from '../checkpoint/index.ts';
import type { ModelConfig } from '../config/index.ts';
import type { BpeTokenizer } from '../data/index.ts';
import { syncDirectory, writeFully, writeSynced, writing } from '../storage/index.ts';
import { bartOfModel, generationConfig } from './bart-config.ts';
import { type FlatWeights, readAllWeights } from './flat-weights.ts';
import { CONFIG_FILE, SAFETENSORS_FILE } from './model-folder.ts';
import { tokenizerFiles } from './tokenizer-files.ts';

/** What `transformers` asks of a file that it is to load. */
const METADATA = { format: 'pt' };

export interface ModelToWrite {
  readonly model: ModelConfig;
  /** In the layout of `model`; the tied table under its own name only, as transformers drops the others. */
  readonly weights: FlatWeights;
  /** Null leaves the tokenizer's files out. */
  readonly tokenizer: BpeTokenizer | null;
}

/**
 * Returns the SHA-256 (hex) of the flat parameter vector. Throws CONFIG_INVALID when `dir` is there and not an
 * empty folder, DISK_FULL, CHECKPOINT_INVALID from the weights; then nothing is left behind.
 */
export async function writeModelFolder(
  dir: string,
  { model, weights, tokenizer }: ModelToWrite,
): Promise<string> {
  await requireVacant(dir);
  const place = resolve(dir);
  return writing(dir, async () => {
    await mkdir(dirname(place), { recursive: true });
    const staged = join(dirname(place), `.${basename(place)}-${randomBytes(4).toString('hex')}`);
    await mkdir(staged);
    try {
      const sha256 = await writeWeights(join(staged, SAFETENSORS_FILE), weights);
      await writeSynced(join(staged, CONFIG_FILE), bartOfModel(model));
      await writeSynced(join(staged, 'generation_config.json'), generationConfig());
      if (tokenizer !== null) {
        for (const [name, text] of tokenizerFiles(tokenizer, model.maxPositions)) {
          await writeSynced(join(staged, name), text);
        }
      }
      await syncDirectory(staged);
      // An empty folder gives way; one that was filled meanwhile does not.
      await rename(staged, place);
      await syncDirectory(dirname(place));
      return sha256;
    } finally {
      await rm(staged, { recursive: true, force: true });
    }
  });
}

/** Throws CONFIG_INVALID unless a folder may be written at `dir`: before anything long begins. */
export async function requireVacant(dir: string): Promise<void> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (cause) {
    if (systemCodeOf(cause) === 'ENOENT') return;
    throw new LockstepError(
      'CONFIG_INVALID',
      `--out ${dir} is no folder (${messageOf(cause)}): name a new one`,
      { cause },
    );
  }
  if (names.length === 0) return;
  throw new LockstepError('CONFIG_INVALID', `--out ${dir} is not empty: name a new folder`);
}

async function writeWeights(path: string, weights: FlatWeights): Promise<string> {
  const header = encodeTensorHeader(weights.layout, METADATA);
  const hash = createHash('sha256');
  const handle = await open(path, 'wx');
  try {
    await writeFully(handle, header, 0);
    let position = header.length;
    await readAllWeights(weights, async (piece) => {
      hash.update(piece);
      await writeFully(handle, piece, position);
      position += piece.length;
    });
    await handle.sync();
  } finally {
    await handle.close();
  }
  return hash.digest('hex');
}
