/**
 * The tree over one piece: fragments come in any order, and every pair of siblings is added at once. The
 * piece's owner finishes it and writes the root to the reduced vector; the leader of another host adds up
 * what its host has and takes the sums out again, to send them on.
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
  readonly #isOwner: boolean;
  readonly #fragments: FragmentSet;
  /** Where each fragment of the set lies, by its first slot. */
  readonly #operands = new Map<number, Operand>();

  constructor(piece: Piece, numSlots: number, isOwner: boolean) {
    this.#piece = piece;
    this.#isOwner = isOwner;
    this.#numSlots = numSlots;
    this.#fragments = new FragmentSet(numSlots);
  }

  /**
   * Takes a fragment in and appends what is due to `effects`. Returns the node that it has become part of, or why it
   * cannot be taken, and then nothing has changed. The owner's root is in the reduced vector by then.
   */
  add(node: SlotRange, operand: Operand, effects: AllReduceEffect[]): SlotRange | CoverageError {
    const result = this.#fragments.add(node);
    if (!result.accepted) return result.error;
    const { offset, length } = this.#piece;
    this.#operands.set(node.first, operand);
    for (const { left, right, parent } of result.merges) {
      const leftOperand = this.#take(left);
      const rightOperand = this.#take(right);
      const isResult = this.#isOwner && parent.count === this.#numSlots;
      const into: Operand = isResult ? { kind: 'reduced' } : frameOf(leftOperand, rightOperand);
      effects.push({ type: 'add', offset, length, left: leftOperand, right: rightOperand, into });
      for (const used of [leftOperand, rightOperand]) if (used !== into) release(used, effects);
      this.#operands.set(parent.first, into);
    }
    if (this.#isOwner && this.#fragments.complete && result.merges.length === 0) {
      effects.push({ type: 'storeReduced', offset, length, from: operand });
      release(operand, effects);
      this.#operands.set(node.first, { kind: 'reduced' });
    }
    return result.merges.at(-1)?.parent ?? node;
  }

  /** Appends that a sum goes to `to`. Its slots count as added from here on too. */
  send(node: SlotRange, to: number, effects: AllReduceEffect[]): void {
    const { offset, length } = this.#piece;
    const from = this.#take(node);
    assert(from.kind !== 'reduced', 'only the owner writes the reduced vector');
    effects.push({ type: 'sendFragment', to, node, from, offset, length });
    release(from, effects);
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
