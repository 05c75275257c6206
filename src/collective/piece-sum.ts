/**
 * The tree over one piece, finished by the piece's owner: fragments come in any order, every pair of
 * siblings is added at once, and the root is written to the reduced vector.
 *
 * No buffer is needed beside the frames: of two fragments that meet, at least one came in a frame
 * (this rank's own are maximal, so none are siblings), and the sum takes a frame's place.
 */
import { assert, type SlotRange } from '../base/index.ts';
import type { AllReduceEffect, Operand } from './all-reduce-types.ts';
import { type CoverageError, FragmentSet } from './fragment-set.ts';
import type { Piece } from './shard-plan.ts';

export class PieceSum {
  readonly #piece: Piece;
  readonly #numSlots: number;
  readonly #fragments: FragmentSet;
  /** Where each fragment of the set lies, by its first slot. */
  readonly #operands = new Map<number, Operand>();

  constructor(piece: Piece, numSlots: number) {
    this.#piece = piece;
    this.#numSlots = numSlots;
    this.#fragments = new FragmentSet(numSlots);
  }

  /** Whether the reduced vector holds the sum over all slots. */
  get complete(): boolean {
    return this.#fragments.complete;
  }

  /** Takes a fragment in and appends what is due to `effects`, or says why it cannot be and changes nothing. */
  add(node: SlotRange, operand: Operand, effects: AllReduceEffect[]): CoverageError | null {
    const result = this.#fragments.add(node);
    if (!result.accepted) return result.error;
    const { offset, length } = this.#piece;
    this.#operands.set(node.first, operand);
    for (const { left, right, parent } of result.merges) {
      const leftOperand = this.#take(left);
      const rightOperand = this.#take(right);
      const isRoot = parent.count === this.#numSlots;
      const into: Operand = isRoot ? { kind: 'reduced' } : frameOf(leftOperand, rightOperand);
      effects.push({ type: 'add', offset, length, left: leftOperand, right: rightOperand, into });
      for (const used of [leftOperand, rightOperand]) if (used !== into) release(used, effects);
      this.#operands.set(parent.first, into);
    }
    if (this.complete && result.merges.length === 0) {
      effects.push({ type: 'storeReduced', offset, length, from: operand });
      release(operand, effects);
      this.#operands.set(node.first, { kind: 'reduced' });
    }
    return null;
  }

  /** Appends a release for each frame still held. */
  abandon(effects: AllReduceEffect[]): void {
    for (const operand of this.#operands.values()) release(operand, effects);
    this.#operands.clear();
  }

  #take(node: SlotRange): Operand {
    const operand = this.#operands.get(node.first);
    assert(operand !== undefined, `fragment at slot ${node.first} has no operand`);
    this.#operands.delete(node.first);
    return operand;
  }
}

function frameOf(left: Operand, right: Operand): Operand {
  const frame = left.kind === 'frame' ? left : right;
  assert(frame.kind === 'frame', 'two fragments of one rank are siblings');
  return frame;
}

function release(operand: Operand, effects: AllReduceEffect[]): void {
  if (operand.kind === 'frame') effects.push({ type: 'release', frame: operand.frame });
}
