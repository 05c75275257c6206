/**
 * A tokenizer in all the files that `AutoTokenizer` of transformers may look for: its own `tokenizer.json`, BART's
 * `vocab.json` and `merges.txt`, and what says that they are BART's. Pure.
 */
import { type BpeTokenizer, MASK_TOKEN, tokenizerToJson } from '../data/index.ts';

const SPECIAL_TOKENS = {
  ...{ bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>', sep_token: '</s>' },
  ...{ pad_token: '<pad>', cls_token: '<s>' },
  // In "a <mask>" the mask takes the space before it.
  mask_token: {
    ...{ content: MASK_TOKEN, lstrip: true, normalized: false, rstrip: false, single_word: false },
  },
};

/** By file name; `maxPositions` is the longest text in tokens, special ones included. */
export function tokenizerFiles(tokenizer: BpeTokenizer, maxPositions: number): Map<string, string> {
  const { tokens, merges } = tokenizer;
  // By hand: an object would put tokens such as "7" first.
  const vocab = tokens.map((token, id) => `${JSON.stringify(token)}:${id}`).join(',');
  const settings = {
    tokenizer_class: 'BartTokenizer',
    add_prefix_space: false,
    model_max_length: maxPositions,
  };
  return new Map([
    ['tokenizer.json', tokenizerToJson(tokenizer)],
    ['vocab.json', `{${vocab}}\n`],
    ['merges.txt', ['#version: 0.2', ...merges.map((merge) => merge.join(' ')), ''].join('\n')],
    ['special_tokens_map.json', json(SPECIAL_TOKENS)],
    ['tokenizer_config.json', json({ ...settings, ...SPECIAL_TOKENS })],
  ]);
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
