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
import { assert, PhiloxRng, unreachable } from '../base/index.ts';
import type { MicroBatch } from '../data/index.ts';
import { crossEntropySum, crossEntropySumOnly } from './cross-entropy.ts';
import { allSlots, causalSlots, decodeFully, type Encoded } from './decoder.ts';
import type { Tensor, Tf } from './differentiable.ts';
import { noDropout, type SlotKey } from './dropout.ts';
import { encode, type Pass, sourceKeys } from './encoder.ts';
import { drawExitLayers, type ExitPlan, planExits } from './exit-layers.ts';
import {
  lookUpCausal,
  lookUpParallel,
  lookUpSource,
  parallelSlots,
  realTargets,
  type SourceInputs,
  type Trained,
} from './inputs.ts';
import { mean } from './layers.ts';
import { Lookups } from './lookups.ts';
import { lplmLossSum } from './lplm.ts';
import type { SourceBatch, SpecialIds } from './micro-batch.ts';
import type { ParameterTree } from './parameters.ts';
import { gatherRows, takeRows } from './rows.ts';
import { type ReadTokens, softStates } from './soft.ts';

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

function encodeSource(
  pass: Pass,
  tree: ParameterTree<Tensor>,
  { lookup, positions_SD }: SourceInputs,
  { sourceLengths }: SourceBatch,
): Encoded {
  const keys = sourceKeys(pass.tf, sourceLengths);
  return { hidden: encode(pass, tree, keys, sourceLengths, lookup, positions_SD), keys };
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
