/** Layout, errors and assertions: the small things everything else stands on. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  assert,
  InvariantError,
  LockstepError,
  layoutOf,
  layoutSize,
  messageOf,
  silentLogger,
  systemCodeOf,
  unreachable,
} from '../../../src/base/index.ts';

describe('layoutOf', () => {
  const tensors = fc.array(
    fc.record({
      name: fc.string({ minLength: 1 }),
      shape: fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 4 }),
    }),
    { maxLength: 12 },
  );

  test('lays tensors end to end in the order given', () => {
    fc.assert(
      fc.property(tensors, (given) => {
        const layout = layoutOf(given);
        let end = 0;
        layout.forEach(({ name, shape, offset, size }, index) => {
          expect({ name, shape }).toEqual(given[index]);
          expect(offset).toBe(end);
          expect(size).toBe(shape.reduce((product, side) => product * side, 1));
          end += size;
        });
        expect(layout).toHaveLength(given.length);
        expect(layoutSize(layout)).toBe(end);
      }),
    );
  });

  test('a scalar takes one float, an empty layout none', () => {
    expect(layoutOf([{ name: 'scale', shape: [] }])).toEqual([
      { name: 'scale', shape: [], offset: 0, size: 1 },
    ]);
    expect(layoutSize([])).toBe(0);
  });
});

describe('errors', () => {
  test('carry code, context and cause', () => {
    const cause = new Error('disk');
    const error = new LockstepError('DISK_FULL', 'x: full', { context: { file: 'x' }, cause });
    expect(error).toMatchObject({ name: 'LockstepError', code: 'DISK_FULL', context: { file: 'x' }, cause });
    expect(new LockstepError('DISK_FULL', 'x')).not.toHaveProperty('cause');
  });

  test('texts and system codes are had of whatever was thrown', () => {
    expect(messageOf(new Error('text'))).toBe('text');
    expect(messageOf('thrown text')).toBe('thrown text');
    expect(messageOf(undefined)).toBe('undefined');
    // JSON.parse quotes what it was given.
    expect(messageOf(new SyntaxError('near "a\n\u0000b"'))).toBe('near "a b"');
    expect(systemCodeOf(Object.assign(new Error('gone'), { code: 'ENOENT' }))).toBe('ENOENT');
    expect(systemCodeOf(Object.assign(new Error('odd'), { code: 7 }))).toBeNull();
    expect(systemCodeOf({ code: 'ENOENT' })).toBeNull();
    expect(systemCodeOf(null)).toBeNull();
  });

  test('a broken invariant is no LockstepError: it is nobody’s mistake but ours', () => {
    expect(() => assert(false, 'slots add up')).toThrow(InvariantError);
    expect(() => assert(0, 'slots add up')).toThrow('invariant broken: slots add up');
    expect(() => assert('yes', 'never shown')).not.toThrow();
    expect(() => unreachable({ phase: 'odd' } as never)).toThrow('unreachable case: {"phase":"odd"}');
  });

  test('the silent logger keeps silent through its children', () => {
    const child = silentLogger.child({ run: 'r' });
    for (const level of ['debug', 'info', 'warn', 'error'] as const)
      expect(child[level]('event')).toBeUndefined();
  });
});
