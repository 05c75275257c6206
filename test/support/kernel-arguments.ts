/** What kernels are tried on: lengths around their inner boundaries, alignments, and both kinds of memory. */
import fc from 'fast-check';

/** Around vectors of four, Philox groups of 32, blocks of 4096 and staging pieces of 16,384 floats. */
export const KERNEL_LENGTHS = [
  0, 1, 3, 4, 5, 31, 33, 4095, 4096, 4097, 16_383, 16_384, 16_385, 40_001,
] as const;

export const placements = fc.record({
  length: fc.oneof(
    { arbitrary: fc.constantFrom(...KERNEL_LENGTHS), weight: 3 },
    { arbitrary: fc.nat(3000), weight: 1 },
  ),
  /** Of the vector in its buffer, in floats. */
  offset: fc.nat(3),
  shared: fc.boolean(),
  seed: fc.nat(1000),
  /** Share of denormals, zeros, infinities and NaNs. */
  specials: fc.constantFrom(0, 0.3),
});
