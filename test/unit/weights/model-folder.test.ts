/** Model folders of others: every layout gives the same vector, and whatever is wrong is said by name. */
import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { layoutSize } from '../../../src/base/index.ts';
import { TensorFile } from '../../../src/checkpoint/index.ts';
import { leftIdentity } from '../../../src/model/index.ts';
import { withConcatHead } from '../../../src/weights/flat-weights.ts';
import { ModelFolder, sha256OfWeights, writeModelFolder } from '../../../src/weights/index.ts';
import {
  flatBytes,
  type MadeTensor,
  madeTensor,
  madeTensors,
  modelFolder,
  readInPieces,
  SMALL_BART,
} from '../../support/model-folders.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const FIXTURES = join(import.meta.dirname, '..', '..', 'fixtures', 'torch-save');
const FIXTURE_SHA256 = 'f580b0f430b011300a4cfcb16582a8259a73ae221b9b8113ee47e729a817a2e9';
const TENSORS = madeTensors(SMALL_BART);
const [TABLE] = TENSORS as [MadeTensor];
const OTHERS = TENSORS.slice(1);
const BYTES = flatBytes(TENSORS);

async function vectorOf(folder: string): Promise<Buffer> {
  const opened = await ModelFolder.open(folder);
  const bytes = await readInPieces(opened.weights, 97);
  await opened.close();
  return bytes;
}

async function refusalOf(folder: string): Promise<string> {
  try {
    await (await ModelFolder.open(folder)).close();
  } catch (error) {
    return `${(error as { code?: string }).code}: ${(error as Error).message}`;
  }
  return 'accepted';
}

const named = (name: string): MadeTensor => ({ ...TABLE, name });
const renamed = (tensors: readonly MadeTensor[]) =>
  tensors.map((tensor) => ({ ...tensor, name: tensor.name.replace(/^model\./, '') }));

describe('a model folder', () => {
  it.each([
    ['as it is saved today', TENSORS],
    ['in any order', TENSORS.toReversed()],
    ['without the prefix', renamed(TENSORS)],
    ['with the table as lm_head only', [...OTHERS, named('lm_head.weight')]],
    [
      'with the table as the encoder’s only, without prefix',
      [...renamed(OTHERS), named('encoder.embed_tokens.weight')],
    ],
    [
      'with all four names of the table',
      [
        ...TENSORS,
        ...['lm_head.weight', 'model.encoder.embed_tokens.weight', 'model.decoder.embed_tokens.weight'].map(
          named,
        ),
      ],
    ],
    [
      'with a zero bias',
      [...TENSORS, madeTensor('final_logits_bias', [1, 37], new Float32Array(37).fill(-0))],
    ],
  ])('%s', async (_what, tensors) => {
    expect((await vectorOf(await modelFolder(tensors))).equals(BYTES)).toBe(true);
  });

  it('takes a concat head where there is one', async () => {
    const head = madeTensor('concat_head.weight', [8, 16]);
    const folder = await ModelFolder.open(await modelFolder([head, ...TENSORS]));
    expect(folder.model).toEqual({ ...SMALL_BART, concatHead: true });
    expect((await readInPieces(folder.weights, 50)).equals(flatBytes([...TENSORS, head]))).toBe(true);
    await folder.close();
  });

  it('gets a concat head that hands states on where it is to have one and has none', async () => {
    const folder = await ModelFolder.open(await modelFolder(TENSORS));
    const weights = withConcatHead(folder.weights, folder.model);
    const expected = Buffer.concat([BYTES, new Uint8Array(leftIdentity(8).buffer)]);
    expect(layoutSize(weights.layout) * 4).toBe(expected.length);
    for (const piece of [33, 1000, 100_000]) {
      expect((await readInPieces(weights, piece)).equals(expected), `pieces of ${piece}`).toBe(true);
    }
    await folder.close();
  });

  it.each(['zip', 'legacy'])('with a %s file of torch.save', async (kind) => {
    const folder = await ModelFolder.open(join(FIXTURES, kind));
    expect(await sha256OfWeights(folder.weights)).toBe(FIXTURE_SHA256);
    expect(folder.description).toContain('79 tensors of type F32');
    await folder.close();
  });
});

