/** The kernels of the reduction against their JavaScript twins, to the bit, and the properties they promise. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GRADIENT_PRECISIONS } from '../../../src/config/index.ts';
import { BLOCK_FLOATS, createKernels, numBlocks, type SumTree } from '../../../src/kernels/index.ts';
import { bitsOf, emptyFloats, firstDifference, randomFloats } from '../../support/floats.ts';
import { KERNEL_LENGTHS, placements } from '../../support/kernel-arguments.ts';
import { addFlushTwin, digestTwin, flushIntoTwin, sumOfSquaresTwin } from '../../support/kernel-twins.ts';

const kernels = createKernels();
const kernelsOf = { float32: kernels, bfloat16: createKernels('bfloat16') };

const upperHalvesOf = (values: Float32Array) => Uint16Array.from(bitsOf(values), (word) => word >>> 16);

function blocksOf(data: Float32Array): Float32Array[] {
  return Array.from({ length: numBlocks(data.length) }, (_, block) =>
    data.subarray(block * BLOCK_FLOATS, (block + 1) * BLOCK_FLOATS),
  );
}

describe('addLeaf', () => {
  test.each(GRADIENT_PRECISIONS)(
    'flushes the leaf and adds the sums as their twins do, in %s',
    (precision) => {
      fc.assert(
        fc.property(placements, fc.nat(3), ({ length, seed, ...options }, numSums) => {
          const leaf = randomFloats(length, seed, options);
          const sums = Array.from({ length: numSums }, (_, index) =>
            randomFloats(length, seed + 1 + index, { ...options, offset: 3 - options.offset }),
          );
          const expected = emptyFloats(length);
          flushIntoTwin(expected, leaf, precision);
          const allFinite = expected.every(Number.isFinite);
          for (const sum of sums) addFlushTwin(expected, expected.slice(), sum, precision);
          expect(kernelsOf[precision].addLeaf(leaf, sums)).toBe(allFinite);
          expect(firstDifference(leaf, expected)).toBeNull();
        }),
      );
    },
  );

  test.each([
    ['float32', Infinity, false],
    ['float32', Number.NaN, false],
    ['float32', -(2 ** 127), true],
    ['bfloat16', Number.NaN, false],
    ['bfloat16', 2 ** 128 * (1 - 2 ** -24), false],
  ] as const)(
    'in %s, %d anywhere in a leaf decides whether it is finite: %s',
    (precision, value, allFinite) => {
      for (const length of [1, 5, 16_385]) {
        for (const place of [0, length - 1]) {
          const leaf = new Float32Array(length);
          leaf[place] = value;
          expect(kernelsOf[precision].addLeaf(leaf, [])).toBe(allFinite);
        }
      }
    },
  );

  test('says of the leaf alone whether it is finite, and writes nothing beside it', () => {
    const buffer = new Float32Array(12).fill(7);
    expect(kernels.addLeaf(buffer.subarray(4, 7), [new Float32Array(3).fill(Infinity)])).toBe(true);
    expect([...buffer]).toEqual([7, 7, 7, 7, Infinity, Infinity, Infinity, 7, 7, 7, 7, 7]);
  });
});

describe('rounding to bfloat16', () => {
  const kernels = kernelsOf.bfloat16;
  /** Every bfloat16: NaNs, infinities, denormals and zeros of both signs among them. */
  const all = new Float32Array(Uint32Array.from({ length: 2 ** 16 }, (_, upper) => upper << 16).buffer);
  const floatsOf = (bits: Uint32Array) => new Float32Array(bits.slice().buffer);
  const expectRounded = (bits: Uint32Array, expected: Uint32Array): void => {
    const values = floatsOf(bits);
    kernels.addLeaf(values, []);
    expect(firstDifference(values, floatsOf(expected))).toBeNull();
  };

  test('keeps each value that is one, but for denormals, -0 and the NaNs', () => {
    const expected = Uint32Array.from(bitsOf(all), (word, index) => {
      if (Number.isNaN(all[index])) return 0x7fc00000;
      return Math.abs(all[index]!) < 2 ** -126 ? 0 : word;
    });
    expectRounded(bitsOf(all), expected);
  });

  test.each([
    ['just above one', 0x0001, 0],
    ['just below the middle', 0x7fff, 0],
    ['in the middle', 0x8000, null],
    ['just above the middle', 0x8001, 1],
    ['just below the next', 0xffff, 1],
  ])('takes what lies %s to the nearest, and from the middle to the even', (_, lower, up) => {
    // Normal numbers of both signs; the largest ones go to infinity.
    const uppers = Uint32Array.from({ length: 2 ** 16 }, (__, upper) => upper).filter(
      (upper) => (upper & 0x7fff) >= 0x80 && (upper & 0x7fff) < 0x7f80,
    );
    const expected = uppers.map((upper) => (upper + (up ?? upper % 2)) << 16);
    expectRounded(
      uppers.map((upper) => (upper << 16) | lower),
      expected,
    );
  });

  test('makes a sum that is too large for it infinite, which the sum of squares shows', () => {
    const largest = new Float32Array(new Uint32Array([0x7f7fffff]).buffer);
    expect(kernels.addLeaf(largest, [])).toBe(false);
    expect(largest[0]).toBe(Infinity);
    const sum = Float32Array.of(-(2 ** 127));
    kernels.addFlush(sum, sum, Float32Array.of(-(2 ** 127 * (1 - 2 ** -9))));
    const squares = new Float64Array(1);
    kernels.sumOfSquares(sum, squares, 0);
    expect([sum[0], Number.isFinite(squares[0])]).toEqual([-Infinity, false]);
  });
});

