/**
 * The alignment under METEOR (Denkowski & Lavie 2014, section 2): each word is matched at most once, to an equal word
 * or to one of the same stem. Of all alignments with the most matches, equal words first, it looks for the one with the
 * fewest chunks (runs that stand together in both texts), then for the least distance, by a search from left to right
 * that keeps the 40 best partial alignments, as METEOR 1.5 does.
 */
import type { Stem } from './words.ts';

const BEAM = 40;
const UNMATCHED = -1;

export interface Alignment {
  /** Words matched to an equal word. */
  readonly exact: number;
  /** Words matched to another one of the same stem. */
  readonly stem: number;
  readonly chunks: number;
}

/** Words of one stem in both texts, by position. */
interface StemClass {
  readonly hypothesis: number[];
  readonly reference: number[];
}

interface Path {
  /** For each word of the reference the position it is matched to, or UNMATCHED. */
  readonly matches: Int32Array;
  /** A bit for each word of the hypothesis that is matched. */
  readonly used: bigint;
  readonly chunks: number;
  /** Summed over matches: how far apart the two positions are. */
  readonly distance: number;
}

/** What a path may do with one word of the reference: match it to `to`, or leave it out. */
interface Choice {
  readonly path: Path;
  readonly to: number;
  readonly chunks: number;
  readonly distance: number;
}

export function align(hypothesis: readonly string[], reference: readonly string[], stem: Stem): Alignment {
  const classes = stemClasses(hypothesis, reference, stem);
  const classOf = reference.map((word) => classes.get(stem(word))!);
  let paths: Path[] = [
    {
      matches: new Int32Array(reference.length).fill(UNMATCHED),
      used: 0n,
      chunks: 0,
      distance: 0,
    },
  ];
  reference.forEach((_, at) => {
    const choices = paths.flatMap((path) => choicesOf(hypothesis, reference, classOf[at]!, path, at));
    const isBranching = choices.length > paths.length;
    paths = isBranching ? bestPaths(choices, at) : choices.map((choice) => pathOf(choice, at));
  });
  const { matches, chunks } = paths.reduce((first, second) => (byRank(second, first) < 0 ? second : first));
  let exact = 0;
  let total = 0;
  matches.forEach((to, at) => {
    if (to === UNMATCHED) return;
    total += 1;
    if (hypothesis[to] === reference[at]) exact += 1;
  });
  return { exact, stem: total - exact, chunks };
}

function stemClasses(
  hypothesis: readonly string[],
  reference: readonly string[],
  stem: Stem,
): Map<string, StemClass> {
  const classes = new Map<string, StemClass>();
  const classAt = (word: string): StemClass => {
    const key = stem(word);
    const found = classes.get(key) ?? { hypothesis: [], reference: [] };
    classes.set(key, found);
    return found;
  };
  hypothesis.forEach((word, at) => {
    classAt(word).hypothesis.push(at);
  });
  reference.forEach((word, at) => {
    classAt(word).reference.push(at);
  });
  return classes;
}

/** What leaves as many matches possible as there can be in all, and as many of equal words. */
function choicesOf(
  hypothesis: readonly string[],
  reference: readonly string[],
  words: StemClass,
  path: Path,
  at: number,
): Choice[] {
  const choices = words.hypothesis
    .filter((to) => !isUsed(path, to))
    // To match equal words never costs a match elsewhere.
    .filter(
      (to) => hypothesis[to] === reference[at] || keepsAllMatches(hypothesis, reference, words, path, at, to),
    )
    .map((to) => choiceOf(path, at, to));
  // Where there are enough words for each of the reference, none may be left out.
  const isNeeded = words.reference.length <= words.hypothesis.length;
  if (!isNeeded && keepsAllMatches(hypothesis, reference, words, path, at, UNMATCHED)) {
    choices.push(choiceOf(path, at, UNMATCHED));
  }
  return choices;
}

/**
 * Whether, after it, the words of this stem can still be matched as often as at all possible, and as many of
 * them to equal words. Words of other stems are not concerned.
 */
function keepsAllMatches(
  hypothesis: readonly string[],
  reference: readonly string[],
  words: StemClass,
  path: Path,
  at: number,
  to: number,
): boolean {
  if (words.hypothesis.length === 0) return true;
  const possible = matchable(
    words.hypothesis.map((position) => hypothesis[position]!),
    words.reference.map((position) => reference[position]!),
  );
  const free = words.hypothesis.filter((position) => !isUsed(path, position) && position !== to);
  const later = words.reference.filter((position) => position > at);
  const left = matchable(
    free.map((position) => hypothesis[position]!),
    later.map((position) => reference[position]!),
  );
  let { exact, total } = left;
  for (const position of words.reference) {
    const matched = position === at ? to : position < at ? path.matches[position]! : UNMATCHED;
    if (matched === UNMATCHED) continue;
    total += 1;
    if (hypothesis[matched] === reference[position]) exact += 1;
  }
  return total === possible.total && exact === possible.exact;
}

/** How many words of one stem can be matched in all, and how many of these to equal ones at the same time. */
function matchable(left: readonly string[], right: readonly string[]): { exact: number; total: number } {
  const counts = new Map<string, number>();
  for (const word of left) counts.set(word, (counts.get(word) ?? 0) + 1);
  let exact = 0;
  for (const word of right) {
    const count = counts.get(word) ?? 0;
    if (count === 0) continue;
    exact += 1;
    counts.set(word, count - 1);
  }
  return { exact, total: Math.min(left.length, right.length) };
}

function choiceOf(path: Path, at: number, to: number): Choice {
  if (to === UNMATCHED) return { path, to, chunks: path.chunks, distance: path.distance };
  const before = at === 0 ? UNMATCHED : path.matches[at - 1]!;
  const continues = before !== UNMATCHED && before === to - 1;
  return {
    path,
    to,
    chunks: path.chunks + (continues ? 0 : 1),
    distance: path.distance + Math.abs(to - at),
  };
}

function pathOf({ path, to, chunks, distance }: Choice, at: number): Path {
  const matches = path.matches.slice();
  matches[at] = to;
  const used = to === UNMATCHED ? path.used : path.used | (1n << BigInt(to));
  return { matches, used, chunks, distance };
}

function isUsed({ used }: Path, position: number): boolean {
  return ((used >> BigInt(position)) & 1n) === 1n;
}

type Rank = Pick<Path, 'chunks' | 'distance'>;

/** Below 0 where `first` is better. */
function byRank(first: Rank, second: Rank): number {
  return first.chunks - second.chunks || first.distance - second.distance;
}

/** The best, once each: paths that used the same words and stand at the same one go on alike. */
function bestPaths(choices: Choice[], at: number): Path[] {
  choices.sort(byRank);
  const kept = new Map<bigint, Path>();
  for (const choice of choices) {
    if (kept.size === BEAM) break;
    const path = pathOf(choice, at);
    const key = (path.used << 32n) | BigInt(choice.to - UNMATCHED);
    if (!kept.has(key)) kept.set(key, path);
  }
  return [...kept.values()];
}
