import { describe, expect, it } from 'vitest';
import { layoutSize } from '../../../src/base/index.ts';
import { PRESETS } from '../../../src/config/index.ts';
import { buildTree, initializeParameters, parameterLayout, treeOf } from '../../../src/model/index.ts';
import { MINI_MODEL } from '../../support/model-fixtures.ts';

describe('the parameter layout', () => {
  it('of the base preset has the 259 tensors and 139,420,416 parameters of the published model', () => {
    const layout = parameterLayout({ ...PRESETS.base.model, vocabSize: 50_265 });
    expect(layout).toHaveLength(259);
    expect(layoutSize(layout)).toBe(139_420_416);
    expect(new Set(layout.map(({ name }) => name)).size).toBe(259);
  });

  it('of the small preset has about 8 million parameters at a vocabulary of 8,000', () => {
    expect(layoutSize(parameterLayout({ ...PRESETS.small.model, vocabSize: 8000 }))).toBe(7_710_720);
  });

  it('names and shapes tensors as Hugging Face BART does, in its order', () => {
    const layout = parameterLayout(MINI_MODEL);
    const text = layout.map(({ name, shape }) => `${name} ${shape.join('x')}`);
    expect(text.slice(0, 6)).toEqual([
      'model.shared.weight 37x16',
      'model.encoder.embed_positions.weight 22x16',
      'model.encoder.layers.0.self_attn.k_proj.weight 16x16',
      'model.encoder.layers.0.self_attn.k_proj.bias 16',
      'model.encoder.layers.0.self_attn.v_proj.weight 16x16',
      'model.encoder.layers.0.self_attn.v_proj.bias 16',
    ]);
    expect(text).toContain('model.encoder.layers.1.fc1.weight 24x16');
    expect(text).toContain('model.decoder.layers.2.fc2.weight 16x24');
    expect(text).toContain('model.decoder.layers.0.encoder_attn.out_proj.bias 16');
    expect(text).toContain('model.decoder.layers.0.encoder_attn_layer_norm.weight 16');
    expect(text.at(-1)).toBe('model.decoder.layernorm_embedding.bias 16');
    const perLayer = (prefix: string) => text.filter((line) => line.startsWith(prefix)).length;
    expect(perLayer('model.encoder.layers.0.')).toBe(16);
    expect(perLayer('model.decoder.layers.0.')).toBe(26);
  });

  it('puts each leaf where the tree asks for it', () => {
    const names = parameterLayout(MINI_MODEL).map(({ name }) => name);
    const tree = treeOf(MINI_MODEL, names);
    expect(tree).toEqual(buildTree(MINI_MODEL, (name) => name));
    expect(tree.decoder.layers[1]!.crossAttention.q.weight).toBe(
      'model.decoder.layers.1.encoder_attn.q_proj.weight',
    );
    expect(() => treeOf(MINI_MODEL, names.slice(1))).toThrow(/no leaf for/);
  });

  it('is refused while the vocabulary is open', () => {
    expect(() => parameterLayout(PRESETS.tiny.model)).toThrow(/model\.vocabSize is 0; take it from/);
  });
});

/** Vitest's own comparison takes seconds for vectors of this length. */
function equalBits(left: Float32Array, right: Float32Array): boolean {
  const bytes = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return Buffer.compare(bytes(left), bytes(right)) === 0;
}

describe('initialization', () => {
  const model = { ...PRESETS.tiny.model, vocabSize: 500 };
  const layout = parameterLayout(model);
  const start = (seed: number, of = layout, config = model) => {
    const flat = new Float32Array(layoutSize(of)).fill(Number.NaN);
    initializeParameters(of, config, seed, flat);
    return flat;
  };

  it('draws weights from N(0, initStd), sets biases to 0 and norms to 1', () => {
    const flat = start(1);
    for (const { name, offset, size } of layout) {
      const values = flat.subarray(offset, offset + size);
      if (name.endsWith('.bias')) expect(values.every((value) => value === 0)).toBe(true);
      else if (/norm/.test(name)) expect(values.every((value) => value === 1)).toBe(true);
      else {
        const mean = values.reduce((sum, value) => sum + value, 0) / size;
        const std = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / size);
        // Four standard errors of the mean and of the standard deviation.
        expect(Math.abs(mean), name).toBeLessThan((4 * 0.02) / Math.sqrt(size));
        expect(Math.abs(std - 0.02), name).toBeLessThan((4 * 0.02) / Math.sqrt(2 * size) + 2e-4);
      }
    }
  });

  it('leaves the row of <pad> in the tied table at zero', () => {
    const table = start(1);
    const D = model.dModel;
    expect(table.subarray(D, 2 * D).every((value) => value === 0)).toBe(true);
    expect(table.subarray(0, D).every((value) => value !== 0)).toBe(true);
    expect(table.subarray(2 * D, 3 * D).every((value) => value !== 0)).toBe(true);
  });

  it('depends on the seed, and no tensor on the size of another', () => {
    const first = start(1);
    expect(equalBits(start(1), first)).toBe(true);
    expect(equalBits(start(2), first)).toBe(false);
    const larger = { ...model, vocabSize: 501 };
    const shift = model.dModel;
    const size = layout[0]!.size;
    const flat = start(1, parameterLayout(larger), larger);
    expect(equalBits(flat.subarray(size + shift), first.subarray(size))).toBe(true);
  });
});
