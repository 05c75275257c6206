/** Curves in characters: the shape is right, whatever the values are. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { textPlot } from '../../../src/cli/text-plot.ts';

const SIZE = { width: 30, height: 4 };

test('a falling line goes from the top left to the bottom right', () => {
  const x = Array.from({ length: 50 }, (_, index) => index + 1);
  expect(
    textPlot(
      x,
      x.map((at) => 10 - at / 5),
      SIZE,
    ),
  ).toEqual([
    '9.80 ┤⠉⠒⠢⠤⢄⣀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀',
    '     ┤⠀⠀⠀⠀⠀⠀⠉⠒⠢⠤⢄⣀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀',
    '     ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠉⠑⠒⠢⠤⣀⠀⠀⠀⠀⠀⠀',
    '0.00 ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠉⠑⠒⠢⠤⣀',
    '      1                     50',
  ]);
});

test('every plot has its size and its ends, and no value breaks it', () => {
  const value = fc.oneof(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), fc.constant(Number.NaN));
  fc.assert(
    fc.property(fc.array(value, { maxLength: 200 }), (y) => {
      const lines = textPlot(
        y.map((_, index) => index),
        y,
        SIZE,
      );
      const known = y.filter(Number.isFinite).length;
      if (known < 2) {
        expect(lines).toEqual([]);
        return;
      }
      expect(lines).toHaveLength(SIZE.height + 1);
      for (const line of lines.slice(0, -1)) expect(line).toHaveLength(SIZE.width);
      const dots = lines
        .slice(0, -1)
        .join('')
        .match(/[\u2801-\u28ff]/g);
      expect(dots?.length).toBeGreaterThan(0);
    }),
  );
});

test('a flat line is drawn in the middle', () => {
  const lines = textPlot([1, 2, 3], [5, 5, 5], SIZE);
  expect(lines[0]).toMatch(/^5\.00 ┤\u2800+$/);
  expect(lines[1]).toMatch(/[\u2801-\u28ff]/);
});
