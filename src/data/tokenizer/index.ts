export { BpeTokenizer, type Merge } from './bpe-tokenizer.ts';
export { trainBpe } from './bpe-trainer.ts';
export { loadTokenizer } from './load-tokenizer.ts';
export {
  BOS_ID,
  EOS_ID,
  LEADING_SPECIALS,
  MASK_TOKEN,
  PAD_ID,
  SPECIAL_COUNT,
  UNK_ID,
  VOCAB_SIZE_MAX,
  VOCAB_SIZE_MIN,
} from './special-tokens.ts';
export { tokenizerFromJson, tokenizerToJson } from './tokenizer-json.ts';
export { WordCounter, type WordCounterLimits, type WordLevel } from './word-counter.ts';
