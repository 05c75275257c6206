/**
 * The text of each token. A token may hold part of a character's bytes: the character is then shown with the
 * token that completes it, and the others are empty. Pure.
 */
import type { BpeTokenizer } from '../data/index.ts';

/** What stands for bytes that are no character (yet). */
const REPLACEMENT = '\ufffd';
/** Bytes of the longest character in UTF-8, each of which may be a token of its own. */
const TOKENS_PER_CHARACTER_MAX = 4;

export function tokenTexts(tokenizer: Pick<BpeTokenizer, 'decode'>, ids: ArrayLike<number>): string[] {
  const texts: string[] = [];
  let held: number[] = [];
  for (const id of Array.from(ids)) {
    held.push(id);
    const text = tokenizer.decode(held);
    const isPartial = text.endsWith(REPLACEMENT) && held.length < TOKENS_PER_CHARACTER_MAX;
    texts.push(isPartial ? '' : text);
    if (!isPartial) held = [];
  }
  // Bytes that nothing completed are shown as what they are.
  if (held.length > 0) texts[texts.length - 1] = tokenizer.decode(held);
  return texts;
}
