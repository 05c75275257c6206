/**
 * Generated tokens, each on a ground that says at which layer it left; pointing at one, or walking there with the arrow keys,
 * reads out its layer and confidence. One stop for the Tab key however many tokens there are.
 */
import type { Generated, GeneratedToken } from '../contract.ts';
import { element, setText } from '../dom.ts';
import { formatDuration, formatShare, formatShort, plural } from '../format.ts';

export class GeneratedText {
  readonly root: HTMLElement;
  readonly #tokens = element('p', {
    class: 'tokens',
    attributes: { role: 'group', 'aria-label': 'Generated text' },
  });
  readonly #readout = element('p', { class: 'said-line muted' });
  readonly #layers = element('ol', {
    class: 'exit-layers',
    attributes: { 'aria-label': 'Tokens by exit layer' },
  });
  readonly #speed = element('p', { class: 'muted small-print' });
  #generated: Generated | null = null;

  constructor() {
    this.#tokens.addEventListener('pointerover', (event) => this.#readOut(event.target));
    this.#tokens.addEventListener('focusin', (event) => this.#readOut(event.target));
    this.#tokens.addEventListener('pointerleave', () => this.#readOut(null));
    this.#tokens.addEventListener('keydown', (event) => this.#onKey(event));
    this.root = element(
      'div',
      { class: 'generated', attributes: { hidden: '' } },
      this.#tokens,
      this.#readout,
      this.#layers,
      this.#speed,
    );
  }

  show(generated: Generated): void {
    this.#generated = generated;
    const { tokens, layers } = generated;
    this.root.hidden = false;
    this.#tokens.replaceChildren(
      ...tokens.map((token, index) => {
        const made = element('span', {
          class: 'token',
          text: shownText(token, index),
          attributes: {
            tabindex: index === 0 ? '0' : '-1',
            role: 'note',
            'aria-label': describe(token, layers),
          },
        });
        made.style.setProperty('--depth', String(depthOf(token.layer, layers)));
        made.dataset.index = String(index);
        return made;
      }),
    );
    if (tokens.length === 0) this.#tokens.textContent = 'The model generated no token.';
    this.#showLayers(generated);
    setText(this.#speed, speedOf(generated));
    this.#readOut(null);
  }

  #readOut(target: EventTarget | null): void {
    const index = target instanceof HTMLElement ? target.dataset.index : undefined;
    const token = index === undefined ? undefined : this.#generated?.tokens[Number(index)];
    const hint = 'Point at a token, or use the arrow keys, to see where it left and how sure the model was.';
    setText(this.#readout, token === undefined ? hint : describe(token, this.#generated!.layers));
  }

  #onKey(event: KeyboardEvent): void {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const { activeElement } = document;
    if (move === undefined || activeElement === null) return;
    const next = move > 0 ? activeElement.nextElementSibling : activeElement.previousElementSibling;
    event.preventDefault();
    if (!(next instanceof HTMLElement)) return;
    activeElement.setAttribute('tabindex', '-1');
    next.tabIndex = 0;
    next.focus();
  }

  /** How many tokens left at each layer: the legend of the colours, and their histogram. */
  #showLayers({ tokens, layers }: Generated): void {
    const most = Math.max(1, ...countsOf(tokens, layers));
    this.#layers.replaceChildren(
      ...countsOf(tokens, layers).map((count, index) => {
        const bar = element('span', { class: 'exit-bar' });
        bar.style.visibility = count === 0 ? 'hidden' : 'visible';
        bar.style.setProperty('--depth', String(depthOf(index + 1, layers)));
        bar.style.setProperty('--share', String(count / most));
        return element(
          'li',
          {},
          element('span', { class: 'label', text: `Layer ${index + 1}` }),
          bar,
          element('span', { text: plural(count, 'token') }),
        );
      }),
    );
  }
}

function countsOf(tokens: readonly GeneratedToken[], layers: number): number[] {
  return Array.from(
    { length: layers },
    (_, index) => tokens.filter(({ layer }) => layer === index + 1).length,
  );
}

/** 0 for the first layer, 1 for the last. */
function depthOf(layer: number, layers: number): number {
  return layers <= 1 ? 1 : (layer - 1) / (layers - 1);
}

function describe({ text, layer, confidence }: GeneratedToken, layers: number): string {
  const sure = confidence === null ? 'no confidence given' : `confidence ${formatShare(confidence)}`;
  return `“${visible(text).trim() || 'space'}”: left at layer ${layer} of ${layers}, ${sure}`;
}

/** No gap before the text, and something to point at where a token is nothing but a space. */
function shownText({ text }: GeneratedToken, index: number): string {
  const shown = visible(text);
  if (shown.trim() === '') return '␣';
  return index === 0 ? shown.trimStart() : shown;
}

/** Line breaks would tear the line of tokens apart. */
export function visible(text: string): string {
  return text.replaceAll('\n', '⏎');
}

function speedOf({ tokens, generateMs, tokensPerSecond, twin, sourceTokens }: Generated): string {
  const own = `${plural(tokens.length, 'token')} from ${sourceTokens} in ${formatDuration(generateMs)}, ${formatShort(tokensPerSecond)} tokens a second`;
  if (twin === null) return `${own}.`;
  const times = (twin.generateMs / generateMs).toFixed(1);
  return `${own}; its autoregressive twin ${formatDuration(twin.generateMs)}, ${formatShort(twin.tokensPerSecond)} tokens a second: ${times} times as long.`;
}
