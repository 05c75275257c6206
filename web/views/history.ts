/**
 * What happened, newest first: commits, aborted attempts, joins, losses, refusals, divergences, checkpoints. Filters by kind;
 * each entry leads to the lines of the logs around its time.
 */
import { get, sentenceOf } from '../api.ts';
import { HISTORY_KINDS, type HistoryEntry, type HistoryKind, type HistoryView } from '../contract.ts';
import { element, reconcile, setAttribute, setText } from '../dom.ts';
import { formatCount, formatTime, plural } from '../format.ts';
import type { LiveRun } from '../live.ts';
import { addressOf } from '../router.ts';
import type { View } from '../view.ts';
import { KIND_WORDS } from '../words.ts';

const PAGE_ENTRIES = 100;
/** More than this are not kept on the page; older ones can be fetched again. */
const ENTRIES_MAX = 1_000;

export class HistoryPage implements View {
  readonly root: HTMLElement;
  readonly #list = element('ol', { class: 'history' });
  readonly #empty = element('p', { class: 'empty' });
  readonly #more = element('button', { text: 'Show older', attributes: { type: 'button', hidden: '' } });
  readonly #chips = new Map<HistoryKind, HTMLButtonElement>();
  readonly #run: LiveRun;
  #wanted = new Set<HistoryKind>(HISTORY_KINDS.filter((kind) => kind !== 'commit'));
  #entries: readonly HistoryEntry[] = [];
  #counts: HistoryView['counts'] | null = null;
  #hasMore = false;
  #problem: string | null = null;
  #stopListening = () => {};
  #numFetches = 0;

  constructor(run: LiveRun) {
    this.#run = run;
    const chips = HISTORY_KINDS.map((kind) => {
      const chip = element('button', {
        class: 'chip',
        attributes: { type: 'button', 'aria-pressed': String(this.#wanted.has(kind)), 'data-kind': kind },
        on: { click: () => this.#toggle(kind) },
      });
      this.#chips.set(kind, chip);
      return chip;
    });
    this.#more.addEventListener('click', () => void this.#fetch(this.#entries.at(-1)?.id ?? null));
    this.root = element(
      'section',
      { class: 'panel', attributes: { 'aria-labelledby': 'history-title' } },
      element(
        'div',
        { class: 'panel-head' },
        element('h1', { class: 'panel-title', id: 'history-title', text: 'History' }),
        element(
          'div',
          { class: 'chips', attributes: { role: 'group', 'aria-label': 'Show these kinds' } },
          ...chips,
        ),
      ),
      this.#list,
      this.#empty,
      element('div', { class: 'more' }, this.#more),
    );
  }

  show(): void {
    this.#stopListening();
    this.#stopListening = this.#run.onHistory((entries) => {
      if (entries.length === 0) void this.#fetch(null);
      else this.#add(entries);
    });
    void this.#fetch(null);
  }

  hide(): void {
    this.#stopListening();
  }

  update(): void {
    reconcile(
      this.#list,
      this.#entries,
      ({ id }) => String(id),
      createEntry,
      (made, { at }) => setText(made.querySelector('time')!, formatTime(at, new Date())),
    );
    for (const [kind, chip] of this.#chips) {
      const count = this.#counts?.[kind];
      setText(
        chip,
        count === undefined ? KIND_WORDS[kind].many : `${KIND_WORDS[kind].many} ${formatCount(count)}`,
      );
    }
    this.#empty.hidden = this.#entries.length > 0;
    setText(this.#empty, this.#problem ?? (this.#wanted.size === 0 ? 'Nothing is chosen above.' : NOTHING));
    this.#more.hidden = !this.#hasMore || this.#entries.length >= ENTRIES_MAX;
  }

  recolor(): void {}

  #toggle(kind: HistoryKind): void {
    if (!this.#wanted.delete(kind)) this.#wanted.add(kind);
    setAttribute(this.#chips.get(kind)!, 'aria-pressed', String(this.#wanted.has(kind)));
    void this.#fetch(null);
  }

  /** Entries before an id, or the newest in place of all there are. */
  async #fetch(before: number | null): Promise<void> {
    this.#numFetches += 1;
    const number = this.#numFetches;
    if (this.#wanted.size === 0) {
      this.#entries = [];
      this.#hasMore = false;
      this.update();
      return;
    }
    const place = before === null ? '' : `&before=${before}`;
    const path = `/api/history?kinds=${[...this.#wanted].join(',')}&limit=${PAGE_ENTRIES}${place}`;
    try {
      const { entries, counts, more } = await get<HistoryView>(path);
      // Another filter was chosen meanwhile: that answer is on its way.
      if (number !== this.#numFetches) return;
      this.#entries = before === null ? entries : [...this.#entries, ...entries];
      this.#counts = counts;
      this.#hasMore = more;
      this.#problem = null;
    } catch (error) {
      this.#problem = sentenceOf(error);
    }
    this.update();
  }

  #add(entries: readonly HistoryEntry[]): void {
    const newest = Math.max(0, ...this.#entries.map(({ id }) => id));
    const fresh = entries.filter(({ id, kind }) => id > newest && this.#wanted.has(kind));
    this.#entries = [...fresh.toReversed(), ...this.#entries].slice(0, ENTRIES_MAX);
    if (this.#counts !== null) {
      const counts = { ...this.#counts };
      for (const { kind } of entries) counts[kind] += 1;
      this.#counts = counts;
    }
  }
}

const NOTHING = 'Nothing of these kinds has happened.';

function createEntry({ at, kind, level, step, text, logs }: HistoryEntry): HTMLElement {
  const links = logs.map((file) =>
    element('a', {
      text: file.replace(/\.log$/, ''),
      attributes: { href: addressOf('log', file, at), 'aria-label': `Lines of ${file} at that time` },
    }),
  );
  const made = element(
    'li',
    {},
    element('time', { class: 'muted', attributes: { title: new Date(at).toISOString() } }),
    element('span', { class: 'kind', text: KIND_WORDS[kind].word }),
    element('span', { class: 'muted step', text: step === null ? '' : `step ${formatCount(step)}` }),
    element('span', { class: 'text', text }),
    element('span', { class: 'links', attributes: { title: plural(links.length, 'log') } }, ...links),
  );
  made.dataset.level = level;
  made.dataset.kind = kind;
  return made;
}
