/**
 * What an objective's function reads: rows of the tied table and of the position tables, looked up before it runs, and
 * which slots have a real token. Source rows are the real tokens of all sources, end to end.
 *
 * Legend: B batch, S longest source, T target slots, D model.
 */
import { LockstepError, type ParameterEntry } from '../base/index.ts';
import type { ModelConfig, ObjectiveConfig } from '../config/index.ts';
import type { MicroBatch } from '../data/index.ts';
import { causalStart, decoderStart } from './decoder.ts';
import type { Tensor, Tf } from './differentiable.ts';
import type { Pass } from './encoder.ts';
import type { Lookups } from './lookups.ts';
import type { SourceBatch, SpecialIds } from './micro-batch.ts';
import { type ParameterTree, POSITION_OFFSET } from './parameters.ts';

/** What does not change from one micro-batch to the next. */
export interface Trained {
  readonly tf: Tf;
  readonly model: ModelConfig;
  readonly objective: ObjectiveConfig;
  readonly specialIds: SpecialIds;
  /** Where each parameter lies in the flat vector. */
  readonly tables: ParameterTree<ParameterEntry>;
}

export interface SourceInputs {
  readonly lookup: Tensor;
  readonly positions_SD: Tensor;
}

export function lookUpSource(
  { model, tables }: Trained,
  lookups: Lookups,
  tree: ParameterTree<Tensor>,
  { sourceIds, sourceLength, sourceLengths }: SourceBatch,
): SourceInputs {
  requireLength(model, 'source', sourceLength);
  const longest = sourceLengths.reduce((most, length) => Math.max(most, length), 0);
  // A copy: tfjs reads the array it is given only when an operation first needs it.
  const ids = sourceIds.filter(
    (_, place) => place % sourceLength < sourceLengths[Math.floor(place / sourceLength)]!,
  );
  return {
    lookup: lookups.gather(tables.shared, tree.shared, ids),
    positions_SD: lookups.range(tables.encoder.positions, tree.encoder.positions, POSITION_OFFSET, longest),
  };
}

/** The decoder's inputs; the function returned makes the state h^0 of them. */
export type Start = (pass: Pass, tree: ParameterTree<Tensor>) => Tensor;

export function lookUpParallel(
  { model, tables, specialIds }: Trained,
  lookups: Lookups,
  tree: ParameterTree<Tensor>,
  { batchSize, targetLength }: Omit<MicroBatch, 'realTokens'>,
): Start {
  const bos_1D = lookups.range(tables.shared, tree.shared, specialIds.bos, 1);
  const mask_1D = lookups.range(tables.shared, tree.shared, specialIds.mask, 1);
  const positions_TD = lookUpPositions(model, tables, lookups, tree, targetLength);
  return (pass, used) => decoderStart(pass, used, batchSize, bos_1D, mask_1D, positions_TD);
}

export function lookUpCausal(
  { model, tables, specialIds }: Trained,
  lookups: Lookups,
  tree: ParameterTree<Tensor>,
  batch: Omit<MicroBatch, 'realTokens'>,
): Start {
  const { targetLength, labels } = batch;
  const { rows, lengths } = realTargets(batch, specialIds);
  // Slot t reads token t-1.
  const ids = rows.map((row) => (row % targetLength === 0 ? specialIds.bos : labels[row - 1]!));
  const tokens = lookups.gather(tables.shared, tree.shared, ids);
  const positions_TD = lookUpPositions(model, tables, lookups, tree, Math.max(...lengths));
  return (pass, used) => causalStart(pass, used, lengths, tokens, positions_TD);
}

function lookUpPositions(
  model: ModelConfig,
  tables: ParameterTree<ParameterEntry>,
  lookups: Lookups,
  tree: ParameterTree<Tensor>,
  targetLength: number,
): Tensor {
  requireLength(model, 'target', targetLength);
  return lookups.range(tables.decoder.positions, tree.decoder.positions, POSITION_OFFSET, targetLength);
}

/** T slots of each sequence, for where a target ends is not known before it has been computed. */
export function parallelSlots({ batchSize, targetLength }: Omit<MicroBatch, 'realTokens'>): Int32Array {
  return new Int32Array(batchSize).fill(targetLength);
}

export interface RealTargets {
  /** Of the slots whose label is a real token, number b*T + t. */
  readonly rows: Int32Array;
  readonly labels: Int32Array;
  /** [B]; padding comes after. */
  readonly lengths: Int32Array;
}

export function realTargets(
  { batchSize, targetLength, labels }: Omit<MicroBatch, 'realTokens'>,
  { pad }: SpecialIds,
): RealTargets {
  const rows = Int32Array.from(labels.keys()).filter((row) => labels[row] !== pad);
  const lengths = new Int32Array(batchSize);
  for (const row of rows) lengths[Math.floor(row / targetLength)]! += 1;
  return { rows, labels: rows.map((row) => labels[row]!), lengths };
}

function requireLength(model: ModelConfig, what: string, length: number): void {
  if (length >= 1 && length <= model.maxPositions) return;
  throw new LockstepError(
    'CONFIG_INVALID',
    `a ${what} of ${length} tokens does not fit model.maxPositions ${model.maxPositions}; raise it or lower data.sequenceLength`,
    { context: { field: 'model.maxPositions', value: model.maxPositions, length } },
  );
}
