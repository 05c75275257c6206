import { describe, expect, it } from 'vitest';
import { SteadyClock } from '../../../src/base/index.ts';

describe('a steady clock', () => {
  it('runs with the real one while ticks come in time', () => {
    const clock = new SteadyClock(100, 5000);
    expect(clock.tick(5100)).toBe(100);
    expect(clock.tick(5290)).toBe(290);
  });

  it('counts at most two intervals for a time in which the process slept', () => {
    const clock = new SteadyClock(100, 0);
    expect(clock.tick(60_000)).toBe(200);
    expect(clock.tick(60_100)).toBe(300);
    clock.changeInterval(1000);
    expect(clock.tick(120_000)).toBe(2300);
  });
});
