/** A row of a micro-batch as the model is taught with it: the noised source with its masks, the target, and the model's guess. */
import { get, LONG_TIMEOUT_MS, sentenceOf } from '../api.ts';
import type { NoisedExample } from '../contract.ts';
import { element, setText } from '../dom.ts';
import { formatCount } from '../format.ts';
import { GeneratedText, visible } from './generated-text.ts';

export class NoisedPanel {
  readonly root: HTMLElement;
  readonly #step = numberField('noised-step', '1');
  readonly #slot = numberField('noised-slot', '0');
  readonly #row = numberField('noised-row', '0');
  readonly #button = element('button', { text: 'Show', attributes: { type: 'submit' } });
  readonly #next = element('button', { class: 'plain', text: 'Next row', attributes: { type: 'button' } });
  readonly #said = element('p', { class: 'said-line', attributes: { role: 'status' } });
  readonly #source = element('p', { class: 'tokens plain-text' });
  readonly #target = element('p', { class: 'tokens plain-text' });
  readonly #guess = new GeneratedText();
  readonly #answer: HTMLElement;
  readonly #form: HTMLFormElement;

  constructor() {
    this.#next.addEventListener('click', () => {
      this.#row.value = String(Number(this.#row.value) + 1);
      void this.#fetch();
    });
    this.#form = element(
      'form',
      {
        class: 'panel-body row controls',
        on: {
          submit: (event) => {
            event.preventDefault();
            void this.#fetch();
          },
        },
      },
      ...[this.#step, this.#slot, this.#row].map((input) => {
        const name = input.id.replace('noised-', '');
        const label = element('label', { text: name.charAt(0).toUpperCase() + name.slice(1) });
        label.htmlFor = input.id;
        return element('div', { class: 'field' }, label, input);
      }),
      this.#button,
      this.#next,
    );
    this.#answer = element(
      'dl',
      { class: 'noised', attributes: { hidden: '' } },
      element('dt', { text: 'Source' }),
      element('dd', {}, this.#source),
      element('dt', { text: 'Target' }),
      element('dd', {}, this.#target),
      element('dt', { text: 'Model' }),
      element('dd', {}, this.#guess.root),
    );
    this.root = element(
      'section',
      { class: 'panel', attributes: { 'aria-labelledby': 'noised-title' } },
      element(
        'div',
        { class: 'panel-head' },
        element('h2', { id: 'noised-title', text: 'What it is taught with' }),
        element('span', {
          class: 'muted',
          text: 'Sentences are shuffled and spans masked; the target is the text as it was.',
        }),
      ),
      this.#form,
      this.#said,
      this.#answer,
    );
  }

  setAvailable(isAvailable: boolean): void {
    this.#form.inert = !isAvailable;
  }

  async #fetch(): Promise<void> {
    const [step, slot, row] = [this.#step, this.#slot, this.#row].map(({ value }) =>
      encodeURIComponent(value),
    );
    this.#button.disabled = true;
    this.#next.disabled = true;
    setText(this.#said, 'Reading …');
    try {
      const path = `/api/playground/example?step=${step}&slot=${slot}&row=${row}`;
      const example = await get<NoisedExample>(path, LONG_TIMEOUT_MS);
      this.#show(example);
    } catch (error) {
      setText(this.#said, sentenceOf(error));
    } finally {
      this.#button.disabled = false;
      this.#next.disabled = false;
    }
  }

  #show({ source, target, generated, step, slot, row }: NoisedExample): void {
    setText(this.#said, `Row ${row} of slot ${slot} in step ${formatCount(step)}`);
    this.#answer.hidden = false;
    this.#source.replaceChildren(
      ...source.map(({ text, mask }) => (mask ? element('mark', { text: 'mask' }) : visible(text))),
    );
    setText(this.#target, target.map(visible).join(''));
    this.#guess.root.hidden = generated === null;
    if (generated !== null) this.#guess.show(generated);
  }
}

function numberField(id: string, value: string): HTMLInputElement {
  return element('input', { id, attributes: { type: 'number', min: '0', required: '', value } });
}
