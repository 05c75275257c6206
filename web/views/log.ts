/** Lines of one log file around a moment, or its newest; those within a second of the moment stand out. */
import { get, sentenceOf } from '../api.ts';
import type { LogLine, LogView } from '../contract.ts';
import { element, setText } from '../dom.ts';
import { formatTime, UNKNOWN } from '../format.ts';
import { addressOf } from '../router.ts';
import type { View } from '../view.ts';

export class LogPage implements View {
  readonly root: HTMLElement;
  readonly #title = element('h1', { class: 'panel-title', id: 'log-title', text: 'Log' });
  readonly #note = element('span', { class: 'muted' });
  readonly #lines = element('tbody');
  readonly #empty = element('p', { class: 'empty', text: 'Reading …', attributes: { role: 'status' } });
  #place = '';

  constructor() {
    const columns = ['Time', 'Level', 'Event', 'Fields'];
    const heads = columns.map((text) => element('th', { text, attributes: { scope: 'col' } }));
    this.root = element(
      'section',
      { class: 'panel', attributes: { 'aria-labelledby': 'log-title' } },
      element(
        'div',
        { class: 'panel-head' },
        this.#title,
        this.#note,
        element(
          'div',
          { class: 'end' },
          element('a', { text: 'Back to the history', attributes: { href: addressOf('history') } }),
        ),
      ),
      element(
        'div',
        { class: 'scroll', attributes: { tabindex: '0', role: 'region', 'aria-label': 'Lines' } },
        element('table', { class: 'log' }, element('thead', {}, element('tr', {}, ...heads)), this.#lines),
      ),
      this.#empty,
    );
  }

  show([file = '', at]: readonly string[]): void {
    this.#place = `${file} ${at}`;
    setText(this.#title, file);
    setText(this.#note, at === undefined ? 'newest lines' : `around ${formatTime(Number(at), new Date())}`);
    this.#lines.replaceChildren();
    this.#empty.hidden = false;
    setText(this.#empty, 'Reading …');
    const moment = at === undefined ? '' : `&at=${encodeURIComponent(at)}`;
    void this.#fetch(`/api/logs?file=${encodeURIComponent(file)}${moment}`);
  }

  hide(): void {}

  update(): void {}

  recolor(): void {}

  async #fetch(path: string): Promise<void> {
    const place = this.#place;
    try {
      const { lines } = await get<LogView>(path);
      if (place !== this.#place) return;
      this.#lines.replaceChildren(...lines.map(rowOf));
      this.#empty.hidden = lines.length > 0;
      setText(this.#empty, 'There is no line around that time.');
      this.#lines.querySelector('.is-near')?.scrollIntoView({ block: 'center' });
    } catch (error) {
      if (place === this.#place) setText(this.#empty, sentenceOf(error));
    }
  }
}

function rowOf({ at, level, event, fields, near }: LogLine): HTMLElement {
  const row = element(
    'tr',
    { class: near ? 'is-near' : '' },
    element('td', { class: 'mono', text: at === null ? UNKNOWN : formatTime(at, new Date()) }),
    element('td', { text: level }),
    element('td', { class: 'event', text: event }),
    element('td', { class: 'mono fields', text: fields }),
  );
  row.dataset.level = level;
  return row;
}