describe('addFlush', () => {
  test.each(GRADIENT_PRECISIONS)('equals its twin in %s, also in place', (precision) => {
    fc.assert(
      fc.property(
        placements,
        fc.constantFrom('apart', 'left', 'right'),
        ({ length, seed, ...options }, aliased) => {
          const left = randomFloats(length, seed, options);
          const right = randomFloats(length, seed + 1, { ...options, offset: 3 - options.offset });
          const expected = emptyFloats(length);
          addFlushTwin(expected, left, right, precision);
          const target = { apart: emptyFloats(length, options), left, right }[aliased];
          kernelsOf[precision].addFlush(target, left, right);
          expect(firstDifference(target, expected)).toBeNull();
        },
      ),
    );
  });

  test('doubles a vector that is both operands and the target', () => {
    const data = Float32Array.of(1, 2, 3, 4, 5);
    kernels.addFlush(data, data, data);
    expect([...data]).toEqual([2, 4, 6, 8, 10]);
  });

  test('flushes a difference below the smallest normal number, and a sum of negative zeros', () => {
    const left = Float32Array.of(1.5 * 2 ** -126, -0, 2 ** -126);
    const right = Float32Array.of(-(2 ** -126), -0, 0);
    kernels.addFlush(left, left, right);
    expect([...bitsOf(left)]).toEqual([0, 0, 0x00800000]);
  });

  test('refuses unequal lengths and operands that overlap in part', () => {
    const data = new Float32Array(20);
    expect(() => kernels.addFlush(data, data, new Float32Array(19))).toThrow('operands of 20 and 19 floats');
    expect(() => kernels.addFlush(data.subarray(1, 11), data.subarray(0, 10), data.subarray(0, 10))).toThrow(
      'overlap in part',
    );
    expect(() =>
      kernels.addFlush(data.subarray(10, 20), data.subarray(0, 10), data.subarray(0, 10)),
    ).not.toThrow();
  });
});

describe('digestBlocks', () => {
  const digestOf = (block: Float32Array): bigint => {
    const digests = new BigUint64Array(1);
    kernels.digestBlocks(block, digests, 0);
    return digests[0]!;
  };

  test('equals its twin', () => {
    for (const length of KERNEL_LENGTHS) {
      const data = randomFloats(length, length, { specials: 0.1, offset: length % 4, shared: true });
      const digests = new BigUint64Array(numBlocks(length) + 2);
      kernels.digestBlocks(data, digests, 1);
      expect([...digests]).toEqual([0n, ...blocksOf(data).map(digestTwin), 0n]);
    }
  });

  test('changes with any one bit of a short block', () => {
    const block = randomFloats(13, 1);
    const seen = new Set([digestOf(block)]);
    for (let bit = 0; bit < 13 * 32; bit += 1) {
      bitsOf(block)[bit >> 5]! ^= 1 << (bit & 31);
      seen.add(digestOf(block));
      bitsOf(block)[bit >> 5]! ^= 1 << (bit & 31);
    }
    expect(seen.size).toBe(13 * 32 + 1);
  });

  test('changes with any one bit, anywhere in a block', () => {
    const block = randomFloats(BLOCK_FLOATS, 2);
    const digest = digestOf(block);
    fc.assert(
      fc.property(fc.nat(BLOCK_FLOATS - 1), fc.nat(31), (index, bit) => {
        const changed = block.slice();
        bitsOf(changed)[index]! ^= 1 << bit;
        expect(digestOf(changed)).not.toBe(digest);
      }),
      { numRuns: 500 },
    );
  });

  test('tells +0 from -0, lengths of zeros apart, and the order of elements', () => {
    const zeros = [1, 2, 7, 8, 9, 16, 4095, 4096].map((length) => digestOf(new Float32Array(length)));
    expect(new Set(zeros).size).toBe(zeros.length);
    expect(digestOf(Float32Array.of(-0))).not.toBe(digestOf(Float32Array.of(0)));
    expect(digestOf(Float32Array.of(1, 2, 3))).not.toBe(digestOf(Float32Array.of(2, 1, 3)));
    // Eight floats on is the same lane.
    const apart = new Float32Array(16);
    const swapped = new Float32Array(16);
    apart[0] = 1;
    swapped[8] = 1;
    expect(digestOf(apart)).not.toBe(digestOf(swapped));
  });

  test('keeps its value from one version to the next', () => {
    const ramp = Float32Array.from({ length: 100 }, (_, index) => index / 8);
    expect(digestOf(ramp).toString(16)).toBe('12909f0fb12fd6ff');
  });

  test('refuses results that do not fit', () => {
    expect(() => kernels.digestBlocks(new Float32Array(4097), new BigUint64Array(2), 1)).toThrow(
      '2 blocks for 1 results',
    );
  });
});

