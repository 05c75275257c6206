/**
 * Blocks: the flat vector in runs of 4096 floats, counted from its start. Digests and norms are
 * taken per block and combined in block order, so they do not depend on how many ranks share the
 * vector, nor on which of them looked at a block (DESIGN section 3).
 */
import { createHash } from 'node:crypto';

/** 16 KiB: the granularity of shards, pieces, digests and norms. */
export const BLOCK_FLOATS = 4096;

/** Blocks of a vector of `length` floats; the last may be short. */
export function numBlocks(length: number): number {
  return Math.ceil(length / BLOCK_FLOATS);
}

/** One digest of a whole vector from its blocks' digests (little-endian, as all that travels), as 32 hex characters of SHA-256. */
export function combineDigests(blockDigests: BigUint64Array): string {
  return createHash('sha256').update(blockDigests).digest('hex').slice(0, 32);
}

/** Euclidean norm from the blocks' sums of squares, added in block order; not finite if any of them is not. */
export function globalNorm(blockSums: Float64Array): number {
  let sum = 0;
  for (const blockSum of blockSums) sum += blockSum;
  return Math.sqrt(sum);
}