describe('float16 and bfloat16', () => {
  /** The number that a sign, an exponent and a fraction of these widths are. */
  function naive(bits: number, exponentBits: number, fractionBits: number): number {
    const sign = bits >> 15 === 1 ? -1 : 1;
    const exponent = (bits >> fractionBits) & (2 ** exponentBits - 1);
    const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
    const bias = 2 ** (exponentBits - 1) - 1;
    if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
    return exponent === 0
      ? sign * fraction * 2 ** (1 - bias)
      : sign * (1 + fraction) * 2 ** (exponent - bias);
  }

  it.each([
    ['F16', 5, 10],
    ['BF16', 8, 7],
  ] as const)('%s: all values widen to the same number', async (type, exponentBits, fractionBits) => {
    const model = { ...SMALL_BART, vocabSize: 8192 };
    const tensors = madeTensors(model).map((tensor, index) => {
      if (index > 0) return tensor;
      return {
        ...tensor,
        type,
        bytes: new Uint8Array(Uint16Array.from({ length: 65_536 }, (_, i) => i).buffer),
      };
    });
    const bytes = await vectorOf(await modelFolder(tensors, model));
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, 65_536);
    const wrong = values.findIndex(
      (value, bits) => !Object.is(value, naive(bits, exponentBits, fractionBits)),
    );
    expect(wrong).toBe(-1);
  });
});

describe('what is refused', () => {
  it('all that is missing, unknown or wrong, in one line', async () => {
    const tensors = [
      ...TENSORS.filter(({ name }) => !/shared|encoder\.layers\.0\.fc1/.test(name)).map((tensor) =>
        tensor.name === 'model.decoder.layers.1.fc2.bias' ? madeTensor(tensor.name, [7]) : tensor,
      ),
      madeTensor('classification_head.dense.weight', [2, 2]),
      { ...madeTensor('final_logits_bias', [1, 37]), type: 'I32' },
    ];
    const message = await refusalOf(await modelFolder(tensors));
    expect(message.split('\n')).toHaveLength(1);
    expect(message).toMatch(/^CHECKPOINT_INVALID: \S+model\.safetensors does not hold the tensors/);
    for (const said of [
      'missing: model.shared.weight, model.encoder.layers.0.fc1.weight, model.encoder.layers.0.fc1.bias',
      'unknown: classification_head.dense.weight',
      'model.decoder.layers.1.fc2.bias has shape [7] instead of [8]',
      'final_logits_bias is of type I32',
    ]) {
      expect(message).toContain(said);
    }
  });

  it('a tensor that is there with and without the prefix', async () => {
    const message = await refusalOf(await modelFolder([...TENSORS, named('shared.weight')]));
    expect(message).toContain('there twice, with and without "model.": shared.weight');
  });

  it('tied tables that differ in one bit', async () => {
    const other = named('lm_head.weight');
    const bytes = other.bytes.slice();
    bytes[4 * 250]! ^= 1;
    const message = await refusalOf(await modelFolder([...TENSORS, { ...other, bytes }]));
    expect(message).toMatch(
      /CHECKPOINT_INVALID: .*lm_head\.weight differs from model\.shared\.weight at number 250/,
    );
  });

  it('a bias that is not zero', async () => {
    const bias = new Float32Array(37);
    bias[30] = 1e-30;
    const message = await refusalOf(
      await modelFolder([...TENSORS, madeTensor('final_logits_bias', [1, 37], bias)]),
    );
    expect(message).toMatch(/CHECKPOINT_INVALID: .*final_logits_bias is not zero at number 30/);
  });

  it('a file that is cut short', async () => {
    const folder = await modelFolder(TENSORS);
    const path = join(folder, 'model.safetensors');
    await writeFile(path, (await readFile(path)).subarray(0, -5));
    expect(await refusalOf(folder)).toMatch(/CHECKPOINT_INVALID: .*model\.safetensors: is cut short/);
  });

  it('weights in several files, and none', async () => {
    const folder = await modelFolder(TENSORS);
    await rename(join(folder, 'model.safetensors'), join(folder, 'model.safetensors.index.json'));
    expect(await refusalOf(folder)).toMatch(/DATA_MISSING: .*several files .*max_shard_size/);
    await rename(join(folder, 'model.safetensors.index.json'), join(folder, 'weights'));
    expect(await refusalOf(folder)).toMatch(
      /DATA_MISSING: .*holds neither model\.safetensors nor pytorch_model\.bin/,
    );
  });

  it('a tokenizer of another kind, and one of another vocabulary', async () => {
    const folder = await modelFolder(TENSORS);
    const path = join(folder, 'tokenizer.json');
    await writeFile(path, JSON.stringify({ model: { type: 'Unigram', vocab: [] }, pre_tokenizer: null }));
    expect(await refusalOf(folder)).toMatch(/DATA_CORRUPT: .*tokenizer\.json: field/);
    await rename(path, join(folder, 'tokenizer_config.json'));
    expect(await refusalOf(folder)).toMatch(/DATA_MISSING: .*holds no tokenizer/);
  });

  /** A fixture with some bytes changed into others of the same length. */
  async function spoilt(kind: string, from: string, to: string): Promise<string> {
    const folder = await temporaryFolder();
    await copyFile(join(FIXTURES, kind, 'config.json'), join(folder, 'config.json'));
    const text = (await readFile(join(FIXTURES, kind, 'pytorch_model.bin'))).toString('latin1');
    expect(text).toContain(from);
    await writeFile(join(folder, 'pytorch_model.bin'), Buffer.from(text.replaceAll(from, to), 'latin1'));
    return folder;
  }

  it.each([
    [
      'zip',
      'collections\nOrderedDict',
      'os\nsystemsystemsystem__',
      /names the Python object "os\.systemsystemsystem__"/,
    ],
    [
      'legacy',
      'collections\nOrderedDict',
      'builtins\nexec_or_eval_',
      /names the Python object "builtins\.exec_or/,
    ],
    ['zip', 'pytorch_model/data/3', 'pytorch_model/data/X', /lies in storage "3", which is missing/],
    ['zip', 'little', 'big___', /byte order is "big___", not little/],
    ['zip', 'PK\x05\x06', 'PK\x05\x07', /is no whole zip file/],
    ['zip', 'PK\x01\x02', 'PK\x01\x03', /is no whole zip file/],
    ['legacy', '\x80\x02\x8a\x0a', '\x80\x02\x8a\x09', /pickle operation 0x19|no file of torch\.save/],
    ['legacy', 'FloatStorage', 'FloatSt0rage', /names the Python object "torch\.FloatSt0rage"/],
  ])('a %s file in which %j is %j', async (kind, from, to, said) => {
    expect(await refusalOf(await spoilt(kind, from, to))).toMatch(said);
  });

  it.each(['zip', 'legacy'])('a %s file that ends anywhere', async (kind) => {
    const whole = await readFile(join(FIXTURES, kind, 'pytorch_model.bin'));
    const folder = await temporaryFolder();
    await copyFile(join(FIXTURES, kind, 'config.json'), join(folder, 'config.json'));
    for (let length = 0; length < whole.length; length += 977) {
      await writeFile(join(folder, 'pytorch_model.bin'), whole.subarray(0, length));
      expect(await refusalOf(folder), `after ${length} bytes`).toMatch(/^CHECKPOINT_INVALID/);
    }
  });
});

