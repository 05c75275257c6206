/** Kernels on several threads give the bits of one, whoever does which part; a helper that fails is an error, no wait. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker as Thread } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { GRADIENT_PRECISIONS, type GradientPrecision } from '../../../src/config/index.ts';
import { CallBoard, PART_FLOATS } from '../../../src/kernels/call-board.ts';
import {
  adamwScalars,
  BLOCK_FLOATS,
  createKernels,
  HostThreads,
  type Kernels,
  numBlocks,
  type SumTree,
  usefulHostThreads,
} from '../../../src/kernels/index.ts';
import { doPart, type KernelCall } from '../../../src/kernels/kernel-call.ts';
import { createWasmKernels } from '../../../src/kernels/wasm-kernels.ts';
import { rawOf } from '../../../src/memory/index.ts';
import { emptyFloats, firstDifference, randomFloats } from '../../support/floats.ts';
import { BUILT } from '../../support/in-process.ts';

const KEY = { seed: 2 ** 40 + 7, stream: 'dropout', substream: 3, step: 12, slot: 5 } as const;
/** The shortest vector that is shared. */
const LONG = 4 * PART_FLOATS;
const RUNS = { numRuns: 12 };
const trouble = (reason: string) => {
  throw new Error(reason);
};

const threads = new HostThreads(3, trouble);
const shared = threads.shared!;
afterAll(() => threads.close());

const bothOf = (precision: GradientPrecision) => ({
  one: createKernels(precision),
  several: createKernels(precision, shared),
});

interface Place {
  readonly length: number;
  readonly seed: number;
  /** Of the vector in its buffer, in floats. */
  readonly offset: number;
  readonly shared: boolean;
}

const places = fc.record({
  length: fc.oneof(
    // About the ends of parts, staging pieces, blocks and vectors.
    fc
      .tuple(fc.constantFrom(0, 1, 4), fc.constantFrom(-1, 0, 1, 5, 4095, 4096, 4097, 16_385))
      .map(([parts, more]) => LONG + parts * PART_FLOATS + more),
    fc.nat(LONG).map((more) => LONG + more),
  ),
  offset: fc.nat(3),
  shared: fc.boolean(),
  seed: fc.nat(1000),
});

/** To draw them anew for each case would take most of the time. */
const POOL = randomFloats(3 * LONG, 1, { specials: 0.1 });

/** The `which`th vector of a case, equal however often it is asked for. */
function vectorOf({ length, seed, ...options }: Place, which: number): Float32Array {
  const vector = emptyFloats(length, options);
  const at = (seed * 131 + which * 7919) % (POOL.length - length);
  vector.set(POOL.subarray(at, at + length));
  return vector;
}

/** What a kernel leaves in equal vectors, and what else it gives, does not depend on the threads. */
function expectSame(
  { one, several }: { readonly one: Kernels; readonly several: Kernels },
  run: (kernels: Kernels) => { readonly vectors: readonly Float32Array[]; readonly results: unknown },
): void {
  const [expected, actual] = [run(one), run(several)];
  expect(actual.results).toEqual(expected.results);
  for (const [index, vector] of actual.vectors.entries()) {
    expect(firstDifference(vector, expected.vectors[index]!)).toBeNull();
  }
}

