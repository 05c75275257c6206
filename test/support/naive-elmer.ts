/**
 * ELMER and its objectives as slowly and plainly as can be: scheme B of ELMER.md section 3.3 in automatic
 * differentiation. Every layer computes every slot, lookups are one-hot products, exit states are
 * chosen by masks. Shares no code with src/model but the parameter tree.
 */
import type { ModelConfig } from '../../src/config/index.ts';
import type { MicroBatch } from '../../src/data/index.ts';
import type { Tensor, Tf } from '../../src/model/differentiable.ts';
import { type ParameterTree, parameterLayout, treeOf } from '../../src/model/index.ts';
import type { Affine, AttentionParameters } from '../../src/model/parameters.ts';
import { SPECIAL_IDS } from './model-fixtures.ts';

export interface NaiveResult {
  readonly lossSum: number;
  readonly gradient: Float32Array;
}

export type NaiveObjective =
  | {
      readonly kind: 'lplm';
      /** [B*T] */
      readonly exitLayers: Int32Array;
      readonly detachCopies: boolean;
    }
  /** For each layer but the first and each slot, whether it reads the true token. */
  | {
      readonly kind: 'soft';
      readonly isGold: readonly (readonly boolean[])[];
      readonly counts: 'all' | 'last';
    }
  | { readonly kind: 'autoregressive' };

export function naiveGradient(
  tf: Tf,
  model: ModelConfig,
  flat: Float32Array,
  batch: MicroBatch,
  objective: NaiveObjective,
): NaiveResult {
  const layout = parameterLayout(model);
  const gradient = new Float32Array(flat.length);
  const lossSum = tf.tidy(() => {
    const leaves = layout.map(({ shape, offset, size }) =>
      tf.tensor(flat.slice(offset, offset + size), [...shape]),
    );
    const loss = () =>
      naiveLoss(tf, model, treeOf(model, leaves), batch, objective) as ReturnType<Tf['scalar']>;
    const { value, grads } = tf.engine().gradients(loss, leaves, undefined, true);
    layout.forEach(({ offset }, index) => {
      const grad = grads[index];
      if (grad != null) gradient.set(grad.dataSync() as Float32Array, offset);
    });
    return value.dataSync()[0]!;
  }) as unknown as number;
  return { lossSum, gradient };
}

