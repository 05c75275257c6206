/**
 * Hugging Face's `config.json` of a BART model, into a ModelConfig and back. A setting that cannot be honoured is
 * refused by its name. Pure.
 *
 * Source: transformers, models/bart/configuration_bart.py; defaults are those of that file.
 */
import { z } from 'zod';
import { LockstepError, messageOf } from '../base/index.ts';
import type { ModelConfig } from '../config/index.ts';
import { BOS_ID, EOS_ID, PAD_ID } from '../data/index.ts';

const size = z.int().min(1);
const rate = z.number().min(0).lt(1);

/** The one value that a setting may have; it may be absent as well. */
function only<T extends string | number | boolean>(value: T) {
  const error = ({ input }: { readonly input?: unknown }) =>
    `is ${JSON.stringify(input)}, and the model has ${JSON.stringify(value)} only`;
  return z.literal(value, { error }).optional();
}

const bartSchema = z
  .object({
    model_type: z.literal('bart', { error: ({ input }) => `is ${JSON.stringify(input)}, not "bart"` }),
    vocab_size: size,
    d_model: size,
    encoder_layers: size,
    decoder_layers: size,
    encoder_attention_heads: size,
    decoder_attention_heads: size,
    encoder_ffn_dim: size,
    decoder_ffn_dim: size,
    max_position_embeddings: size,
    dropout: rate.default(0.1),
    attention_dropout: rate.default(0),
    activation_dropout: rate.default(0),
    init_std: z.number().positive().default(0.02),
    activation_function: only('gelu'),
    scale_embedding: only(false),
    is_encoder_decoder: only(true),
    tie_word_embeddings: only(true),
    encoder_layerdrop: only(0),
    decoder_layerdrop: only(0),
    // Of configurations that are older than the settings' removal.
    normalize_before: only(false),
    normalize_embedding: only(true),
    add_final_layer_norm: only(false),
    add_bias_logits: only(false),
    static_position_embeddings: only(false),
    extra_pos_embeddings: only(2),
    bos_token_id: only(BOS_ID),
    pad_token_id: only(PAD_ID),
    eos_token_id: only(EOS_ID),
  })
  .superRefine((bart, context) => {
    const equal = (first: 'encoder_attention_heads' | 'encoder_ffn_dim', second: keyof typeof bart) => {
      if (bart[first] === bart[second]) return;
      const message = `is ${String(bart[second])}, but ${first} is ${bart[first]}: must be equal`;
      context.addIssue({ code: 'custom', path: [second], message });
    };
    equal('encoder_attention_heads', 'decoder_attention_heads');
    equal('encoder_ffn_dim', 'decoder_ffn_dim');
    if (bart.d_model % bart.encoder_attention_heads !== 0) {
      const message = `must divide d_model (${bart.d_model}) evenly`;
      context.addIssue({ code: 'custom', path: ['encoder_attention_heads'], message });
    }
  });

/**
 * The model that a `config.json` describes. Throws CHECKPOINT_INVALID listing the settings that are missing or
 * cannot be honoured. Whether there is a concat head is the weights' to say; here there is none.
 */
export function modelOfBart(text: string, path: string): ModelConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(path, `is not JSON (${messageOf(error)})`, error);
  }
  const parsed = bartSchema.safeParse(value);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(
      ({ path: field, message }) => `${field.join('.') || 'file'} ${message}`,
    );
    throw invalid(path, faults.join('; '));
  }
  const bart = parsed.data;
  return {
    vocabSize: bart.vocab_size,
    dModel: bart.d_model,
    encoderLayers: bart.encoder_layers,
    decoderLayers: bart.decoder_layers,
    heads: bart.encoder_attention_heads,
    ffnDim: bart.encoder_ffn_dim,
    maxPositions: bart.max_position_embeddings,
    dropout: bart.dropout,
    attentionDropout: bart.attention_dropout,
    activationDropout: bart.activation_dropout,
    initStd: bart.init_std,
    concatHead: false,
  };
}

const TOKEN_IDS = { bos_token_id: BOS_ID, pad_token_id: PAD_ID, eos_token_id: EOS_ID } as const;

/** A whole number is an int to Python, and transformers refuses it for these. */
const FLOATS = new Set(['dropout', 'attention_dropout', 'activation_dropout', 'init_std']);

/** The text of a `config.json` that `transformers` builds the same model from. */
export function bartOfModel(model: ModelConfig): string {
  const text = json({
    architectures: ['BartForConditionalGeneration'],
    model_type: 'bart',
    vocab_size: model.vocabSize,
    d_model: model.dModel,
    encoder_layers: model.encoderLayers,
    decoder_layers: model.decoderLayers,
    num_hidden_layers: model.encoderLayers,
    encoder_attention_heads: model.heads,
    decoder_attention_heads: model.heads,
    encoder_ffn_dim: model.ffnDim,
    decoder_ffn_dim: model.ffnDim,
    max_position_embeddings: model.maxPositions,
    activation_function: 'gelu',
    dropout: model.dropout,
    attention_dropout: model.attentionDropout,
    activation_dropout: model.activationDropout,
    init_std: model.initStd,
    scale_embedding: false,
    is_encoder_decoder: true,
    tie_word_embeddings: true,
    ...TOKEN_IDS,
    // Slot 0 reads `<s>` here; BART itself starts with `</s>`.
    decoder_start_token_id: BOS_ID,
    forced_eos_token_id: EOS_ID,
    torch_dtype: 'float32',
  });
  return text.replace(/"(\w+)": (\d+)(?=,?$)/gm, (member, name: string) =>
    FLOATS.has(name) ? `${member}.0` : member,
  );
}

/** The text of the `generation_config.json` beside it. */
export function generationConfig(): string {
  return json({ ...TOKEN_IDS, decoder_start_token_id: BOS_ID, forced_eos_token_id: EOS_ID });
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function invalid(path: string, what: string, cause?: unknown): LockstepError {
  return new LockstepError(
    'CHECKPOINT_INVALID',
    `${path}: ${what}; take a BART model that has it otherwise`,
    {
      context: { path },
      cause,
    },
  );
}
