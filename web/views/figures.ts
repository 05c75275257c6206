/** A strip of figures: each a name, a value that is read at a glance, and a note in small print. */
import { element, setText } from '../dom.ts';

export interface Figure {
  readonly value: string;
  readonly note: string;
}

export class Figures {
  readonly root: HTMLElement;
  readonly #cells: readonly { value: HTMLElement; note: HTMLElement }[];

  constructor(names: readonly string[]) {
    const cells = names.map((name) => {
      const value = element('span', { class: 'value', text: '–' });
      const note = element('span', { class: 'note' });
      const cell = element(
        'div',
        { class: 'figure' },
        element('dt', { text: name }),
        element('dd', {}, value, note),
      );
      return { cell, value, note };
    });
    this.#cells = cells;
    this.root = element('dl', { class: 'figures' }, ...cells.map(({ cell }) => cell));
  }

  /** One figure for each name, in their order. */
  update(figures: readonly Figure[]): void {
    for (const [index, { value, note }] of figures.entries()) {
      const cell = this.#cells[index]!;
      setText(cell.value, value);
      setText(cell.note, note);
    }
  }
}
