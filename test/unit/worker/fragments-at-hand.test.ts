/** A reduction begins when all fragments are in memory, not before, and not for an order that was taken back. */
import { describe, expect, test } from 'vitest';
import { FragmentsAtHand } from '../../../src/worker/fragments-at-hand.ts';

const fragment = (first: number, count: number) => ({ first, count, value: new Float32Array(1) });

describe('FragmentsAtHand', () => {
  test('begins at once when nothing is on the device', () => {
    const held = new FragmentsAtHand();
    const begun: unknown[] = [];
    held.whenHome((fragments) => begun.push(fragments));
    held.take([fragment(0, 2)], false);
    held.whenHome((fragments) => begun.push(fragments));
    expect(begun).toEqual([[], [fragment(0, 2)]]);
  });

  test('waits for what is on the device, begins once, and with all of it', () => {
    const held = new FragmentsAtHand();
    const begun: unknown[] = [];
    held.take([fragment(0, 2)], true);
    held.whenHome((fragments) => begun.push(fragments));
    held.take([fragment(0, 2)], true);
    expect(begun).toEqual([]);
    held.take([fragment(0, 4)], false);
    held.take([fragment(0, 4)], false);
    expect(begun).toEqual([[fragment(0, 4)]]);
  });

  test('does not begin what was called off or overtaken by another order', () => {
    const held = new FragmentsAtHand();
    const begun: string[] = [];
    held.take([], true);
    held.whenHome(() => begun.push('first'));
    held.whenHome(() => begun.push('second'));
    held.take([fragment(0, 1)], false);
    expect(begun).toEqual(['second']);
    held.take([], true);
    held.whenHome(() => begun.push('third'));
    held.cancel();
    held.take([fragment(0, 1)], false);
    held.take([], true);
    held.whenHome(() => begun.push('fourth'));
    held.forget();
    held.take([], false);
    expect(begun).toEqual(['second']);
  });

  test('has nothing to reduce after the step is over', () => {
    const held = new FragmentsAtHand();
    held.take([fragment(0, 1)], false);
    held.forget();
    const begun: unknown[] = [];
    held.whenHome((fragments) => begun.push(fragments));
    expect(begun).toEqual([[]]);
  });
});
