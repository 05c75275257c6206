/**
 * Cuts the flat vector of S floats into one contiguous shard per rank, and shards into pieces: what
 * travels in one frame. All cuts are at multiples of a block, so that a block's digest and norm are
 * one rank's affair and do not depend on the number of ranks.
 *
 *   |<---- shard 0 ---->|<---- shard 1 ---->|<-- shard 2 -->|
 *   | piece | piece | p | piece | piece | p | piece | piece |
 */
import { assert } from '../base/index.ts';
import { BLOCK_FLOATS } from '../kernels/index.ts';

/** A range of the flat vector, in floats. */
export interface VectorRange {
  readonly offset: number;
  readonly length: number;
}

/** A part of a shard; `owner` is the rank whose shard it is. Never empty. */
export interface Piece extends VectorRange {
  readonly owner: number;
}

/** Shard r belongs to rank r. They differ by at most one block; with fewer blocks than ranks the last are empty. */
export function planShards(totalFloats: number, numRanks: number): VectorRange[] {
  assert(Number.isInteger(totalFloats) && totalFloats >= 0, `a vector of ${totalFloats} floats`);
  assert(Number.isInteger(numRanks) && numRanks >= 1, `${numRanks} ranks`);
  const blocks = Math.ceil(totalFloats / BLOCK_FLOATS);
  const share = Math.floor(blocks / numRanks);
  const longer = blocks % numRanks;
  const startOf = (rank: number): number =>
    Math.min(totalFloats, (rank * share + Math.min(rank, longer)) * BLOCK_FLOATS);
  return Array.from({ length: numRanks }, (_, rank) => {
    const offset = startOf(rank);
    return { offset, length: startOf(rank + 1) - offset };
  });
}

/** Each shard's pieces, in order. `pieceFloats` is a positive multiple of BLOCK_FLOATS. */
export function planPieces(totalFloats: number, numRanks: number, pieceFloats: number): Piece[][] {
  assert(pieceFloats > 0 && pieceFloats % BLOCK_FLOATS === 0, `pieces of ${pieceFloats} floats`);
  return planShards(totalFloats, numRanks).map((shard, owner) => {
    const end = shard.offset + shard.length;
    return Array.from({ length: Math.ceil(shard.length / pieceFloats) }, (_, index) => {
      const offset = shard.offset + index * pieceFloats;
      return { owner, offset, length: Math.min(pieceFloats, end - offset) };
    });
  });
}
