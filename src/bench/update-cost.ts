/** What an update costs on the host, per parameter: AdamW and the digest of its result. */
import { performance } from 'node:perf_hooks';
import { PRESETS } from '../config/index.ts';
import { adamwScalars, createKernels, numBlocks } from '../kernels/index.ts';
import { GradientMemory } from '../net/index.ts';

/** Fits no cache. */
const FLOATS = 2 ** 22;
const ROUNDS = 7;

/** Nanoseconds, the least of some rounds, as other load can only add to it; the upload to the engine is not in it. */
export function measureUpdate(): number {
  const kernels = createKernels();
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
  const times = Array.from({ length: ROUNDS }, () => {
    const startMs = performance.now();
    kernels.adamw(vectors, scalars, digests);
    return performance.now() - startMs;
  });
  return (Math.min(...times) * 1e6) / FLOATS;
}
