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
 * Losses are sums over real target tokens. Legend: B batch, S source, T target slots, D model, N = B*T rows.
 */
import { assert, LockstepError, type ParameterEntry, PhiloxRng, unreachable } from '../base/index.ts';
import type { ModelConfig, ObjectiveConfig } from '../config/index.ts';
import type { MicroBatch } from '../data/index.ts';
import { crossEntropySum, crossEntropySumOnly } from './cross-entropy.ts';
import { causalBias, causalStart, decodeFully, decoderStart, type Encoded } from './decoder.ts';
import type { Tensor, Tf } from './differentiable.ts';
import { noDropout, type SlotKey } from './dropout.ts';
import { encode, type Pass, paddingBias } from './encoder.ts';
import { drawExitLayers, type ExitPlan, planExits } from './exit-layers.ts';
import { mean } from './layers.ts';
import { Lookups, NO_ROW } from './lookups.ts';
import { lplmLossSum } from './lplm.ts';
import type { SourceBatch, SpecialIds } from './micro-batch.ts';
import { type ParameterTree, POSITION_OFFSET } from './parameters.ts';
import { gatherRows } from './rows.ts';
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
      return (used) => lplmLossSum(pass, used, start(pass, used), encoded(used), plan);
    }
    case 'soft': {
      const start = lookUpParallel(trained, lookups, tree, batch);
      const between = readMixed(trained, lookups, batch, key);
      return (used) => {
        const states = softStates(pass, used, start(pass, used), encoded(used), between);
        const losses = states.map((state) => lossOfRows(tf, state, used, batch, specialIds));
        return mean(tf, losses);
      };
    }
    case 'autoregressive': {
      const start = lookUpCausal(trained, lookups, tree, batch);
      const bias = causalBias(tf, batch.targetLength);
      return (used) => {
        const state = decodeFully(pass, used, start(pass, used), encoded(used), bias);
        return lossOfRows(tf, state, used, batch, specialIds);
      };
    }
    default:
      return unreachable(objective.kind);
  }
}

/**
 * The last layer's state of all slots without dropout and without any draw, [B*T, D]: what generation with all
 * layers computes, or, autoregressive, each next token given the true ones before it.
 */
export function lastStates(
  trained: Trained,
  tree: ParameterTree<Tensor>,
  batch: Omit<MicroBatch, 'realTokens'>,
): Tensor {
  const { tf, model, objective } = trained;
  const pass = { tf, model, masks: noDropout };
  const lookups = new Lookups(tf);
  const encoded = encodeSource(pass, tree, lookUpSource(trained, lookups, tree, batch), batch);
  switch (objective.kind) {
    case 'lplm':
    case 'lastLayer':
      return decodeFully(
        pass,
        tree,
        lookUpParallel(trained, lookups, tree, batch)(pass, tree),
        encoded,
        null,
      );
    case 'soft': {
      const start = lookUpParallel(trained, lookups, tree, batch)(pass, tree);
      return softStates(pass, tree, start, encoded, readPredictions(trained, lookups, batch)).at(-1)!;
    }
    case 'autoregressive': {
      const start = lookUpCausal(trained, lookups, tree, batch)(pass, tree);
      return decodeFully(pass, tree, start, encoded, causalBias(tf, batch.targetLength));
    }
    default:
      return unreachable(objective.kind);
  }
}

/** The summed loss of the last layer without gradients, a scalar. */
export function evaluationLoss(trained: Trained, tree: ParameterTree<Tensor>, batch: MicroBatch): Tensor {
  const { tf, specialIds } = trained;
  const { rows, labels } = realRows(batch, specialIds);
  const picked = tf.gather(lastStates(trained, tree, batch), tf.tensor1d(rows, 'int32'));
  return crossEntropySumOnly(tf, picked as Tensor, tree.shared, labels);
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
  const read = sourceIds.map((id, place) => {
    const row = Math.floor(place / sourceLength);
    return place % sourceLength < sourceLengths[row]! ? id : NO_ROW;
  });
  requireLength(model, 'source', sourceLength);
  return {
    // A copy: tfjs reads the array it is given only when an operation first needs it.
    lookup: lookups.gather(tables.shared, tree.shared, sourceIds.slice(), read),
    positions_SD: lookups.range(
      tables.encoder.positions,
      tree.encoder.positions,
      POSITION_OFFSET,
      sourceLength,
    ),
  };
}

function encodeSource(
  pass: Pass,
  tree: ParameterTree<Tensor>,
  { lookup, positions_SD }: SourceInputs,
  { batchSize, sourceLength, sourceLengths }: SourceBatch,
): Encoded {
  const keyBias = paddingBias(pass.tf, sourceLengths, sourceLength);
  return { batchSize, hidden: encode(pass, tree, batchSize, lookup, positions_SD, keyBias), keyBias };
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
  { targetLength, labels }: Omit<MicroBatch, 'realTokens'>,
): Start {
  // Slot t reads token t-1; what a slot beyond the end reads is seen by nothing that counts.
  const ids = labels.map((_, row) => (row % targetLength === 0 ? specialIds.bos : labels[row - 1]!));
  const read = ids.map((id) => (id === specialIds.pad ? NO_ROW : id));
  const tokens = lookups.gather(tables.shared, tree.shared, ids, read);
  const positions_TD = lookUpPositions(model, tables, lookups, tree, targetLength);
  return (pass, used) => causalStart(pass, used, tokens, positions_TD);
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

/** The rows whose label is a real token, and these labels. */
function realRows({ labels }: MicroBatch, { pad }: SpecialIds): { rows: Int32Array; labels: Int32Array } {
  const rows = Int32Array.from(labels.keys()).filter((row) => labels[row] !== pad);
  return { rows, labels: rows.map((row) => labels[row]!) };
}

function lossOfRows(
  tf: Tf,
  state_ND: Tensor,
  tree: ParameterTree<Tensor>,
  batch: MicroBatch,
  specialIds: SpecialIds,
): Tensor {
  const { rows, labels } = realRows(batch, specialIds);
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
