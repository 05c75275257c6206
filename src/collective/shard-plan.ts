/**
 * Cuts the flat vector of S floats into one contiguous shard per rank, and shards into pieces: what
 * travels in one frame. All cuts are at multiples of a block, so that a block's digest and norm are
 * one rank's affair and do not depend on the number of ranks.
 *
 *   |<---- shard 0 ---->|<---- shard 1 ---->|<-- shard 2 -->|
 *   | piece | piece | p | piece | piece | p | piece | piece |
 *
 * Each owner is another message from and to every rank. A vector so short that a message costs more than
 * its bytes has fewer owners than there are ranks.
 */
import { assert } from '../base/index.ts';
import { BLOCK_FLOATS } from '../kernels/index.ts';

/** A range of the flat vector, in floats. */
export interface VectorRange {
  readonly offset: number;
  readonly length: number;
}

/** A part of a shard; `owner` is the rank whose shard it is, `index` its number within. Never empty. */
export interface Piece extends VectorRange {
  readonly owner: number;
  readonly index: number;
}

/** An owner takes in, from all others together, at least a piece divided by this, or is the only one. */
const INTAKES_PER_PIECE = 4;

/**
 * Shard r belongs to rank r. Those that are not empty differ by at most one block; the last are empty where
 * there are fewer blocks than ranks, or too few for each to take in enough.
 */
export function planShards(totalFloats: number, numRanks: number, pieceFloats: number): VectorRange[] {
  assert(Number.isInteger(totalFloats) && totalFloats >= 0, `a vector of ${totalFloats} floats`);
  assert(Number.isInteger(numRanks) && numRanks >= 1, `${numRanks} ranks`);
  const blocks = Math.ceil(totalFloats / BLOCK_FLOATS);
  const intakes = Math.floor(((numRanks - 1) * totalFloats * INTAKES_PER_PIECE) / pieceFloats);
  const numOwners = Math.min(numRanks, Math.max(1, intakes));
  const share = Math.floor(blocks / numOwners);
  const longer = blocks % numOwners;
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
  return planShards(totalFloats, numRanks, pieceFloats).map((shard, owner) => {
    const end = shard.offset + shard.length;
    return Array.from({ length: Math.ceil(shard.length / pieceFloats) }, (_, index) => {
      const offset = shard.offset + index * pieceFloats;
      return { owner, index, offset, length: Math.min(pieceFloats, end - offset) };
    });
  });
}
