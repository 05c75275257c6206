/** What stands between tokens and the text that a person reads. */
import { describe, expect, test } from 'vitest';
import {
  GENERATION_DEFAULTS,
  generationDefaults,
  generationOptionsSchema,
  removeRepeats,
  tokenTexts,
} from '../../../src/generation/index.ts';

describe('removeRepeats', () => {
  test('keeps one of consecutive equal words, exactly and with case', () => {
    expect(removeRepeats('the the old old old town')).toBe('the old town');
    expect(removeRepeats('The the old town old')).toBe('The the old town old');
    expect(removeRepeats('town town. town.')).toBe('town town.');
  });

  test('leaves the white space between the words that stay', () => {
    expect(removeRepeats(' a  a\n b')).toBe(' a\n b');
    expect(removeRepeats('')).toBe('');
    expect(removeRepeats('a b')).toBe('a b');
  });
});

describe('tokenTexts', () => {
  test('shows a character with the token that completes its bytes', () => {
    const bytes = [...Buffer.from('é!')];
    const decode = (ids: ArrayLike<number>) => Buffer.from(Array.from(ids)).toString('utf8');
    expect(tokenTexts({ decode }, bytes)).toEqual(['', 'é', '!']);
    expect(tokenTexts({ decode }, bytes.slice(0, 1))).toEqual(['\ufffd']);
  });
});

describe('options', () => {
  test('leave early by default only where a model has learned to', () => {
    expect(generationDefaults('lplm')).toEqual(GENERATION_DEFAULTS);
    expect(generationDefaults('lastLayer').exit).toBe('full');
    expect(generationDefaults('soft').exit).toBe('soft');
    expect(generationDefaults('autoregressive').exit).toBe('full');
  });

  test('are checked one by one, and unknown ones refused', () => {
    const parse = (more: object) =>
      generationOptionsSchema.safeParse({ ...GENERATION_DEFAULTS, ...more }).success;
    expect(parse({})).toBe(true);
    for (const bad of [{ threshold: -1 }, { beams: 0 }, { exit: 'none' }, { targetLength: 0 }, { top: 1 }]) {
      expect(parse(bad)).toBe(false);
    }
  });
});
