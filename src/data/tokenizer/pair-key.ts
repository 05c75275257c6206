/** A pair of token ids as one number, for Maps: ids stay below 2^21, so keys stay below 2^42. */
import { VOCAB_SIZE_MAX } from './special-tokens.ts';

export const pairKey = (left: number, right: number): number => left * VOCAB_SIZE_MAX + right;
export const leftOf = (key: number): number => Math.floor(key / VOCAB_SIZE_MAX);
export const rightOf = (key: number): number => key % VOCAB_SIZE_MAX;
