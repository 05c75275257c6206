/**
 * Which layer each target slot exits at, and which rows each decoder layer must therefore compute:
 * scheme C of ELMER.md section 6. Pure index arithmetic, no tensors.
 *
 * A layer computes the queries of rows that have not exited below it, sequence by sequence end to end.
 * Legend: B batch, T target slots, L layers, Q rows that a layer computes; a row is a slot of a sequence, number b*T + t.
 */
import { PhiloxRng } from '../base/index.ts';
import type { ObjectiveConfig } from '../config/index.ts';
import type { SlotKey } from './dropout.ts';

/**
 * One layer, 0 .. L-1, for each slot, [B*T]. `iid`: independent and uniform, as published (ELMER.md 3.2).
 * `balanced`: every L slots of a sequence get a random permutation of all layers, so that no layer is left out.
 */
export function drawExitLayers(
  key: SlotKey,
  how: ObjectiveConfig['exitLayers'],
  { batchSize, targetLength, numLayers }: { batchSize: number; targetLength: number; numLayers: number },
): Int32Array {
  const rng = new PhiloxRng({ ...key, stream: 'exitLayers', substream: 0 });
  const layers = new Int32Array(batchSize * targetLength);
  if (how === 'iid') return layers.map(() => rng.nextInt(numLayers));
  for (let sequence = 0; sequence < batchSize; sequence += 1) {
    for (let slot = 0; slot < targetLength; slot += numLayers) {
      const order = rng.permutation(numLayers).subarray(0, targetLength - slot);
      layers.set(order, sequence * targetLength + slot);
    }
  }
  return layers;
}

export interface LayerRows {
  /** [B] queries of each sequence. */
  readonly counts: Int32Array;
  /** Whether all rows compute: `query` leaves them as they lie. */
  readonly isWhole: boolean;
  /** [Q] row that each query is taken from. */
  readonly query: Int32Array;
  /** [B*T] query of each row, Q where it has none. */
  readonly queryInverse: Int32Array;
  /** [B*T] where each row's next state lies in (old state of all rows, output of the queries); null at the end. */
  readonly merge: Int32Array | null;
  /** [B*T] gradient row for each old state, B*T where none flows. */
  readonly oldInverse: Int32Array;
  /** [Q] gradient row for each query's output, B*T where none flows. */
  readonly outputInverse: Int32Array;
  /** [Q] place of each query's output among the picked rows, their number where it is not picked. */
  readonly pickedInverse: Int32Array;
}

export interface ExitPlan {
  /** The layers that anything has to be computed in, from the first; may be fewer than L. */
  readonly layers: readonly LayerRows[];
  /** The outputs to predict from, as indices into all layers' outputs laid end to end. */
  readonly picked: Int32Array;
  /** [picked] the token to predict. */
  readonly labels: Int32Array;
}

export interface ExitPlanInput {
  readonly batchSize: number;
  readonly targetLength: number;
  readonly numLayers: number;
  /** [B*T], 0-based */
  readonly exitLayers: Int32Array;
  /** [B*T] */
  readonly labels: Int32Array;
  readonly padId: number;
  /** Whether the copy of an exited state carries no gradient. */
  readonly detachCopies: boolean;
}

export function planExits(input: ExitPlanInput): ExitPlan {
  const { batchSize, targetLength, numLayers, exitLayers, labels, padId, detachCopies } = input;
  const numRows = batchSize * targetLength;
  const isReal = (row: number) => labels[row] !== padId;
  const numReal = labels.reduce((count, label) => count + (label === padId ? 0 : 1), 0);
  const layers: LayerRows[] = [];
  const picked: number[] = [];
  let outputsBefore = 0;

  for (let layer = 0; layer < numLayers; layer += 1) {
    const isLast = layer === numLayers - 1;
    // Above the last layer nothing attends, so there only what is predicted has to be computed.
    const computes = (row: number) => exitLayers[row]! >= layer && (!isLast || isReal(row));
    const query = Int32Array.from({ length: numRows }, (_, row) => row).filter(computes);
    const numOutputs = query.length;
    if (numOutputs === 0) break;
    const counts = new Int32Array(batchSize);
    const queryInverse = new Int32Array(numRows).fill(numOutputs);
    const merge = Int32Array.from({ length: numRows }, (_, row) => row);
    const oldInverse = Int32Array.from({ length: numRows }, (_, row) => (detachCopies ? numRows : row));
    const outputInverse = new Int32Array(numOutputs).fill(numRows);
    const pickedInverse = new Int32Array(numOutputs).fill(numReal);
    query.forEach((row, output) => {
      const exits = exitLayers[row] === layer;
      counts[Math.floor(row / targetLength)]! += 1;
      queryInverse[row] = output;
      merge[row] = numRows + output;
      oldInverse[row] = numRows;
      if (!exits || !detachCopies) outputInverse[output] = row;
      if (exits && isReal(row)) {
        pickedInverse[output] = picked.length;
        picked.push(outputsBefore + output);
      }
    });
    outputsBefore += numOutputs;
    layers.push({
      counts,
      isWhole: numOutputs === numRows,
      query,
      queryInverse,
      merge: isLast ? null : merge,
      oldInverse,
      outputInverse,
      pickedInverse,
    });
  }
  return { layers, picked: Int32Array.from(picked), labels: labelsOfPicked(layers, picked, labels) };
}

function labelsOfPicked(layers: readonly LayerRows[], picked: readonly number[], labels: Int32Array) {
  const rowOfOutput = layers.flatMap(({ query }) => [...query]);
  return Int32Array.from(picked, (output) => labels[rowOfOutput[output]!]!);
}
