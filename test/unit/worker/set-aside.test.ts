/** Gradients that wait for a lagging replica: copies, a bounded number, memory that serves again. */
import { describe, expect, test } from 'vitest';
import { SetAside } from '../../../src/worker/set-aside.ts';

const shared = (floats: number) => ({
  reduced: new Float32Array(new SharedArrayBuffer(floats * 4)),
  blockSums: new Float64Array(new SharedArrayBuffer(8)),
});

describe('gradients that are set aside', () => {
  test('are copies: the next step is reduced into the place they came from', () => {
    const source = shared(4);
    const aside = new SetAside(source);
    for (const step of [1, 2]) {
      source.reduced.fill(step);
      source.blockSums.fill(4 * step * step);
      aside.add(step);
    }
    source.reduced.fill(9);
    source.blockSums.fill(9);
    for (const step of [1, 2]) {
      const { reduced, blockSums } = aside.get(step);
      expect([...reduced]).toEqual(new Array(4).fill(step));
      expect([...blockSums]).toEqual([4 * step * step]);
      // The compute thread reads them.
      expect(reduced.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect(blockSums.buffer).toBeInstanceOf(SharedArrayBuffer);
    }
  });

  test('are gone when they are released; their memory takes the next one', () => {
    const source = shared(4);
    const aside = new SetAside(source);
    aside.add(1);
    const { buffer } = aside.get(1).reduced;
    aside.release(1);
    aside.release(1);
    expect(() => aside.get(1)).toThrow('step 1 is set aside');
    aside.add(2);
    expect(aside.get(2).reduced.buffer).toBe(buffer);
  });

  test('stay as far as they are asked for', () => {
    const aside = new SetAside(shared(4));
    for (const step of [3, 4, 5]) aside.add(step);
    aside.keep([4]);
    expect(() => aside.get(3)).toThrow();
    expect(aside.get(4)).toBeDefined();
    expect(() => aside.get(5)).toThrow();
    aside.keep([]);
    expect(() => aside.get(4)).toThrow();
  });

  test('are two at least, and no more than the memory meant for them holds', () => {
    // Of a quarter of a GiB and of eight; only their length is looked at.
    const large = { reduced: { byteLength: 2 ** 28 } as Float32Array, blockSums: new Float64Array(1) };
    expect(new SetAside(large).capacity).toBe(4);
    const huge = { reduced: { byteLength: 2 ** 33 } as Float32Array, blockSums: new Float64Array(1) };
    expect(new SetAside(huge).capacity).toBe(2);
  });
});
