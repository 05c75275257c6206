/**
 * What a token's text tells about its place in a sentence, as one byte per id. The noise and the cuts
 * between samples need it for every token, so it is looked up, not matched.
 */
import type { BpeTokenizer } from './tokenizer/index.ts';

export interface TokenKinds {
  readonly vocabSize: number;
  /** 1 where the token begins a word: its text begins with "Ġ", the space before it. */
  readonly startsWord: Uint8Array;
  /**
   * 1 where the token ends a sentence. The published code knows id 4 (".") alone, so that it finds no
   * sentence in text that writes " ." and misses "!", "?" and '."' (ELMER.md section 3.1).
   */
  readonly endsSentence: Uint8Array;
}

const SENTENCE_END = /^Ġ?[.!?]+["')\]]*$/;

export function tokenKindsOf(tokenizer: BpeTokenizer): TokenKinds {
  return {
    vocabSize: tokenizer.vocabSize,
    startsWord: Uint8Array.from(tokenizer.tokens, (token) => Number(token.startsWith('Ġ'))),
    endsSentence: Uint8Array.from(tokenizer.tokens, (token) => Number(SENTENCE_END.test(token))),
  };
}
