/**
 * What happened, newest kept: commits apart from the rest, so that a long run's many commits do not push
 * its few faults out. Counts by kind cover the whole run. Pure.
 */
import { HISTORY_KINDS, type HistoryEntry, type HistoryKind, type HistoryView } from '../contract.ts';
import { Ring } from './ring.ts';

const COMMITS_MAX = 500;
const OTHERS_MAX = 2000;
export const HISTORY_LIMIT_MAX = 500;

export interface HistoryQuery {
  readonly kinds: readonly HistoryKind[];
  /** Only entries older than this id; null from the newest. */
  readonly before: number | null;
  readonly limit: number;
}

export class History {
  readonly #commits = new Ring<HistoryEntry>(COMMITS_MAX);
  readonly #others = new Ring<HistoryEntry>(OTHERS_MAX);
  readonly #counts = Object.fromEntries(HISTORY_KINDS.map((kind) => [kind, 0])) as Record<
    HistoryKind,
    number
  >;
  #nextId = 1;

  add(entry: Omit<HistoryEntry, 'id'>): void {
    const numbered = { id: this.#nextId, ...entry };
    this.#nextId += 1;
    this.#counts[entry.kind] += 1;
    (entry.kind === 'commit' ? this.#commits : this.#others).push(numbered);
  }

  /** The id of the newest entry; 0 before the first. */
  get lastId(): number {
    return this.#nextId - 1;
  }

  view({ kinds, before, limit }: HistoryQuery): HistoryView {
    const wanted = [...this.#commits.items, ...this.#others.items]
      .filter(({ id, kind }) => kinds.includes(kind) && (before === null || id < before))
      .sort((a, b) => b.id - a.id);
    return {
      entries: wanted.slice(0, limit),
      counts: { ...this.#counts },
      more: wanted.length > limit,
    };
  }

  /** Entries after `id`, oldest first. */
  since(id: number): readonly HistoryEntry[] {
    const newer = (ring: Ring<HistoryEntry>) => ring.items.filter((entry) => entry.id > id);
    return [...newer(this.#commits), ...newer(this.#others)].sort((a, b) => a.id - b.id);
  }
}
