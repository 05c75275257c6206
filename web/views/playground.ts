/**
 * What the model says: a text goes in, and each token that comes out is coloured by the layer it left at. Beside it, what the
 * model is taught with: a noised source and its target.
 */
import { get, LONG_TIMEOUT_MS, post, sentenceOf } from '../api.ts';
import type { Generated, GenerateRequest, PlaygroundView } from '../contract.ts';
import { element, setText } from '../dom.ts';
import { formatCount } from '../format.ts';
import type { LiveRun } from '../live.ts';
import type { View } from '../view.ts';
import { GeneratedText } from './generated-text.ts';
import { NoisedPanel } from './noised-panel.ts';

const EXAMPLES: readonly { name: string; text: string }[] = [
  {
    name: 'A river',
    text: 'The river rises in the hills north of the town and flows south through a broad valley. In spring its water covers the meadows, and for some weeks the lower road cannot be used.',
  },
  {
    name: 'A bridge',
    text: 'The bridge was opened in 1894. It has five stone arches and was the longest in the country when it was built. After a flood two of the arches were built anew.',
  },
  {
    name: 'A person',
    text: 'She studied mathematics at the university and taught at a school for ten years. Her first book was about prime numbers and was read far beyond her country.',
  },
];

/** The slider's right end stands for no early exit at all. */
const EVERY_LAYER = 1;

export class PlaygroundPage implements View {
  readonly root: HTMLElement;
  readonly #text = element('textarea', { id: 'source', attributes: { rows: '5', maxlength: '20000' } });
  readonly #checkpoint = element('select', { id: 'checkpoint' });
  readonly #threshold = element('input', {
    id: 'threshold',
    attributes: {
      type: 'range',
      min: '0.05',
      max: String(EVERY_LAYER),
      step: '0.05',
      value: String(EVERY_LAYER),
    },
  });
  readonly #thresholdText = element('output', { attributes: { for: 'threshold' } });
  readonly #button = element('button', {
    class: 'primary',
    text: 'Generate',
    attributes: { type: 'submit' },
  });
  readonly #said = element('p', { class: 'said-line', attributes: { role: 'status' } });
  readonly #unavailable = element('p', { class: 'notice', attributes: { hidden: '' } });
  readonly #form: HTMLFormElement;
  readonly #exitRow: HTMLElement;
  readonly #output = new GeneratedText();
  readonly #noised = new NoisedPanel();
  #view: PlaygroundView | null = null;
  #fetchedFor: number | null | undefined;
  #isFetching = false;

  constructor() {
    const examples = EXAMPLES.map(({ name, text }) =>
      element('button', {
        class: 'chip',
        text: name,
        attributes: { type: 'button' },
        on: {
          click: () => {
            this.#text.value = text;
            this.#text.focus();
          },
        },
      }),
    );
    this.#text.value = EXAMPLES[0]!.text;
    this.#threshold.addEventListener('input', () => this.#showThreshold());
    this.#exitRow = element(
      'div',
      { class: 'field' },
      element('label', { text: 'Exit threshold', attributes: { for: 'threshold' } }),
      this.#threshold,
      this.#thresholdText,
    );
    this.#form = element(
      'form',
      {
        class: 'panel-body stack tight',
        on: {
          submit: (event) => {
            event.preventDefault();
            void this.#generate();
          },
        },
      },
      element('label', { text: 'Text', attributes: { for: 'source' } }),
      this.#text,
      element(
        'div',
        { class: 'row' },
        element('span', { class: 'label', text: 'Or one of these:' }),
        element(
          'div',
          { class: 'chips', attributes: { role: 'group', 'aria-label': 'Example texts' } },
          ...examples,
        ),
      ),
      element(
        'div',
        { class: 'row controls' },
        element(
          'div',
          { class: 'field' },
          element('label', { text: 'Checkpoint', attributes: { for: 'checkpoint' } }),
          this.#checkpoint,
        ),
        this.#exitRow,
        this.#button,
      ),
    );
    this.root = element(
      'div',
      { class: 'stack' },
      element(
        'section',
        { class: 'panel', attributes: { 'aria-labelledby': 'playground-title' } },
        element(
          'div',
          { class: 'panel-head' },
          element('h1', { class: 'panel-title', id: 'playground-title', text: 'Playground' }),
        ),
        this.#unavailable,
        this.#form,
        this.#said,
        this.#output.root,
      ),
      this.#noised.root,
    );
    this.#showThreshold();
  }

  show(): void {
    this.#fetchedFor = undefined;
  }

  hide(): void {}

  update({ overview, connection, hasRun }: LiveRun): void {
    if (!hasRun) this.#showUnavailable('There is no run yet.');
    const newest = overview?.lastCheckpoint?.step ?? null;
    if (connection.phase === 'live' && overview !== null && newest !== this.#fetchedFor)
      void this.#fetch(newest);
  }

  recolor(): void {}

  async #fetch(newest: number | null): Promise<void> {
    if (this.#isFetching) return;
    this.#isFetching = true;
    try {
      this.#view = await get<PlaygroundView>('/api/playground');
      this.#fetchedFor = newest;
      this.#showAbilities(this.#view);
    } catch (error) {
      this.#showUnavailable(sentenceOf(error));
    } finally {
      this.#isFetching = false;
    }
  }

  #showAbilities({ unavailable, checkpoints, earlyExit }: PlaygroundView): void {
    this.#showUnavailable(unavailable);
    const chosen = this.#checkpoint.value;
    const options = checkpoints.map((step, index) =>
      element('option', {
        text: `step ${formatCount(step)}${index === 0 ? ', the newest' : ''}`,
        attributes: { value: index === 0 ? '' : String(step) },
      }),
    );
    this.#checkpoint.replaceChildren(...options);
    if (options.some(({ value }) => value === chosen)) this.#checkpoint.value = chosen;
    this.#exitRow.hidden = !earlyExit;
    this.#noised.setAvailable(unavailable === null);
  }

  #showUnavailable(reason: string | null): void {
    this.#unavailable.hidden = reason === null;
    setText(this.#unavailable, reason ?? '');
    this.#form.inert = reason !== null;
  }

  #showThreshold(): void {
    const value = Number(this.#threshold.value);
    const text = value === EVERY_LAYER ? 'every layer' : `leave at ${Math.round(value * 100)} % confidence`;
    setText(this.#thresholdText, text);
    this.#threshold.setAttribute('aria-valuetext', text);
  }

  async #generate(): Promise<void> {
    const text = this.#text.value.trim();
    if (text === '') {
      setText(this.#said, 'Type a text first, or take one of the examples.');
      this.#text.focus();
      return;
    }
    const threshold = Number(this.#threshold.value);
    const request: GenerateRequest = {
      text,
      checkpoint: this.#checkpoint.value === '' ? null : Number(this.#checkpoint.value),
      threshold: this.#view?.earlyExit !== true || threshold === EVERY_LAYER ? null : threshold,
    };
    this.#button.disabled = true;
    setText(this.#said, 'Generating …');
    try {
      const generated = await post<Generated>('/api/playground/generate', request, LONG_TIMEOUT_MS);
      this.#output.show(generated);
      const { cutTo } = generated;
      const cut = cutTo === null ? '' : ` The text was cut to its first ${formatCount(cutTo)} tokens.`;
      setText(this.#said, `Generated by the checkpoint of step ${formatCount(generated.step)}.${cut}`);
    } catch (error) {
      setText(this.#said, sentenceOf(error));
    } finally {
      this.#button.disabled = false;
    }
  }
}
