/**
 * Contrast of the dashboard's colours, light and dark, as WCAG 2.2 counts it (relative luminance, section 1.4): text on its
 * grounds 4.5 to 1, marks in charts and dots of state 3 to 1.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const css = readFileSync(new URL('../../../web/styles/base.css', import.meta.url), 'utf8');
const COLORS = new Map(
  [...css.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)].map((match) => [
    match[1]!,
    [match[2]!, match[3]!] as const,
  ]),
);
const GROUNDS = ['ground', 'surface'];

describe.each(['light', 'dark'])('in the %s theme', (theme) => {
  const colorOf = (name: string): string => {
    const pair = COLORS.get(name);
    if (pair === undefined) throw new Error(`base.css names no colour ${name}`);
    return pair[theme === 'light' ? 0 : 1];
  };

  it.each([
    ...['ink', 'muted', 'accent', 'good', 'warn', 'bad'].map((text) => [text, GROUNDS] as const),
    ['ink', ['sunken', 'accent-soft', 'warn-soft', 'bad-soft', 'exit-early', 'exit-late']] as const,
    ['warn', ['warn-soft']] as const,
    ['bad', ['bad-soft']] as const,
    ['on-accent', ['accent']] as const,
  ])('%s can be read on %j', (text, grounds) => {
    for (const ground of grounds) {
      expect(contrast(colorOf(text), colorOf(ground)), `${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    }
  });

  // Waiting is drawn as the near absence of a colour: a gap between the others.
  const marks = [...COLORS.keys()].filter(
    (name) => /^(?:series|phase)-|-mark$/.test(name) && name !== 'phase-wait',
  );

  it.each([...marks, 'line-strong', 'good', 'warn', 'bad'])('%s stands out from a panel', (mark) => {
    expect(contrast(colorOf(mark), colorOf('surface'))).toBeGreaterThanOrEqual(3);
  });
});

it('the colours of the style sheet were found', () => {
  expect(COLORS.size).toBeGreaterThan(25);
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21, 5);
});

function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

function luminance(color: string): number {
  const [red, green, blue] = [1, 3, 5].map((start) => {
    const share = Number.parseInt(color.slice(start, start + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
