/** What an update costs on the host, per parameter: AdamW and the digest of its result; and what more threads make of it. */
import { performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PRESETS } from '../config/index.ts';
import {
  adamwScalars,
  createKernels,
  HostThreads,
  type Kernels,
  numBlocks,
  usefulHostThreads,
} from '../kernels/index.ts';
import { GradientMemory } from '../net/index.ts';

/** Fits no cache. */
const FLOATS = 2 ** 22;
const ROUNDS = 7;

/** How many times faster than one thread the threads of a worker that is alone on this machine are. */
export interface ThreadsGain {
  readonly threads: number;
  readonly update: number;
  /** A gradient added to a sum. */
  readonly leaf: number;
}

/** Nanoseconds, the least of some rounds, as other load can only add to it; the upload to the engine is not in it. */
export function measureUpdate(): number {
  const { update } = work();
  const kernels = createKernels();
  const times = Array.from({ length: ROUNDS }, () => timed(() => update(kernels)));
  return (Math.min(...times) * 1e6) / FLOATS;
}

/** Of the least times of some rounds, in turns with one thread; null where a worker has no more. */
export async function measureThreadsGain(): Promise<ThreadsGain | null> {
  const threads = new HostThreads(usefulHostThreads(1), (reason) => {
    throw new Error(reason);
  });
  if (threads.count === 1) return null;
  const { update, leaf } = work();
  const one = createKernels();
  const several = createKernels('float32', threads.shared);
  const gainOf = async (run: (kernels: Kernels) => void): Promise<number> => {
    const [alone, shared]: [number[], number[]] = [[], []];
    for (let round = 0; round < ROUNDS; round += 1) {
      alone.push(timed(() => run(one)));
      shared.push(timed(() => run(several)));
      await nextTurn();
    }
    return Math.min(...alone) / Math.min(...shared);
  };
  const gain = { threads: threads.count, update: await gainOf(update), leaf: await gainOf(leaf) };
  await threads.close();
  return gain;
}

function work(): Record<'update' | 'leaf', (kernels: Kernels) => void> {
  const memory = GradientMemory.of(null);
  const vector = () => memory.allocatePrivate(FLOATS).fill(1e-3);
  const vectors = {
    parameters: vector(),
    gradient: vector(),
    firstMoment: vector(),
    secondMoment: vector(),
  };
  const { optimizer } = PRESETS.small;
  const scalars = adamwScalars(optimizer, { step: 1, learningRate: 1e-4, gradientScale: 1 });
  const digests = new BigUint64Array(numBlocks(FLOATS));
  return {
    update: (kernels) => kernels.adamw(vectors, scalars, digests),
    leaf: (kernels) => kernels.addLeaf(vectors.gradient, [vectors.parameters]),
  };
}

function timed(run: () => void): number {
  const startMs = performance.now();
  run();
  return performance.now() - startMs;
}