describe('several threads give the bits of one', () => {
  test.each(GRADIENT_PRECISIONS)('for a leaf and the sums that it completes, in %s', (precision) => {
    fc.assert(
      fc.property(places, fc.nat(2), (place, numSums) => {
        expectSame(bothOf(precision), (kernels) => {
          const leaf = vectorOf(place, 0);
          const sums = Array.from({ length: numSums }, (_, which) => vectorOf(place, which + 1));
          const allFinite = kernels.addLeaf(leaf, sums);
          return { vectors: [leaf, ...sums], results: allFinite };
        });
      }),
      RUNS,
    );
  });

  test('for the one value of a leaf that is not finite, in whichever part', () => {
    const { several } = bothOf('float32');
    const leaf = new Float32Array(LONG + 5);
    expect(several.addLeaf(leaf, [])).toBe(true);
    for (const place of [0, PART_FLOATS, LONG + 4]) {
      leaf[place] = Number.NaN;
      expect(several.addLeaf(leaf, [])).toBe(false);
      leaf[place] = 0;
    }
    expect(several.addLeaf(leaf, [])).toBe(true);
  });

  test.each(GRADIENT_PRECISIONS)('for a sum, also in place, in %s', (precision) => {
    fc.assert(
      fc.property(places, fc.constantFrom('apart', 'left', 'right'), (place, aliased) => {
        expectSame(bothOf(precision), (kernels) => {
          const [left, right] = [vectorOf(place, 0), vectorOf({ ...place, offset: 3 - place.offset }, 1)];
          const target = { apart: emptyFloats(place.length, place), left, right }[aliased];
          kernels.addFlush(target, left, right);
          return { vectors: [target, left, right], results: null };
        });
      }),
      RUNS,
    );
  });

  test.each([
    ['float32', 0],
    ['bfloat16', 2],
  ] as const)(
    'for a tree in %s of which %i leaves are packed, all that is measured, and a target anywhere',
    (precision, numPacked) => {
      const targets = fc.constantFrom('apart', 'packed', 'a leaf', 'none');
      const leafCounts = fc.integer({ min: 1, max: 4 });
      fc.assert(
        fc.property(places, leafCounts, targets, fc.nat(2), (place, numLeaves, where, firstBlock) => {
          const { length } = place;
          const blocks = numBlocks(length);
          expectSame(bothOf(precision), (kernels) => {
            const floats = Array.from({ length: numLeaves }, (_, which) => vectorOf(place, which));
            // A Uint16Array begins at any even byte.
            const halves = floats
              .slice(0, numPacked)
              .map((of) => Uint16Array.from(new Uint16Array(of.buffer, place.offset * 4 + 2, length)));
            const taken = floats.map(() => new BigUint64Array(blocks));
            const leaves = floats.map((source, index) => ({
              source: halves[index] ?? source,
              blockDigests: index % 2 === 0 ? taken[index]! : null,
            }));
            const tree = leaves.reduce<SumTree>(
              (left, right) => (left === right ? left : { left, right }),
              leaves[0]!,
            );
            const packed = new Uint16Array(length + 1).subarray(1);
            const apart = emptyFloats(length, place);
            const target = { apart, packed, 'a leaf': floats.at(-1)!, none: null }[where];
            const blockDigests = new BigUint64Array(blocks + 2);
            const blockSums = new Float64Array(blocks + 2);
            kernels.sumTree(tree, target, { blockDigests, blockSums, firstBlock });
            return {
              vectors: [apart, ...floats],
              results: {
                packed: createHash('sha256').update(packed).digest('hex'),
                taken,
                blockDigests,
                blockSums,
              },
            };
          });
        }),
        RUNS,
      );
    },
  );

  test('for digests and sums of squares by themselves', () => {
    fc.assert(
      fc.property(places, fc.nat(2), (place, firstBlock) => {
        expectSame(bothOf('float32'), (kernels) => {
          const blocks = numBlocks(place.length) + firstBlock;
          const [digests, sums] = [new BigUint64Array(blocks), new Float64Array(blocks)];
          kernels.digestBlocks(vectorOf(place, 0), digests, firstBlock);
          kernels.sumOfSquares(vectorOf(place, 0), sums, firstBlock);
          return { vectors: [], results: { digests, sums } };
        });
      }),
      RUNS,
    );
  });

  test('for AdamW, with the digests and without', () => {
    const optimizer = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.01 };
    const scalars = adamwScalars(optimizer, { step: 3, learningRate: 3e-4, gradientScale: 1 / 37 });
    fc.assert(
      fc.property(places, fc.boolean(), (place, isDigested) => {
        expectSame(bothOf('float32'), (kernels) => {
          const vectors = {
            parameters: vectorOf(place, 0),
            gradient: vectorOf(place, 1),
            firstMoment: vectorOf(place, 2),
            secondMoment: vectorOf(place, 3),
          };
          const digests = isDigested ? new BigUint64Array(numBlocks(place.length)) : null;
          kernels.adamw(vectors, scalars, digests);
          return { vectors: Object.values(vectors), results: digests };
        });
      }),
      RUNS,
    );
  });

  test('for a dropout mask', () => {
    fc.assert(
      fc.property(places, (place) => {
        expectSame(bothOf('float32'), (kernels) => {
          const mask = emptyFloats(place.length, place);
          kernels.dropoutMask(mask, { ...KEY, slot: place.seed }, 0.1);
          return { vectors: [mask], results: null };
        });
      }),
      RUNS,
    );
  });

  test('and refuse what one thread refuses, before anything is written', () => {
    const { several } = bothOf('float32');
    const data = new Float32Array(2 * LONG).fill(1);
    const [head, next] = [data.subarray(0, LONG), data.subarray(1, LONG + 1)];
    const leaf = { source: head, blockDigests: null };
    const measures = {
      blockDigests: new BigUint64Array(LONG / BLOCK_FLOATS),
      blockSums: null,
      firstBlock: 1,
    };
    expect(() => several.addLeaf(head, [next])).toThrow('overlap in part');
    expect(() => several.addFlush(head, head, new Float32Array(LONG + 1))).toThrow('operands of');
    expect(() => several.sumTree(leaf, new Float32Array(LONG - 1), null)).toThrow('as long as the sum');
    expect(() => several.sumTree(leaf, head, measures)).toThrow('64 blocks for 63 results');
    expect(() =>
      several.sumTree({ left: leaf, right: { ...leaf, source: head.subarray(1) } }, head, null),
    ).toThrow('of one length');
    expect(data.every((value) => value === 1)).toBe(true);
  });
});

