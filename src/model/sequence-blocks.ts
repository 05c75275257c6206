/**
 * Rows of sequences of different lengths. Everywhere but in attention they lie end to end, [N, D], and a row is a real
 * token: padding is not computed. Attention sees them as blocks, each a few sequences of similar length padded to the
 * longest of them. How they are blocked is a function of the lengths alone.
 *
 * Rows move by gathers in both directions (rows.ts). Where nothing is padded and nothing reordered, none is recorded.
 * Legend: B sequences, N rows, D features, P rows of all blocks, padding included.
 */
import type { Tensor, Tf } from './differentiable.ts';
import { takeRows, withZeroRow } from './rows.ts';

/** The sequences of each block, by number. */
export type Groups = readonly (readonly number[])[];

export interface Block {
  readonly batchSize: number;
  /** Rows of each sequence, padding included; at least 1. */
  readonly length: number;
}

export interface BlockPlan {
  readonly blocks: readonly Block[];
  /** [P] the row at each place, -1 for padding. */
  readonly rows: Int32Array;
  /** [N] the place of each row. */
  readonly places: Int32Array;
}

/** More blocks pad less, but each is some dozens of operations. */
const BLOCKS_MAX = 4;
/** Scores of each head that a block more has to spare: below, what it costs to call its operations is more. */
const SCORES_WORTH_A_BLOCK = 2 ** 14;

export function wholeBatch(batchSize: number): Groups {
  return [Array.from({ length: batchSize }, (_, sequence) => sequence)];
}

/** Sequences of similar length together, where that spares enough scores; all in one block otherwise. */
export function groupByLength(lengths: Int32Array): Groups {
  const [whole] = wholeBatch(lengths.length) as [number[]];
  const count = Math.min(lengths.length, BLOCKS_MAX);
  // Single sequences need no order among them.
  const order =
    lengths.length === count ? whole : whole.toSorted((a, b) => lengths[a]! - lengths[b]! || a - b);
  const bound = (group: number) => Math.round((group * order.length) / count);
  const groups = Array.from({ length: count }, (_, group) => order.slice(bound(group), bound(group + 1)));
  const scoresOf = (group: readonly number[]) => group.length * longestOf(lengths, group) ** 2;
  const scores = groups.reduce((sum, group) => sum + scoresOf(group), 0);
  return scoresOf(whole) - scores >= SCORES_WORTH_A_BLOCK * (count - 1) && count > 1 ? groups : [whole];
}

export function planBlocks(lengths: Int32Array, groups: Groups): BlockPlan {
  const first = new Int32Array(lengths.length);
  for (let sequence = 1; sequence < lengths.length; sequence += 1) {
    first[sequence] = first[sequence - 1]! + lengths[sequence - 1]!;
  }
  const blocks = groups.map((group) => ({
    batchSize: group.length,
    length: Math.max(1, longestOf(lengths, group)),
  }));
  const rows = new Int32Array(blocks.reduce((sum, { batchSize, length }) => sum + batchSize * length, 0));
  const places = new Int32Array(lengths.reduce((sum, length) => sum + length, 0));
  rows.fill(-1);
  let begin = 0;
  groups.forEach((group, index) => {
    for (const sequence of group) {
      for (let row = 0; row < lengths[sequence]!; row += 1) {
        rows[begin + row] = first[sequence]! + row;
        places[first[sequence]! + row] = begin + row;
      }
      begin += blocks[index]!.length;
    }
  });
  return { blocks, rows, places };
}

/** Moves rows [N, D] to blocks and back, on the device. Plain operations, for use within differentiable ones. */
export class RowBlocks {
  readonly blocks: readonly Block[];
  readonly #tf: Tf;
  /** Indices; null where rows lie in their places as they are. */
  readonly #moves: {
    readonly rows: Tensor;
    readonly rowsOrZero: Tensor;
    readonly places: Tensor;
  } | null;

  /**
   * The caller's `tf.tidy` frees the indices.
   * @param lengths rows of each sequence
   * @param stays whether rows that lie in their places are left there; false gathers them for all that, so that the
   *   operations do not depend on what was drawn
   */
  constructor(tf: Tf, lengths: Int32Array, groups: Groups, stays = true) {
    const { blocks, rows, places } = planBlocks(lengths, groups);
    this.#tf = tf;
    this.blocks = blocks;
    if (stays && rows.every((row, place) => row === place)) {
      this.#moves = null;
      return;
    }
    const index = (values: Int32Array) => tf.tensor1d(values, 'int32');
    const isPadded = !stays || rows.length > places.length;
    // What padding repeats nobody reads: such a key is masked, such a query's context dropped.
    const repeated = index(rows.map((row) => Math.max(0, row)));
    this.#moves = {
      rows: repeated,
      rowsOrZero: isPadded ? index(rows.map((row) => (row < 0 ? places.length : row))) : repeated,
      places: index(places),
    };
  }

  /** Whether rows lie in their places as they are. */
  get isDense(): boolean {
    return this.#moves === null;
  }

  /** Each block's rows [batchSize*length, D]; padding repeats some row. */
  split(x_ND: Tensor): Tensor[] {
    return this.#cut(this.#moves === null ? x_ND : takeRows(this.#tf, x_ND, this.#moves.rows));
  }

  /** The same with zeros for padding: of a gradient, to which padding adds nothing. */
  splitGradient(dy_ND: Tensor): Tensor[] {
    if (this.#moves === null) return this.#cut(dy_ND);
    const { rows, rowsOrZero } = this.#moves;
    const from = rowsOrZero === rows ? dy_ND : withZeroRow(this.#tf, dy_ND);
    return this.#cut(takeRows(this.#tf, from, rowsOrZero));
  }

  /** The rows [N, D] of all blocks, without padding. */
  join(parts: readonly Tensor[]): Tensor {
    const all = parts.length === 1 ? parts[0]! : this.#tf.concat([...parts], 0);
    return this.#moves === null ? all : takeRows(this.#tf, all, this.#moves.places);
  }

  #cut(x_PD: Tensor): Tensor[] {
    if (this.blocks.length === 1) return [x_PD];
    let first = 0;
    return this.blocks.map(({ batchSize, length }) => {
      const count = batchSize * length;
      const part = this.#tf.slice(x_PD, [first, 0], [count, x_PD.shape[1]!]) as Tensor;
      first += count;
      return part;
    });
  }
}

/** Rows that are attended to, and what is added to the scores of each block: 0, or a large negative number. */
export interface Keys {
  readonly groups: Groups;
  readonly keys: RowBlocks;
  readonly biases: readonly (Tensor | null)[];
}

/** Who attends to whom: queries and keys in blocks of the same sequences. */
export interface Attended extends Keys {
  readonly queries: RowBlocks;
}

/** Keys for `lengths[b]` queries of each sequence; `stays` as for `RowBlocks`. */
export function attendedBy(tf: Tf, keys: Keys, lengths: Int32Array, stays = true): Attended {
  return { ...keys, queries: new RowBlocks(tf, lengths, keys.groups, stays) };
}

export function isSameGrouping(a: Groups, b: Groups): boolean {
  return a.length === b.length && a.every((group, index) => `${group}` === `${b[index]}`);
}

function longestOf(lengths: Int32Array, group: readonly number[]): number {
  return group.reduce((longest, sequence) => Math.max(longest, lengths[sequence]!), 0);
}
