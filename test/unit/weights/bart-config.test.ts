import { describe, expect, it } from 'vitest';
import { LockstepError } from '../../../src/base/index.ts';
import { bartOfModel, modelOfBart } from '../../../src/weights/bart-config.ts';
import { SMALL_BART } from '../../support/model-folders.ts';

const SETTINGS = JSON.parse(bartOfModel(SMALL_BART)) as Record<string, unknown>;

function modelOf(settings: object) {
  return modelOfBart(JSON.stringify(settings), 'config.json');
}

function refusalOf(settings: object): string {
  try {
    modelOf(settings);
  } catch (error) {
    if (error instanceof LockstepError && error.code === 'CHECKPOINT_INVALID') return error.message;
    throw error;
  }
  return 'accepted';
}

describe('the configuration of a BART model', () => {
  it('comes back as it was written', () => {
    expect(modelOf(SETTINGS)).toEqual(SMALL_BART);
  });

  it('takes the defaults of transformers for what it leaves out', () => {
    const { dropout, attention_dropout, activation_dropout, init_std, forced_eos_token_id, ...rest } =
      SETTINGS;
    expect([dropout, attention_dropout, activation_dropout, init_std, forced_eos_token_id]).not.toContain(
      undefined,
    );
    const defaults = { dropout: 0.1, attentionDropout: 0, activationDropout: 0, initStd: 0.02 };
    expect(modelOf(rest)).toEqual({ ...SMALL_BART, ...defaults });
  });

  it('passes over what says nothing about the model', () => {
    expect(modelOf({ ...SETTINGS, num_beams: 4, normalize_before: false, id2label: {} })).toEqual(SMALL_BART);
  });

  it.each([
    [{ model_type: 'mbart' }, 'model_type is "mbart", not "bart"'],
    [{ activation_function: 'relu' }, 'activation_function is "relu", and the model has "gelu" only'],
    [{ scale_embedding: true }, 'scale_embedding is true, and the model has false only'],
    [{ normalize_before: true }, 'normalize_before is true'],
    [{ add_final_layer_norm: true }, 'add_final_layer_norm is true'],
    [{ tie_word_embeddings: false }, 'tie_word_embeddings is false'],
    [{ encoder_layerdrop: 0.1 }, 'encoder_layerdrop is 0.1'],
    [{ pad_token_id: 0 }, 'pad_token_id is 0, and the model has 1 only'],
    [{ decoder_attention_heads: 4 }, 'decoder_attention_heads is 4, but encoder_attention_heads is 2'],
    [{ decoder_ffn_dim: 13 }, 'decoder_ffn_dim is 13, but encoder_ffn_dim is 12'],
    [
      { encoder_attention_heads: 3, decoder_attention_heads: 3 },
      'encoder_attention_heads must divide d_model (8)',
    ],
    [{ d_model: 0 }, 'd_model Too small'],
  ])('refuses %o by the name of the setting', (change, said) => {
    expect(refusalOf({ ...SETTINGS, ...change })).toContain(`config.json: ${said}`);
  });

  it('names all settings at once', () => {
    const message = refusalOf({ model_type: 't5', activation_function: 'relu' });
    for (const name of ['model_type', 'vocab_size', 'd_model', 'activation_function'])
      expect(message).toContain(name);
  });

  it('refuses what is not JSON', () => {
    expect(() => modelOfBart('{', 'a/config.json')).toThrow(/^a\/config\.json: is not JSON/);
  });
});
