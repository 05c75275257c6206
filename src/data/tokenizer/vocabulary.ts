/**
 * Builds a tokenizer from a vocabulary and merges that came from a file, after checking what the rest
 * of Lockstep relies on: ids without gaps, the special tokens at BART's places, all 256 bytes, and
 * merges whose parts and results are tokens.
 */
import { LockstepError } from '../../base/index.ts';
import { BpeTokenizer, type Merge } from './bpe-tokenizer.ts';
import { CHARACTER_OF_BYTE } from './byte-alphabet.ts';
import { LEADING_SPECIALS, MASK_TOKEN, VOCAB_SIZE_MAX, VOCAB_SIZE_MIN } from './special-tokens.ts';

/** An error about a tokenizer file: not what the file should hold. */
export function tokenizerError(file: string, what: string, remedy: string, cause?: unknown): LockstepError {
  return new LockstepError('DATA_CORRUPT', `${file}: ${what}: ${remedy}`, { context: { file }, cause });
}

/** Throws DATA_CORRUPT naming `file` and the first token or merge that does not fit. */
export function buildTokenizer(
  vocabulary: Iterable<readonly [token: string, id: number]>,
  merges: readonly Merge[],
  file: string,
): BpeTokenizer {
  const idOf = new Map(vocabulary);
  const refuse = (what: string) =>
    tokenizerError(file, what, "use a byte-level BPE tokenizer made by `lockstep prepare`, or BART's");
  const size = idOf.size;
  if (size < VOCAB_SIZE_MIN || size > VOCAB_SIZE_MAX) {
    throw refuse(`has ${size} tokens, not ${VOCAB_SIZE_MIN} .. ${VOCAB_SIZE_MAX}`);
  }
  const tokens = new Array<string | undefined>(size).fill(undefined);
  for (const [token, id] of idOf) {
    if (!Number.isInteger(id) || id < 0 || id >= size) {
      throw refuse(`token ${JSON.stringify(token)} has id ${id}, not one of 0 .. ${size - 1}`);
    }
    if (tokens[id] !== undefined)
      throw refuse(`tokens ${JSON.stringify(tokens[id])} and ${JSON.stringify(token)} share id ${id}`);
    tokens[id] = token;
  }
  const places = [
    ...LEADING_SPECIALS.map((token, id) => [token, id] as const),
    [MASK_TOKEN, size - 1] as const,
  ];
  for (const [token, id] of places) {
    if (idOf.get(token) !== id) throw refuse(`special token ${token} has id ${idOf.get(token)}, not ${id}`);
  }
  const missingByte = CHARACTER_OF_BYTE.findIndex((character) => !idOf.has(character));
  if (missingByte !== -1) throw refuse(`has no token for byte ${missingByte}`);
  merges.forEach(([left, right], rank) => {
    const stranger = [left, right, left + right].find((token) => !idOf.has(token));
    if (stranger !== undefined)
      throw refuse(`merge ${rank} needs ${JSON.stringify(stranger)}, which is no token`);
  });
  // Size, range and uniqueness of the ids leave no place empty.
  return new BpeTokenizer(tokens as string[], merges);
}
