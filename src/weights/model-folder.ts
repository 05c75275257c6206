/**
 * A model folder as Hugging Face lays it out, opened for reading: `config.json`, `model.safetensors` or
 * `pytorch_model.bin`, and the tokenizer's files where they are there. Opening checks everything but the values.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LockstepError, messageOf } from '../base/index.ts';
import { FLOAT_BYTES } from '../checkpoint/index.ts';
import type { ModelConfig } from '../config/index.ts';
import { type BpeTokenizer, loadTokenizer } from '../data/index.ts';
import { parameterLayout } from '../model/index.ts';
import { modelOfBart } from './bart-config.ts';
import { matchTensors, sizeOf } from './bart-tensors.ts';
import { archivedWeights, type FlatWeights } from './flat-weights.ts';
import { openSafetensors } from './safetensors-archive.ts';
import type { StoredTensor, TensorArchive } from './tensor-archive.ts';
import { openTorchFile } from './torch-archive.ts';

export const CONFIG_FILE = 'config.json';
export const SAFETENSORS_FILE = 'model.safetensors';
const TORCH_FILE = 'pytorch_model.bin';
const TOKENIZER_FILES = ['tokenizer.json', 'vocab.json', 'tokenizer_config.json'];
/** Numbers that are compared at a time. */
const PIECE_FLOATS = 256 * 1024;

export class ModelFolder {
  readonly path: string;
  readonly model: ModelConfig;
  readonly weights: FlatWeights;
  readonly tokenizer: BpeTokenizer | null;
  /** What was found, for a person: file, format, number types, names of the tied table. */
  readonly description: string;
  readonly #archive: TensorArchive;

  /**
   * Throws DATA_MISSING without its files, CHECKPOINT_INVALID when configuration and tensors do not fit or cannot
   * be honoured, DATA_CORRUPT for a tokenizer of another kind, CONFIG_MISMATCH for one of another vocabulary.
   */
  static async open(path: string): Promise<ModelFolder> {
    const configPath = join(path, CONFIG_FILE);
    const described = modelOfBart(await readText(configPath), configPath);
    const tokenizer = tokenizerOf(path, described);
    const archive = await openArchive(path);
    try {
      const matched = matchTensors(archive.tensors, described, archive.path);
      const { model, parameters, aliases, logitsBias } = matched;
      await requireEqual(archive, parameters[0]!, aliases);
      if (logitsBias !== null) await requireZeros(archive, logitsBias);
      const weights = archivedWeights(archive, parameterLayout(model), parameters);
      const names = [parameters[0]!, ...aliases].map(({ name }) => name);
      return new ModelFolder({ path, model, weights, tokenizer, archive, tableNames: names });
    } catch (error) {
      await archive.close();
      throw error;
    }
  }

  private constructor(parts: {
    path: string;
    model: ModelConfig;
    weights: FlatWeights;
    tokenizer: BpeTokenizer | null;
    archive: TensorArchive;
    tableNames: readonly string[];
  }) {
    const { path, model, weights, tokenizer, archive, tableNames } = parts;
    this.path = path;
    this.model = model;
    this.weights = weights;
    this.tokenizer = tokenizer;
    this.#archive = archive;
    const types = [...new Set(archive.tensors.map(({ type }) => type))].join(', ');
    this.description = `${archive.path}: ${archive.format}, ${archive.tensors.length} tensors of type ${types}; tied table: ${tableNames.join(', ')}`;
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await this.#archive.close();
  }
}

async function openArchive(path: string): Promise<TensorArchive> {
  if (existsSync(join(path, SAFETENSORS_FILE))) return openSafetensors(join(path, SAFETENSORS_FILE));
  if (existsSync(join(path, TORCH_FILE))) return openTorchFile(join(path, TORCH_FILE));
  const index = [SAFETENSORS_FILE, TORCH_FILE].find((name) => existsSync(join(path, `${name}.index.json`)));
  const what =
    index === undefined
      ? `holds neither ${SAFETENSORS_FILE} nor ${TORCH_FILE}: name a folder with one of them`
      : `holds its weights in several files (${index}.index.json): save them in one, with a larger max_shard_size`;
  throw new LockstepError('DATA_MISSING', `${path} ${what}`, { context: { path } });
}

function tokenizerOf(path: string, { vocabSize }: ModelConfig): BpeTokenizer | null {
  if (!TOKENIZER_FILES.some((name) => existsSync(join(path, name)))) return null;
  const tokenizer = loadTokenizer(path);
  if (tokenizer.vocabSize === vocabSize) return tokenizer;
  throw new LockstepError(
    'CONFIG_MISMATCH',
    `${path}: its tokenizer has ${tokenizer.vocabSize} tokens, but vocab_size in ${CONFIG_FILE} is ${vocabSize}: take both from one model`,
    { context: { path } },
  );
}

/** The tied table is one parameter: its copies must agree to the bit. */
async function requireEqual(archive: TensorArchive, table: StoredTensor, copies: readonly StoredTensor[]) {
  for (const copy of copies) {
    if (copy.position === table.position && copy.type === table.type) continue;
    await readPieces(archive, [table, copy], ([ours, theirs], first) => {
      const at = ours!.findIndex((bits, index) => bits !== theirs![index]);
      if (at === -1) return;
      throw new LockstepError(
        'CHECKPOINT_INVALID',
        `${archive.path}: ${copy.name} differs from ${table.name} at number ${first + at}, but the model has one table for both (tie_word_embeddings): take a model with tied tables`,
        { context: { path: archive.path } },
      );
    });
  }
}

async function requireZeros(archive: TensorArchive, bias: StoredTensor): Promise<void> {
  await readPieces(archive, [bias], ([bits], first) => {
    // Twice the bits: a negative zero is zero as well.
    const at = bits!.findIndex((value) => value << 1 !== 0);
    if (at === -1) return;
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${archive.path}: ${bias.name} is not zero at number ${first + at}, and the model adds nothing to its logits: take a model without such a bias`,
      { context: { path: archive.path } },
    );
  });
}

/** The bits of tensors of one size, side by side, piece by piece. */
async function readPieces(
  archive: TensorArchive,
  tensors: readonly StoredTensor[],
  take: (pieces: readonly Uint32Array[], first: number) => void,
): Promise<void> {
  const size = sizeOf(tensors[0]!);
  const buffers = tensors.map(() => new Uint32Array(Math.min(PIECE_FLOATS, size)));
  for (let first = 0; first < size; first += PIECE_FLOATS) {
    const count = Math.min(PIECE_FLOATS, size - first);
    for (const [index, tensor] of tensors.entries()) {
      await archive.read(tensor, first, new Uint8Array(buffers[index]!.buffer, 0, count * FLOAT_BYTES));
    }
    take(
      buffers.map((buffer) => buffer.subarray(0, count)),
      first,
    );
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new LockstepError(
      'DATA_MISSING',
      `${path} cannot be read (${messageOf(cause)}): name a model folder as Hugging Face lays it out`,
      { context: { path }, cause },
    );
  }
}
