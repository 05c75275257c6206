/** The model of a step's time: its limits, where the answer is known without it. */
import { describe, expect, test } from 'vitest';
import { type Constants, type Network, speedup, stepTime } from '../../../src/bench/scaling-model.ts';

const constants: Constants = {
  slotMs: 100,
  microBatches: 64,
  numParameters: 25e6,
  memory: { messageMs: 0, byteMs: 0 },
  sockets: { messageMs: 0, byteMs: 0 },
  pieceBytes: 2 ** 20,
  commitMs: 0,
  memberMs: 0,
  updateMs: 0,
};
const network: Network = { name: 'a million bytes per ms', bytesPerMs: 1e6, latencyMs: 0 };
const flat = (numWorkers: number, workersPerHost = 1) => ({ numWorkers, workersPerHost, twoLevels: false });

describe('the model of a step', () => {
  test('of one worker is its compute and what it pays alone', () => {
    const { total, exchange, messages } = stepTime(constants, network, flat(1));
    expect([total, exchange, messages]).toEqual([6400, 0, 0]);
  });

  test('sends twice the vector but for an N-th through each link', () => {
    expect(stepTime(constants, network, flat(4)).exchange).toBeCloseTo((1.5 * 100e6) / 1e6);
    // Two workers share a link.
    expect(stepTime(constants, network, flat(4, 2)).exchange).toBeCloseTo((2 * 1.5 * 100e6) / 1e6);
  });

  test('counts two messages per peer at least, however small the shards are', () => {
    expect(stepTime(constants, network, flat(1024)).messages).toBe(2 * 1023);
    expect(stepTime({ ...constants, numParameters: 2 ** 20 }, network, flat(2)).messages).toBe(2 * 2);
  });

  test('gains by two levels where workers share a link, and nothing where they do not', () => {
    const twoLevels = { numWorkers: 64, workersPerHost: 8, twoLevels: true };
    const ratio =
      stepTime(constants, network, flat(64, 8)).exchange / stepTime(constants, network, twoLevels).exchange;
    // 8 workers' vectors through each link against one.
    expect(ratio).toBeCloseTo((8 * (63 / 64)) / (7 / 8));
    const apart = { numWorkers: 64, workersPerHost: 1, twoLevels: true };
    expect(stepTime(constants, network, apart).exchange).toBeCloseTo(
      stepTime(constants, network, flat(64)).exchange,
    );
  });

  test('never gains more than the number of workers, nor from more workers than micro-batches', () => {
    for (const numWorkers of [1, 2, 3, 8, 64]) {
      expect(speedup(constants, network, flat(numWorkers))).toBeLessThanOrEqual(numWorkers);
    }
    expect(speedup(constants, network, flat(128))).toBeLessThan(speedup(constants, network, flat(64)));
  });
});
