/**
 * What a run trains its decoder for: LPLM, and what it is compared with. An objective looks its inputs up and
 * draws what it draws first; the function it returns is then a function of lookups and parameters alone.
 *
 *   lplm            all slots at once, each predicted at an exit layer of its own (lplm.ts)
 *   lastLayer       all slots at once, each predicted at the last layer: a plain non-autoregressive model
 *   soft            all slots at once, at every layer, each layer reading what the one below predicts (soft.ts)
 *   autoregressive  each token from those before it under a causal mask, as BART is trained. The decoder reads
 *                   `<s>` and the tokens before; BART's leading `</s>`, which only ever predicts `<s>`, is left out
 *
 * Only the last knows where a target ends before it has been computed, so there the slots beyond are left out.
 * Losses are sums over real target tokens. Legend: B batch, S source, T target slots, D model, N rows of slots: B*T, or,
 * autoregressive, the real target tokens.
 */
import { assert, LockstepError, type ParameterEntry, PhiloxRng, unreachable } from '../base/index.ts';
import type { ModelConfig, ObjectiveConfig } from '../config/index.ts';
import type { MicroBatch } from '../data/index.ts';
import { crossEntropySum, crossEntropySumOnly } from './cross-entropy.ts';
import { allSlots, causalSlots, causalStart, decodeFully, decoderStart, type Encoded } from './decoder.ts';
import type { Tensor, Tf } from './differentiable.ts';
import { noDropout, type SlotKey } from './dropout.ts';
import { encode, type Pass, sourceKeys } from './encoder.ts';
import { drawExitLayers, type ExitPlan, planExits } from './exit-layers.ts';
import { mean } from './layers.ts';
import { Lookups } from './lookups.ts';
import { lplmLossSum } from './lplm.ts';
import type { SourceBatch, SpecialIds } from './micro-batch.ts';
import { type ParameterTree, POSITION_OFFSET } from './parameters.ts';
import { gatherRows, takeRows } from './rows.ts';
import { type ReadTokens, softStates } from './soft.ts';

/** What does not change from one micro-batch to the next. */
export interface Trained {
  readonly tf: Tf;
  readonly model: ModelConfig;
  readonly objective: ObjectiveConfig;
  readonly specialIds: SpecialIds;
  /** Where each parameter lies in the flat vector. */
  readonly tables: ParameterTree<ParameterEntry>;
}

/** The summed loss as a function of the parameters, a scalar. */
export type LossSum = (tree: ParameterTree<Tensor>) => Tensor;

/** The loss that trains; what it looks up in `tree` goes to `lookups`. The caller's `tf.tidy` disposes that. */
export function trainingLoss(
  trained: Trained,
  pass: Pass,
  lookups: Lookups,
  tree: ParameterTree<Tensor>,
  batch: MicroBatch,
  key: SlotKey,
): LossSum {
  const { tf, objective, specialIds } = trained;
  const source = lookUpSource(trained, lookups, tree, batch);
  const encoded = (used: ParameterTree<Tensor>) => encodeSource(pass, used, source, batch);
  switch (objective.kind) {
    case 'lplm':
    case 'lastLayer': {
      const plan = planOf(trained, batch, key);
      const start = lookUpParallel(trained, lookups, tree, batch);
      const slots = allSlots(tf, parallelSlots(batch));
      return (used) => lplmLossSum(pass, used, start(pass, used), encoded(used), slots, plan);
    }
    case 'soft': {
      const start = lookUpParallel(trained, lookups, tree, batch);
      const between = readMixed(trained, lookups, batch, key);
      const slots = parallelSlots(batch);
      return (used) => {
        const states = softStates(pass, used, start(pass, used), encoded(used), slots, between);
        const losses = states.map((state) => lossOfRows(tf, state, used, batch, specialIds));
        return mean(tf, losses);
      };
    }
    case 'autoregressive': {
      const start = lookUpCausal(trained, lookups, tree, batch);
      const { labels, lengths } = realTargets(batch, specialIds);
      assert(
        labels.length === batch.realTokens,
        `${labels.length} labels of ${batch.realTokens} real tokens`,
      );
      const slots = causalSlots(tf, lengths);
      return (used) => {
        const state = decodeFully(pass, used, start(pass, used), encoded(used), slots, lengths);
        return crossEntropySum(tf, state, used.shared, labels);
      };
    }
    default:
      return unreachable(objective.kind);
  }
}

/**
 * The last layer's state of all slots without dropout and without any draw, [N, D]: what generation with all
 * layers computes, or, autoregressive, each next token given the true ones before it.
 */
export function lastStates(
  trained: Trained,
  tree: ParameterTree<Tensor>,
  batch: Omit<MicroBatch, 'realTokens'>,
): Tensor {
  const { tf, model, objective, specialIds } = trained;
  const pass = { tf, model, masks: noDropout };
  const lookups = new Lookups(tf);
  const encoded = encodeSource(pass, tree, lookUpSource(trained, lookups, tree, batch), batch);
  switch (objective.kind) {
    case 'lplm':
    case 'lastLayer': {
      const start = lookUpParallel(trained, lookups, tree, batch)(pass, tree);
      const slots = parallelSlots(batch);
      return decodeFully(pass, tree, start, encoded, allSlots(tf, slots), slots);
    }
    case 'soft': {
      const start = lookUpParallel(trained, lookups, tree, batch)(pass, tree);
      const read = readPredictions(trained, lookups, batch);
      return softStates(pass, tree, start, encoded, parallelSlots(batch), read).at(-1)!;
    }
    case 'autoregressive': {
      const start = lookUpCausal(trained, lookups, tree, batch)(pass, tree);
      const { lengths } = realTargets(batch, specialIds);
      return decodeFully(pass, tree, start, encoded, causalSlots(tf, lengths), lengths);
    }
    default:
      return unreachable(objective.kind);
  }
}

