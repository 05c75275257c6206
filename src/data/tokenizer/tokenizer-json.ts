/**
 * Reads and writes Hugging Face `tokenizer.json` for byte-level BPE, so that `tokenizers` and
 * `transformers` open what is trained here, and BART's file is understood here.
 */
import { z } from 'zod';
import type { BpeTokenizer, Merge } from './bpe-tokenizer.ts';
import { BOS_ID, EOS_ID, LEADING_SPECIALS, MASK_TOKEN } from './special-tokens.ts';
import { buildTokenizer, tokenizerError } from './vocabulary.ts';

const byteLevelSchema = z.object({ type: z.literal('ByteLevel'), add_prefix_space: z.literal(false) });
const jsonSchema = z.object({
  normalizer: z.null().optional(),
  pre_tokenizer: byteLevelSchema,
  added_tokens: z.array(z.object({ id: z.int(), content: z.string() })).default([]),
  model: z.object({
    type: z.literal('BPE').optional(),
    vocab: z.record(z.string(), z.int()),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
  }),
});

/** The text of a `tokenizer.json`; equal tokenizers give equal text. */
export function tokenizerToJson(tokenizer: BpeTokenizer): string {
  const special = (content: string, id: number) => ({
    id,
    content,
    single_word: false,
    // As BART has it: in "a <mask>" the mask takes the space before it.
    lstrip: content === MASK_TOKEN,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const json = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [...LEADING_SPECIALS.map(special), special(MASK_TOKEN, tokenizer.maskId)],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'RobertaProcessing',
      sep: ['</s>', EOS_ID],
      cls: ['<s>', BOS_ID],
      trim_offsets: true,
      add_prefix_space: false,
    },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: null,
      merges: tokenizer.merges,
    },
  };
  // JavaScript objects put keys such as "7" first; the vocabulary is written by hand to stay in order of ids.
  const vocab = tokenizer.tokens.map((token, id) => `${JSON.stringify(token)}:${id}`).join(',');
  return `${JSON.stringify(json).replace('"vocab":null', () => `"vocab":{${vocab}}`)}\n`;
}

/** Throws DATA_CORRUPT naming `file` and the field when it is no byte-level BPE with BART's specials. */
export function tokenizerFromJson(text: string, file: string): BpeTokenizer {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw tokenizerError(file, 'is not JSON', 'fetch or prepare it again', cause);
  }
  const parsed = jsonSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw tokenizerError(
      file,
      `field "${issue.path.join('.')}": ${issue.message}`,
      'use a byte-level BPE tokenizer without normalizer or prefix space',
    );
  }
  const { model, added_tokens } = parsed.data;
  const vocabulary = new Map(Object.entries(model.vocab));
  for (const { id, content } of added_tokens) vocabulary.set(content, id);
  const merges = model.merges.map((merge) => (typeof merge === 'string' ? splitMerge(merge, file) : merge));
  return buildTokenizer(vocabulary, merges, file);
}

/** A merge written as "left right"; the alphabet has no space, so the split is unique. */
export function splitMerge(line: string, file: string): Merge {
  const parts = line.split(' ');
  if (parts.length !== 2 || parts[0] === '' || parts[1] === '') {
    throw tokenizerError(file, `merge ${JSON.stringify(line)} is not two tokens`, 'fetch it again');
  }
  return [parts[0]!, parts[1]!];
}
