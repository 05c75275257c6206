/** How the dashboard writes numbers: units at their borders, what is unknown, and that nothing grows out of its cell. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatAge,
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  formatRate,
  formatShare,
  formatShort,
  formatTime,
  plural,
  UNKNOWN,
} from '../../../web/format.ts';

describe('a number', () => {
  it.each([
    [0, '0'],
    [12, '12'],
    [6.5432, '6.54'],
    [950.4, '950'],
    [999.6, '1.00k'],
    [4042, '4.04k'],
    [99_951, '100k'],
    [999_600, '1.00M'],
    [12_345_678, '12.3M'],
  ])('of %d is written %s', (value, text) => {
    expect(formatShort(value)).toBe(text);
  });

  it('takes at most five characters up to a thousand million million', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 9.99e14, noNaN: true }), (value) => {
        expect(formatShort(value).length).toBeLessThanOrEqual(5);
      }),
    );
  });

  it('that is unknown is a dash and not 0, whatever it counts', () => {
    const formats = [formatCount, formatShort, formatLoss, formatRate, formatShare, formatBytes];
    for (const format of [...formats, formatDuration, formatAge]) {
      expect(format(null)).toBe(UNKNOWN);
      expect(format(Number.NaN)).toBe(UNKNOWN);
    }
  });
});

describe('a share', () => {
  it('is not rounded up to all', () => {
    expect(formatShare(0.9999)).toBe('99.9 %');
    expect(formatShare(1)).toBe('100 %');
    expect(formatShare(0.034)).toBe('3.4 %');
    expect(formatShare(0)).toBe('0 %');
  });
});

describe('a span of time', () => {
  it.each([
    [0, '0 ms'],
    [999.4, '999 ms'],
    [999.6, '1.0 s'],
    [9_949, '9.9 s'],
    [9_951, '10 s'],
    [59_400, '59 s'],
    [59_600, '1 min'],
    [185_000, '3 min 5 s'],
    [3_599_700, '1 h'],
    [8_040_000, '2 h 14 min'],
    [273_600_000, '3 d 4 h'],
  ])('of %d ms is written %s', (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text);
  });

  it('never shows sixty of a unit', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e10, noNaN: true }), (milliseconds) => {
        expect(formatDuration(milliseconds)).not.toMatch(/\b60 (?:s|min)|\b24 h|1000 ms|\b0 (?:s|min|h)\b/);
      }),
    );
  });

  it('ago is in one unit', () => {
    expect(formatAge(-50)).toBe('now');
    expect(formatAge(59_999)).toBe('59 s ago');
    expect(formatAge(60_000)).toBe('1 min ago');
    expect(formatAge(26 * 3_600_000)).toBe('1 d ago');
  });
});

describe('bytes', () => {
  it('change their unit before they take four digits', () => {
    expect(formatBytes(1023)).toBe('1023 B');
    expect(formatBytes(1024)).toBe('1.00 KiB');
    expect(formatBytes(1023.6 * 1024)).toBe('1.00 MiB');
    expect(formatBytes(1.5 * 1024 ** 3)).toBe('1.50 GiB');
  });
});

describe('a time of day', () => {
  const now = new Date('2026-03-14T15:09:26');
  it('has its date only on another day', () => {
    expect(formatTime(Date.parse('2026-03-14T08:05:09'), now)).toBe('08:05:09');
    expect(formatTime(Date.parse('2026-03-13T08:05:09'), now)).toBe('Mar 13, 08:05');
    expect(formatTime(null, now)).toBe(UNKNOWN);
  });
});

it('a noun has its plural', () => {
  expect(plural(1, 'worker')).toBe('1 worker');
  expect(plural(0, 'worker')).toBe('0 workers');
  expect(plural(1234, 'step')).toBe('1,234 steps');
});
