export { type AdamwMoment, type AdamwScalars, adamwScalars, powerOf } from './adamw-scalars.ts';
export { BLOCK_FLOATS, combineDigests, globalNorm, numBlocks } from './blocks.ts';
export { HOST_THREADS_MAX, HostThreads, usefulHostThreads } from './host-threads.ts';
export { type AdamwVectors, createKernels, type Kernels } from './kernels.ts';
export type { RangeValues, SumLeaf, SumMeasures, SumTree } from './sum-tree.ts';
