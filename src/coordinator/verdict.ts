/** What comes of replicas being compared. */
import type { Failure } from './state.ts';

export type Verdict =
  /** Nothing is wrong, or not all is known yet. */
  | { readonly kind: 'goOn' }
  /** Workers whose bits differ from those of the majority, with the reason. */
  | { readonly kind: 'quarantine'; readonly workers: ReadonlyMap<string, string> }
  | { readonly kind: 'failed'; readonly failure: Failure };

export const GO_ON: Verdict = { kind: 'goOn' };

/** The first of those ballots that more than half of all agree with by `keyOf`, or null. */
export function majorityOf<Ballot>(
  ballots: readonly Ballot[],
  keyOf: (ballot: Ballot) => string,
): Ballot | null {
  const counts = new Map<string, number>();
  for (const ballot of ballots) counts.set(keyOf(ballot), (counts.get(keyOf(ballot)) ?? 0) + 1);
  return ballots.find((ballot) => 2 * counts.get(keyOf(ballot))! > ballots.length) ?? null;
}