/** The summed loss of the last layer without gradients, a scalar. */
export function evaluationLoss(trained: Trained, tree: ParameterTree<Tensor>, batch: MicroBatch): Tensor {
  const { tf, specialIds, objective } = trained;
  const { rows, labels } = realTargets(batch, specialIds);
  const states = lastStates(trained, tree, batch);
  const picked =
    objective.kind === 'autoregressive' ? states : takeRows(tf, states, tf.tensor1d(rows, 'int32'));
  return crossEntropySumOnly(tf, picked, tree.shared, labels);
}

interface SourceInputs {
  readonly lookup: Tensor;
  readonly positions_SD: Tensor;
}

function lookUpSource(
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

function encodeSource(
  pass: Pass,
  tree: ParameterTree<Tensor>,
  { lookup, positions_SD }: SourceInputs,
  { sourceLengths }: SourceBatch,
): Encoded {
  const keys = sourceKeys(pass.tf, sourceLengths);
  return { hidden: encode(pass, tree, keys, sourceLengths, lookup, positions_SD), keys };
}

/** T slots of each sequence, for where a target ends is not known before it has been computed. */
function parallelSlots({ batchSize, targetLength }: Omit<MicroBatch, 'realTokens'>): Int32Array {
  return new Int32Array(batchSize).fill(targetLength);
}

/** The decoder's inputs; the function returned makes the state h^0 of them. */
type Start = (pass: Pass, tree: ParameterTree<Tensor>) => Tensor;

function lookUpParallel(
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

function lookUpCausal(
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

/** Soft in training: the true token with probability `goldRatio`, drawn anew for each layer and slot. */
function readMixed(
  { tf, model, objective, specialIds, tables }: Trained,
  lookups: Lookups,
  { labels }: MicroBatch,
  key: SlotKey,
): ReadTokens[] {
  return Array.from({ length: model.decoderLayers - 1 }, (_, layer) => {
    const { sink, found } = lookups.later(tables.shared, labels.length);
    const rng = new PhiloxRng({ ...key, stream: 'goldTokens', substream: layer });
    const isGold = Array.from(
      labels,
      (label) => rng.nextFloat() < objective.goldRatio && label !== specialIds.pad,
    );
    const gold = tf.tensor1d(
      labels.map((label, row) => (isGold[row] ? label : 0)),
      'int32',
    );
    const isRead = tf.tensor1d(
      labels.map((_, row) => (isGold[row] ? 0 : 1)),
      'int32',
    );
    const choose = (predicted: Tensor) => {
      const ids = tf.add(tf.mul(predicted, isRead), gold);
      found(ids);
      return ids;
    };
    return { sink, choose };
  });
}

/** Soft without the truth. */
function readPredictions(
  { model, tables }: Trained,
  lookups: Lookups,
  { labels }: Omit<MicroBatch, 'realTokens'>,
): ReadTokens[] {
  return Array.from({ length: model.decoderLayers - 1 }, () => ({
    sink: lookups.later(tables.shared, labels.length).sink,
    choose: (predicted: Tensor) => predicted,
  }));
}

function planOf(
  { model, objective, specialIds }: Trained,
  { batchSize, targetLength, labels, realTokens }: MicroBatch,
  key: SlotKey,
): ExitPlan {
  const numLayers = model.decoderLayers;
  const plan = planExits({
    batchSize,
    targetLength,
    numLayers,
    exitLayers:
      objective.kind === 'lastLayer'
        ? new Int32Array(labels.length).fill(numLayers - 1)
        : drawExitLayers(key, objective.exitLayers, { batchSize, targetLength, numLayers }),
    labels,
    padId: specialIds.pad,
    detachCopies: objective.detachCopies,
  });
  assert(plan.labels.length === realTokens, `${plan.labels.length} labels of ${realTokens} real tokens`);
  return plan;
}

interface RealTargets {
  /** Of the slots whose label is a real token, number b*T + t. */
  readonly rows: Int32Array;
  readonly labels: Int32Array;
  /** [B]; padding comes after. */
  readonly lengths: Int32Array;
}

function realTargets(
  { batchSize, targetLength, labels }: Omit<MicroBatch, 'realTokens'>,
  { pad }: SpecialIds,
): RealTargets {
  const rows = Int32Array.from(labels.keys()).filter((row) => labels[row] !== pad);
  const lengths = new Int32Array(batchSize);
  for (const row of rows) lengths[Math.floor(row / targetLength)]! += 1;
  return { rows, labels: rows.map((row) => labels[row]!), lengths };
}

function lossOfRows(
  tf: Tf,
  state_ND: Tensor,
  tree: ParameterTree<Tensor>,
  batch: MicroBatch,
  specialIds: SpecialIds,
): Tensor {
  const { rows, labels } = realTargets(batch, specialIds);
  const inverse = new Int32Array(batch.labels.length).fill(rows.length);
  rows.forEach((row, place) => {
    inverse[row] = place;
  });
  return crossEntropySum(tf, gatherRows(tf, state_ND, rows, inverse), tree.shared, labels);
}

function requireLength(model: ModelConfig, what: string, length: number): void {
  if (length >= 1 && length <= model.maxPositions) return;
  throw new LockstepError(
    'CONFIG_INVALID',
    `a ${what} of ${length} tokens does not fit model.maxPositions ${model.maxPositions}; raise it or lower data.sequenceLength`,
    { context: { field: 'model.maxPositions', value: model.maxPositions, length } },
  );
}
