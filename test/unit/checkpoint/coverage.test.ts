import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../src/base/index.ts';
import { Coverage } from '../../../src/checkpoint/coverage.ts';
import { NaiveCoverage } from '../../support/naive-checkpoint.ts';

function accepts(coverage: Coverage, first: number, count: number): boolean {
  try {
    coverage.add({ first, count, checksum: 0 });
    return true;
  } catch (error) {
    if (error instanceof InvariantError) return false;
    throw error;
  }
}

describe('Coverage', () => {
  it('agrees with one mark per float', () => {
    const ranges = fc.array(fc.tuple(fc.integer({ min: -2, max: 32 }), fc.integer({ min: -1, max: 9 })));
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 30 }), ranges, (size, added) => {
        const coverage = new Coverage(size);
        const naive = new NaiveCoverage(size);
        for (const [first, count] of added) {
          expect(accepts(coverage, first, count)).toBe(naive.add(first, count));
          expect(coverage.firstMissing()).toEqual(naive.firstMissing());
        }
      }),
    );
  });

  it('refuses parts of floats', () => {
    expect(accepts(new Coverage(8), 0, 1.5)).toBe(false);
    expect(accepts(new Coverage(8), 0.5, 1)).toBe(false);
    expect(accepts(new Coverage(8), Number.NaN, 1)).toBe(false);
  });

  it('gives its ranges in vector order, each with its own checksum', () => {
    const coverage = new Coverage(6);
    coverage.add({ first: 4, count: 2, checksum: 3 });
    coverage.add({ first: 0, count: 1, checksum: 1 });
    coverage.add({ first: 1, count: 3, checksum: 2 });
    expect(coverage.ranges().map(({ checksum }) => checksum)).toEqual([1, 2, 3]);
  });
});
