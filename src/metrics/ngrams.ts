/** Sequences of words and what two of them share. */

/** How often each sequence of `size` words occurs. Words hold no white space, so that a space can join them. */
export function countNgrams(words: readonly string[], size: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let start = 0; start + size <= words.length; start += 1) {
    let ngram = words[start]!;
    for (let next = start + 1; next < start + size; next += 1) ngram += ` ${words[next]!}`;
    counts.set(ngram, (counts.get(ngram) ?? 0) + 1);
  }
  return counts;
}

export function ngramsIn(words: readonly string[], size: number): number {
  return Math.max(0, words.length - size + 1);
}

/** Occurrences in `counts`, each sequence counted at most as often as in `limits`. */
export function sharedCount(
  counts: ReadonlyMap<string, number>,
  limits: ReadonlyMap<string, number>,
): number {
  let shared = 0;
  for (const [ngram, count] of counts) shared += Math.min(count, limits.get(ngram) ?? 0);
  return shared;
}

/** Length of a longest common subsequence, in time m*n. */
export function commonSubsequenceLength(left: readonly string[], right: readonly string[]): number {
  // lengths[j]: of all of `left` so far and the first j words of `right`.
  const lengths = new Uint32Array(right.length + 1);
  for (const word of left) {
    let diagonal = 0;
    for (let j = 1; j <= right.length; j += 1) {
      const above = lengths[j]!;
      lengths[j] = word === right[j - 1] ? diagonal + 1 : Math.max(above, lengths[j - 1]!);
      diagonal = above;
    }
  }
  return lengths[right.length]!;
}
