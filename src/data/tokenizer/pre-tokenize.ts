/**
 * GPT-2's split of text into words, which merges never cross: contractions, runs of letters, of digits
 * or of other signs with at most one space before them, and white space. White space is Unicode's
 * White_Space property as in the reference implementations (JavaScript's `\s` differs at U+0085 and U+FEFF).
 */
const WORD =
  /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** The words of `text` in order; joined they give `text` again. */
export function preTokenize(text: string): string[] {
  return text.match(WORD) ?? [];
}