function naiveLoss(
  tf: Tf,
  model: ModelConfig,
  tree: ParameterTree<Tensor>,
  batch: MicroBatch,
  objective: NaiveObjective,
): Tensor {
  const { batchSize: B, sourceLength: S, targetLength: T } = batch;
  const { dModel: D, heads: H } = model;
  const lookUp = (ids: Int32Array, length: number) =>
    tf.reshape(tf.matMul(oneHot(tf, ids, model.vocabSize), tree.shared), [B, length, D]);
  const linear = (x: Tensor, { weight, bias }: Affine<Tensor>) => {
    const rows = tf.reshape(x, [-1, x.shape.at(-1)!]);
    return tf.reshape(tf.add(tf.matMul(rows, tf.transpose(weight)), bias), [...x.shape.slice(0, -1), -1]);
  };
  const norm = (x: Tensor, { weight, bias }: Affine<Tensor>) => {
    const { mean, variance } = tf.moments(x, -1, true);
    return tf.add(tf.mul(tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-5))), weight), bias);
  };
  const gelu = (x: Tensor) => tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.div(x, Math.SQRT2))));
  const attend = (
    x: Tensor,
    memory: Tensor,
    parameters: AttentionParameters<Tensor>,
    bias: Tensor | null,
  ) => {
    const heads = (y: Tensor) => tf.transpose(tf.reshape(y, [B, -1, H, D / H]), [0, 2, 1, 3]);
    const q = heads(tf.mul(linear(x, parameters.q), (D / H) ** -0.5));
    const scores = tf.matMul(q, tf.transpose(heads(linear(memory, parameters.k)), [0, 1, 3, 2]));
    const weights = tf.softmax(bias === null ? scores : tf.add(scores, bias));
    const context = tf.transpose(tf.matMul(weights, heads(linear(memory, parameters.v))), [0, 2, 1, 3]);
    return linear(tf.reshape(context, [B, -1, D]), parameters.out);
  };

  const isPadding = Float32Array.from({ length: B * S }, (_, i) =>
    i % S >= batch.sourceLengths[Math.floor(i / S)]! ? -1e9 : 0,
  );
  const bias = tf.tensor(isPadding, [B, 1, 1, S]);
  const positions = (table: Tensor, length: number) => tf.slice(table, [2, 0], [length, D]);
  let source = tf.add(lookUp(batch.sourceIds, S), positions(tree.encoder.positions, S)) as Tensor;
  source = norm(source, tree.encoder.embeddingNorm);
  for (const layer of tree.encoder.layers) {
    source = norm(tf.add(source, attend(source, source, layer.selfAttention, bias)), layer.selfAttentionNorm);
    source = norm(tf.add(source, linear(gelu(linear(source, layer.fc1)), layer.fc2)), layer.finalNorm);
  }

  const isCausal = objective.kind === 'autoregressive';
  const inputs = Int32Array.from({ length: B * T }, (_, i) => {
    if (i % T === 0) return SPECIAL_IDS.bos;
    return isCausal ? batch.labels[i - 1]! : SPECIAL_IDS.mask;
  });
  const mask = Float32Array.from({ length: T * T }, (_, i) => (i % T > Math.floor(i / T) ? -1e9 : 0));
  const selfBias = isCausal ? (tf.tensor(mask, [1, 1, T, T]) as Tensor) : null;
  const isReal = Float32Array.from(batch.labels, (label) => (label === SPECIAL_IDS.pad ? 0 : 1));
  const logitsOf = (x: Tensor) => tf.matMul(tf.reshape(x, [B * T, D]), tf.transpose(tree.shared));
  const lossOf = (x: Tensor) => {
    const perSlot = tf.sum(tf.mul(tf.logSoftmax(logitsOf(x)), oneHot(tf, batch.labels, model.vocabSize)), -1);
    return tf.neg(tf.sum(tf.mul(perSlot, tf.tensor(isReal, [B * T])))) as Tensor;
  };
  const embedded = tf.add(lookUp(inputs, T), positions(tree.decoder.positions, T)) as Tensor;
  let state = norm(embedded, tree.decoder.embeddingNorm);
  let exited = tf.zerosLike(state) as Tensor;
  const losses: Tensor[] = [];
  tree.decoder.layers.forEach((layer, number) => {
    if (objective.kind === 'soft' && number > 0) {
      const predicted = tf.argMax(logitsOf(state), -1).dataSync();
      const read = batch.labels.map((label, row) =>
        objective.isGold[number - 1]![row] === true ? label : predicted[row]!,
      );
      const both = tf.reshape(tf.concat([state, lookUp(read, T)], 2), [B * T, 2 * D]);
      state = tf.reshape(tf.matMul(both, tf.transpose(tree.concatHead!)), [B, T, D]);
    }
    let x = norm(tf.add(state, attend(state, state, layer.selfAttention, selfBias)), layer.selfAttentionNorm);
    x = norm(tf.add(x, attend(x, source, layer.crossAttention, bias)), layer.crossAttentionNorm);
    x = norm(tf.add(x, linear(gelu(linear(x, layer.fc1)), layer.fc2)), layer.finalNorm);
    state = x;
    if (objective.kind === 'soft') losses.push(lossOf(x));
    if (objective.kind !== 'lplm') return;
    const { exitLayers, detachCopies } = objective;
    const where = (holds: (exit: number) => boolean, yes: Tensor, no: Tensor) => {
      const chosen = tf.tensor(
        Float32Array.from(exitLayers, (exit) => (holds(exit) ? 1 : 0)),
        [B, T, 1],
      );
      return tf.add(tf.mul(chosen, yes), tf.mul(tf.sub(1, chosen), no)) as Tensor;
    };
    exited = where((exit) => exit === number, x, exited);
    state = where((exit) => exit <= number, detachCopies ? detached(tf, exited) : exited, x);
  });
  if (objective.kind === 'soft' && objective.counts === 'all') return tf.div(tf.addN(losses), losses.length);
  return lossOf(objective.kind === 'lplm' ? exited : state);
}

function oneHot(tf: Tf, ids: Int32Array, depth: number): Tensor {
  const values = new Float32Array(ids.length * depth);
  ids.forEach((id, row) => {
    values[row * depth + id] = 1;
  });
  return tf.tensor(values, [ids.length, depth]);
}

function detached(tf: Tf, x: Tensor): Tensor {
  const stop = tf.customGrad((y) => ({ value: (y as Tensor).clone(), gradFunc: (dy) => [tf.zerosLike(dy)] }));
  return stop(x);
}
