/**
 * A finished checkpoint, open for reading. Opening checks what is cheap: the manifest, the files'
 * sizes, their headers and that both describe the same model. `verify` reads every byte.
 */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  assert,
  LockstepError,
  layoutSize,
  messageOf,
  type ParameterLayout,
  type Section,
  systemCodeOf,
} from '../base/index.ts';
import { canonicalJson } from '../config/index.ts';
import { type CheckpointManifest, type ManifestFile, parseManifest } from './manifest.ts';
import { FLOAT_BYTES } from './safetensors.ts';
import { layoutOfFile, MANIFEST_FILE, MODEL_FILE, OPTIMIZER_FILE, placeOf, stepOfName } from './sections.ts';
import { TensorFile } from './tensor-file.ts';

/** Opens the checkpoint in folder `dir`; throws CHECKPOINT_INVALID saying what is wrong with it. */
export async function openCheckpoint(dir: string): Promise<CheckpointReader> {
  const manifest = await readManifest(dir);
  const model = await openListed(dir, manifest, MODEL_FILE);
  try {
    const optimizer = await openListed(dir, manifest, OPTIMIZER_FILE);
    try {
      const expected = canonicalJson(layoutOfFile(OPTIMIZER_FILE, model.layout));
      if (canonicalJson(optimizer.layout) !== expected) {
        throw invalid(optimizer.path, `does not hold the two moments of each tensor of ${MODEL_FILE}`);
      }
      return new CheckpointReader(dir, manifest, model, optimizer);
    } catch (error) {
      await optimizer.close();
      throw error;
    }
  } catch (error) {
    await model.close();
    throw error;
  }
}

/** Reads and checks `manifest.json` alone, and that it belongs to the folder it lies in. */
export async function readManifest(dir: string): Promise<CheckpointManifest> {
  const path = join(dir, MANIFEST_FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const systemCode = systemCodeOf(error);
    if (systemCode === null) throw error;
    const what = systemCode === 'ENOENT' ? 'is missing: this checkpoint was not finished' : messageOf(error);
    throw invalid(path, what, error);
  }
  const manifest = parseManifest(text, path);
  const step = stepOfName(basename(dir));
  if (step !== null && step !== manifest.step) {
    throw invalid(path, `step: ${manifest.step} recorded in a folder of step ${step}`);
  }
  return manifest;
}

async function openListed(
  dir: string,
  manifest: CheckpointManifest,
  name: ManifestFile['name'],
): Promise<TensorFile> {
  let file: TensorFile;
  try {
    file = await TensorFile.open(join(dir, name));
  } catch (error) {
    if (!(error instanceof LockstepError) || error.code === 'CHECKPOINT_INVALID') throw error;
    throw invalid(join(dir, name), 'is missing or cannot be opened', error);
  }
  const { bytes } = fileOf(manifest, name);
  if (file.bytes === bytes) return file;
  await file.close();
  throw invalid(file.path, `has ${file.bytes} bytes; the manifest says ${bytes}`);
}

function fileOf(manifest: CheckpointManifest, name: ManifestFile['name']): ManifestFile {
  return manifest.files.find((file) => file.name === name)!;
}

export class CheckpointReader {
  readonly dir: string;
  readonly manifest: CheckpointManifest;
  /** Of the parameters, and of each moment alike. */
  readonly layout: ParameterLayout;
  readonly #model: TensorFile;
  readonly #optimizer: TensorFile;

  /** Use `openCheckpoint`. The reader owns both files. */
  constructor(dir: string, manifest: CheckpointManifest, model: TensorFile, optimizer: TensorFile) {
    this.dir = dir;
    this.manifest = manifest;
    this.layout = model.layout;
    this.#model = model;
    this.#optimizer = optimizer;
  }

  get step(): number {
    return this.manifest.step;
  }

  /** Floats of each section. */
  get size(): number {
    return layoutSize(this.layout);
  }

  /**
   * Fills `target` with little-endian floats of a section, from its float `offsetFloats` on.
   * Calls may run side by side. Reads what is on disk: call `verify` before trusting it.
   */
  async read(section: Section, offsetFloats: number, target: Uint8Array): Promise<void> {
    const end = offsetFloats + target.length / FLOAT_BYTES;
    // The file alone would let a range of one moment run on into the other.
    assert(
      offsetFloats >= 0 && end <= this.size,
      `floats ${offsetFloats} to ${end} lie outside ${section} of ${this.size}`,
    );
    const { file, firstFloat } = placeOf(section, this.layout);
    const source = file === MODEL_FILE ? this.#model : this.#optimizer;
    await source.read(firstFloat + offsetFloats, target);
  }

  /** Hashes every byte against the manifest; throws CHECKPOINT_INVALID naming the file that differs. */
  async verify(): Promise<void> {
    const model = await this.#model.sha256();
    this.#compare(this.#model.path, fileOf(this.manifest, MODEL_FILE).sha256, model.file);
    this.#compare(this.#model.path, this.manifest.weightsSha256, model.data);
    const optimizer = await this.#optimizer.sha256();
    this.#compare(this.#optimizer.path, fileOf(this.manifest, OPTIMIZER_FILE).sha256, optimizer.file);
  }

  /** SHA-256 (hex) over the flat parameter vector, computed from what is on disk. */
  async weightsSha256(): Promise<string> {
    return (await this.#model.sha256()).data;
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await Promise.all([this.#model.close(), this.#optimizer.close()]);
  }

  #compare(path: string, recorded: string, found: string): void {
    if (recorded !== found) throw invalid(path, `its SHA-256 is ${found}; the manifest says ${recorded}`);
  }
}

function invalid(path: string, what: string, cause?: unknown): LockstepError {
  return new LockstepError('CHECKPOINT_INVALID', `${path}: ${what}; take another checkpoint`, {
    context: { path },
    cause,
  });
}