/** A mask to be filled, as threads tell each other of it. */
function maskCall(target: Float32Array): KernelCall {
  const work = { kernel: 'dropoutMask', target: rawOf(target), key: KEY, rate: 0.5 } as const;
  return { gradientPrecision: 'float32', length: target.length, work };
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

describe('helper threads', () => {
  test('do the parts that their caller does not', async () => {
    const alone = createWasmKernels('float32');
    const expected = new Float32Array(8 * PART_FLOATS + 3);
    alone.dropoutMask(expected, KEY, 0.5);
    const board = new CallBoard(shared);
    // They may take a while to start.
    for (let own = Infinity; own >= 9; await nextTurn()) {
      own = 0;
      const target = new Float32Array(expected.length);
      board.carryOut(maskCall(target), ({ work }, begin, end) => {
        own += 1;
        return doPart(alone, work, begin, end);
      });
      expect(firstDifference(target, expected)).toBeNull();
    }
  });

  test('leave a second caller to itself, and a call that is too long', () => {
    const board = new CallBoard(shared);
    const call = maskCall(new Float32Array(LONG));
    const outcomes: unknown[] = [];
    const own = CallBoard.create();
    own.carryOut(call, () => {
      outcomes.push(new CallBoard(own.shared).carryOut(call, () => true));
      return true;
    });
    expect(outcomes).toEqual([null, null, null, null]);
    const sums = Array.from({ length: 5000 }, () => rawOf(POOL));
    const work = { kernel: 'addLeaf', leaf: rawOf(POOL), sums } as const;
    expect(board.carryOut({ gradientPrecision: 'float32', length: LONG, work }, () => true)).toBeNull();
  });

  test('pass on what a part throws, once no thread is at a part any more', () => {
    const board = CallBoard.create();
    const call = maskCall(new Float32Array(LONG));
    let parts = 0;
    const failing = () => {
      parts += 1;
      throw new Error(`part ${parts} fails`);
    };
    expect(() => board.carryOut(call, failing)).toThrow('part 4 fails');
    expect(
      board.carryOut(call, () => true),
      'the next call begins anew',
    ).toBe(true);
  });

  test.each([
    ['ends', "helper thread 0 of the host's arithmetic ended in the middle of a call"],
    ['throws', 'no part of this'],
  ])('are missed when one %s in the middle of a part', async (how, message) => {
    const board = CallBoard.create();
    const workerData = { source: BUILT, shared: board.shared, how };
    const helper = new Thread(new URL('../../support/children/unfit-helper.mjs', import.meta.url), {
      workerData,
    });
    const kernels = createKernels('float32', board.shared);
    const mask = new Float32Array(LONG);
    const failure = await (async () => {
      for (;;) {
        try {
          kernels.dropoutMask(mask, KEY, 0.5);
        } catch (error) {
          return error;
        }
        await nextTurn();
      }
    })();
    expect(failure).toMatchObject({ message });
    await helper.terminate();
  });

  test('are none for one thread, and gone once they are closed; kernels go on alone', async () => {
    const numThreads = () => readdirSync('/proc/self/task').length;
    const before = numThreads();
    expect(usefulHostThreads(availableParallelism())).toBe(1);
    expect(usefulHostThreads(1)).toBe(Math.min(8, availableParallelism()));
    expect(new HostThreads(1, trouble).shared).toBeNull();
    expect(numThreads()).toBe(before);
    const more = new HostThreads(3, trouble);
    expect(numThreads()).toBe(before + 2);
    await more.close();
    await more.close();
    expect(numThreads()).toBe(before);
    const mask = new Float32Array(LONG);
    createKernels('float32', more.shared).dropoutMask(mask, KEY, 0.5);
    const expected = new Float32Array(LONG);
    createKernels('float32').dropoutMask(expected, KEY, 0.5);
    expect(firstDifference(mask, expected)).toBeNull();
  });

  test('do not keep their process alive, asleep or not yet awake', () => {
    const kernels = pathToFileURL(join(BUILT, 'kernels', 'index.js')).href;
    const program = `
      const { createKernels, HostThreads } = await import('${kernels}');
      const threads = new HostThreads(3, (reason) => { throw new Error(reason); });
      createKernels('float32', threads.shared).digestBlocks(new Float32Array(${LONG}), new BigUint64Array(64), 0);
      console.log('done');`;
    const node = (script: string) =>
      execFileSync(process.execPath, ['--input-type=module', '-e', script], {
        encoding: 'utf8',
        timeout: 20_000,
      });
    expect(node(program)).toBe('done\n');
    expect(node(`${program} await new Promise((resolve) => setTimeout(resolve, 300));`)).toBe('done\n');
  });
});