describe('sumOfSquares', () => {
  test('equals its twin', () => {
    for (const length of KERNEL_LENGTHS) {
      const data = randomFloats(length, length, { offset: length % 4, shared: length % 2 === 0 });
      const sums = new Float64Array(numBlocks(length) + 1);
      kernels.sumOfSquares(data, sums, 1);
      expect([...sums]).toEqual([0, ...blocksOf(data).map(sumOfSquaresTwin)]);
    }
  });

  test('is not finite when an element is not, wherever it stands, in that block only', () => {
    fc.assert(
      fc.property(fc.nat(9999), fc.constantFrom(Infinity, -Infinity, NaN), (index, value) => {
        const data = randomFloats(10_000, 3);
        data[index] = value;
        const sums = new Float64Array(3);
        kernels.sumOfSquares(data, sums, 0);
        const hit = Math.floor(index / BLOCK_FLOATS);
        expect([...sums].map((sum) => Number.isFinite(sum))).toEqual([0, 1, 2].map((block) => block !== hit));
      }),
    );
  });

  test('neither overflows nor vanishes at the ends of the float32 range', () => {
    const sums = new Float64Array(1);
    kernels.sumOfSquares(new Float32Array(4096).fill(2 ** 127), sums, 0);
    expect(sums[0]).toBe(2 ** 266);
    kernels.sumOfSquares(Float32Array.of(2 ** -149), sums, 0);
    expect(sums[0]).toBe(2 ** -298);
  });
});

describe('sumTree', () => {
  test.each([
    ['float32', 0],
    ['bfloat16', 0],
    ['bfloat16', 3],
  ] as const)(
    'equals its twins in %s added up one after the other, the first %i packed, wherever they are',
    (precision, numPacked) => {
      const kernels = kernelsOf[precision];
      fc.assert(
        fc.property(placements, fc.integer({ min: 1, max: 6 }), (placed, numLeaves) => {
          const { length, seed, ...options } = placed;
          const leaves = Array.from({ length: numLeaves }, (_, index) => {
            const raw = randomFloats(length, seed + index, options);
            const leaf = emptyFloats(length, options);
            flushIntoTwin(leaf, raw, precision);
            return leaf;
          });
          const treeFor = (operands: readonly SumTree[]): SumTree => {
            if (operands.length === 1) return operands[0]!;
            const half = Math.ceil(operands.length / 2);
            return { left: treeFor(operands.slice(0, half)), right: treeFor(operands.slice(half)) };
          };
          const sumOf = (operands: readonly Float32Array[]): Float32Array => {
            if (operands.length === 1) return operands[0]!;
            const half = Math.ceil(operands.length / 2);
            const sum = emptyFloats(length);
            addFlushTwin(sum, sumOf(operands.slice(0, half)), sumOf(operands.slice(half)), precision);
            return sum;
          };
          const expected = sumOf(leaves);
          const digestsOf = (data: Float32Array) => BigUint64Array.from(blocksOf(data), digestTwin);
          const taken = leaves.map(() => new BigUint64Array(numBlocks(length)));
          const target = emptyFloats(length, options);
          const [blockDigests, blockSums] = [
            new BigUint64Array(numBlocks(length) + 1),
            new Float64Array(numBlocks(length) + 1),
          ];
          const operands = leaves.map((leaf, index) => ({
            source: index < numPacked ? upperHalvesOf(leaf) : leaf,
            blockDigests: taken[index]!,
          }));
          const measures = { blockDigests, blockSums, firstBlock: 1 };
          if (numPacked === 0) kernels.sumTree(treeFor(operands), target, measures);
          else {
            const packed = new Uint16Array(length + 2).fill(7).subarray(1, length + 1);
            kernels.sumTree(treeFor(operands), packed, measures);
            expect([...new Uint16Array(packed.buffer)].filter((_, at) => at === 0 || at > length)).toEqual([
              7, 7,
            ]);
            bitsOf(target).set(Uint32Array.from(packed, (half) => half << 16));
          }
          expect(firstDifference(target, expected)).toBeNull();
          expect(taken).toEqual(leaves.map(digestsOf));
          expect(blockDigests.subarray(1)).toEqual(digestsOf(expected));
          expect(blockSums.subarray(1)).toEqual(Float64Array.from(blocksOf(expected), sumOfSquaresTwin));
        }),
      );
    },
  );

  test('may write over one of its operands', () => {
    const data = Float32Array.of(1, 2, 3);
    const leaf = { source: data, blockDigests: null };
    kernels.sumTree({ left: leaf, right: { left: leaf, right: leaf } }, data, null);
    expect([...data]).toEqual([3, 6, 9]);
  });
});
