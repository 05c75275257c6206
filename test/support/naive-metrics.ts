/** Metrics by their definitions, for short texts: every subsequence and every alignment is tried. */
import type { Stem } from '../../src/metrics/index.ts';

/** By trying, word for word, to take or to leave. */
export function naiveSubsequenceLength(left: readonly string[], right: readonly string[]): number {
  const [first, ...rest] = left;
  if (first === undefined || right.length === 0) return 0;
  const without = naiveSubsequenceLength(rest, right);
  const at = right.indexOf(first);
  return at === -1 ? without : Math.max(without, 1 + naiveSubsequenceLength(rest, right.slice(at + 1)));
}

export interface NaiveAlignment {
  readonly exact: number;
  readonly stem: number;
  readonly chunks: number;
}

/** The best of all alignments: most matches, then most equal words, then fewest chunks. */
export function naiveAlignment(
  hypothesis: readonly string[],
  reference: readonly string[],
  stem: Stem,
): NaiveAlignment {
  let best: NaiveAlignment = { exact: 0, stem: 0, chunks: 0 };
  const isBetter = (found: NaiveAlignment) => {
    const order = [
      found.exact + found.stem - best.exact - best.stem,
      found.exact - best.exact,
      best.chunks - found.chunks,
    ];
    return (order.find((difference) => difference !== 0) ?? 0) > 0;
  };
  const extend = (matches: readonly number[]) => {
    const at = matches.length;
    if (at === reference.length) {
      const found = describeAlignment(hypothesis, reference, matches);
      if (isBetter(found)) best = found;
      return;
    }
    extend([...matches, -1]);
    hypothesis.forEach((word, to) => {
      if (!matches.includes(to) && stem(word) === stem(reference[at]!)) extend([...matches, to]);
    });
  };
  extend([]);
  return best;
}

function describeAlignment(
  hypothesis: readonly string[],
  reference: readonly string[],
  matches: readonly number[],
): NaiveAlignment {
  const matched = matches.flatMap((to, at) => (to === -1 ? [] : [{ to, at }]));
  const exact = matched.filter(({ to, at }) => hypothesis[to] === reference[at]).length;
  const chunks = matched.filter(({ to, at }) => to === 0 || at === 0 || matches[at - 1] !== to - 1).length;
  return { exact, stem: matched.length - exact, chunks };
}
