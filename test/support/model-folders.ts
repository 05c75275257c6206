/** Model folders as Hugging Face lays them out, made by hand: any tensors, any configuration. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ParameterLayout, PhiloxRng } from '../../src/base/index.ts';
import type { ModelConfig } from '../../src/config/index.ts';
import { parameterLayout } from '../../src/model/index.ts';
import { bartOfModel } from '../../src/weights/bart-config.ts';
import { safetensorsFile } from './naive-checkpoint.ts';
import { temporaryFolder } from './temporary-folder.ts';

export const SMALL_BART: ModelConfig = {
  ...{ vocabSize: 37, dModel: 8, encoderLayers: 1, decoderLayers: 2, heads: 2, ffnDim: 12, maxPositions: 10 },
  ...{ dropout: 0.1, attentionDropout: 0.2, activationDropout: 0.3, initStd: 0.05, concatHead: false },
};

export interface MadeTensor {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A float32 tensor; random where no values are given. */
export function madeTensor(name: string, shape: readonly number[], values?: Float32Array): MadeTensor {
  const size = shape.reduce((product, side) => product * side, 1);
  const floats = values ?? randomFloats(size, name.length);
  return { name, type: 'F32', shape, bytes: new Uint8Array(floats.buffer.slice(0)) };
}

function randomFloats(size: number, substream: number): Float32Array {
  const rng = new PhiloxRng({ seed: 3, stream: 'sampling', substream, step: 0, slot: 0 });
  return Float32Array.from({ length: size }, () => rng.nextNormal());
}

/** Every parameter of a model, under its own name. */
export function madeTensors(model: ModelConfig): MadeTensor[] {
  return parameterLayout(model).map(({ name, shape }) => madeTensor(name, shape));
}

/** The bytes of the flat vector that tensors in layout order make. */
export function flatBytes(tensors: readonly MadeTensor[]): Buffer {
  return Buffer.concat(tensors.map(({ bytes }) => bytes));
}

/** By hand, in the order given, of any types. */
export function safetensorsOf(tensors: readonly MadeTensor[]): Uint8Array {
  let end = 0;
  const members = tensors.map(({ name, type, shape, bytes }) => {
    const first = end;
    end += bytes.length;
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype: type, shape, data_offsets: [first, end] })}`;
  });
  return safetensorsFile(`{${members.join(',')}}`, flatBytes(tensors));
}

/** A folder with these tensors and the configuration of `model`, with some settings changed. */
export async function modelFolder(
  tensors: readonly MadeTensor[],
  model: ModelConfig = SMALL_BART,
  settings: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const folder = join(await temporaryFolder(), 'model');
  await mkdir(folder);
  const config = { ...(JSON.parse(bartOfModel(model)) as object), ...settings };
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  await writeFile(join(folder, 'model.safetensors'), safetensorsOf(tensors));
  return folder;
}

/** All floats of a layout's vector, read in pieces of `pieceFloats`. */
export async function readInPieces(
  weights: { readonly layout: ParameterLayout; read(first: number, target: Uint8Array): Promise<void> },
  pieceFloats: number,
): Promise<Buffer> {
  const last = weights.layout.at(-1)!;
  const size = last.offset + last.size;
  const bytes = Buffer.alloc(size * 4);
  for (let first = 0; first < size; first += pieceFloats) {
    await weights.read(first, bytes.subarray(first * 4, Math.min(size, first + pieceFloats) * 4));
  }
  return bytes;
}
