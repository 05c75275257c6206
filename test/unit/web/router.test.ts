/** Addresses within the page: what is written is read back, and nonsense leads to the overview. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { addressOf, placeOf } from '../../../web/router.ts';

it('an address leads to the place it was made for', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ minLength: 1, unit: 'grapheme' }), { minLength: 1, maxLength: 4 }),
      (parts) => {
        const [name = '', ...rest] = parts;
        expect(placeOf(addressOf(name, ...rest))).toEqual({ name, rest });
      },
    ),
  );
});

it('no address, or an unreadable one, is the overview', () => {
  for (const hash of ['', '#', '#/', '#/%E0%A4%A'])
    expect(placeOf(hash)).toEqual({ name: 'overview', rest: [] });
});