describe('a folder that is written', () => {
  it('holds the same bits, alone in its place, under the names of transformers', async () => {
    const source = await ModelFolder.open(await modelFolder(TENSORS));
    const parent = await temporaryFolder();
    const out = join(parent, 'new', 'model');
    const sha256 = await writeModelFolder(out, source);
    expect(sha256).toBe(createHash('sha256').update(BYTES).digest('hex'));
    expect((await vectorOf(out)).equals(BYTES)).toBe(true);
    expect(await readdir(join(parent, 'new'))).toEqual(['model']);
    const file = await TensorFile.open(join(out, 'model.safetensors'));
    expect(file.metadata).toEqual({ format: 'pt' });
    await file.close();
    await source.close();
  });

  it('takes the place of an empty folder and of nothing else', async () => {
    const source = await ModelFolder.open(await modelFolder(TENSORS));
    const out = await temporaryFolder();
    await writeFile(join(out, 'mine'), 'x');
    await expect(writeModelFolder(out, source)).rejects.toThrow(/is not empty: name a new folder/);
    expect(await readdir(out)).toEqual(['mine']);
    await expect(writeModelFolder(join(out, 'mine'), source)).rejects.toThrow(/is no folder/);
    await mkdir(join(out, 'empty'));
    await writeModelFolder(join(out, 'empty'), source);
    expect((await vectorOf(join(out, 'empty'))).equals(BYTES)).toBe(true);
    await source.close();
  });

  it('leaves nothing behind when the weights cannot be read to the end', async () => {
    const source = await ModelFolder.open(await modelFolder(TENSORS));
    const parent = await temporaryFolder();
    const weights = { ...source.weights, read: () => Promise.reject(new Error('torn')) };
    await expect(writeModelFolder(join(parent, 'model'), { ...source, weights })).rejects.toThrow();
    expect(await readdir(parent)).toEqual([]);
    await source.close();
  });
});
