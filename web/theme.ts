/**
 * Light or dark: the system's choice until the reader makes one, which is then kept in this browser. public/theme.js applies
 * the kept choice before the first paint.
 */
import { element, svg } from './dom.ts';

const KEY = 'lockstep-theme';
const systemIsDark = matchMedia('(prefers-color-scheme: dark)');

export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen === undefined ? systemIsDark.matches : chosen === 'dark';
}

/** A button that turns light to dark and back. `onChange` is called then, and when the system's choice changes. */
export function themeButton(onChange: () => void): HTMLButtonElement {
  const button = element('button', { class: 'plain icon', attributes: { type: 'button' } });
  const show = () => {
    button.replaceChildren(isDark() ? sun() : moon());
    button.setAttribute('aria-label', isDark() ? 'Switch to light' : 'Switch to dark');
  };
  button.addEventListener('click', () => {
    const theme = isDark() ? 'light' : 'dark';
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
    show();
    onChange();
  });
  systemIsDark.addEventListener('change', () => {
    show();
    onChange();
  });
  show();
  return button;
}

/** What a colour of base.css is at present, in a form that a canvas takes. */
export function colorOf(name: string): string {
  const probe = element('span');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

const drawing = {
  viewBox: '0 0 16 16',
  fill: 'none',
  stroke: 'currentColor',
  'stroke-width': 1.5,
  'stroke-linecap': 'round',
  'aria-hidden': 'true',
};

function sun(): SVGElement {
  const rays = 'M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M3 13l1.2-1.2M11.8 4.2 13 3';
  return svg('svg', drawing, svg('circle', { cx: 8, cy: 8, r: 2.9 }), svg('path', { d: rays }));
}

function moon(): SVGElement {
  return svg('svg', drawing, svg('path', { d: 'M13.4 9.9A5.8 5.8 0 0 1 6.1 2.6a5.8 5.8 0 1 0 7.3 7.3Z' }));
}
