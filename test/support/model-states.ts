/** What the model computes inside, for comparison with others: encoder states, decoder states, logits. */
import type { ModelConfig, ObjectiveKind } from '../../src/config/index.ts';
import type { MicroBatch } from '../../src/data/index.ts';
import type { Tensor, Tf } from '../../src/model/differentiable.ts';
import { noDropout } from '../../src/model/dropout.ts';
import { encode, sourceKeys } from '../../src/model/encoder.ts';
import { parameterLayout, type SpecialIds, treeOf } from '../../src/model/index.ts';
import { lastStates } from '../../src/model/objectives.ts';
import { POSITION_OFFSET } from '../../src/model/parameters.ts';

export interface ModelStates {
  /** Of the real tokens of all sources, [N, D] */
  encoder(batch: MicroBatch): Float32Array;
  /** [B, T, D] and [B, T, V]; autoregressive, of the real tokens alone */
  decoder(batch: MicroBatch, kind: ObjectiveKind): { states: Float32Array; logits: Float32Array };
}

/** Of a model with parameters in layout order; the caller disposes nothing. */
export function modelStates(
  tf: Tf,
  model: ModelConfig,
  flat: Float32Array,
  specialIds: SpecialIds,
): ModelStates {
  const layout = parameterLayout(model);
  const inTree = <Result>(compute: (tree: ReturnType<typeof treeOf<Tensor>>) => Result): Result =>
    tf.tidy(() => {
      const leaves = layout.map(({ shape, offset, size }) =>
        tf.tensor(flat.slice(offset, offset + size), [...shape]),
      );
      return compute(treeOf<Tensor>(model, leaves)) as never;
    });
  const floats = (tensor: Tensor) => tensor.dataSync() as Float32Array;

  return {
    encoder: ({ sourceLength, sourceIds, sourceLengths }) =>
      inTree((tree) => {
        const isReal = (place: number) =>
          place % sourceLength < sourceLengths[Math.floor(place / sourceLength)]!;
        const ids = tf.tensor1d(
          sourceIds.filter((_, place) => isReal(place)),
          'int32',
        );
        const positions = tf.slice(
          tree.encoder.positions,
          [POSITION_OFFSET, 0],
          [sourceLength, model.dModel],
        );
        const pass = { tf, model, masks: noDropout };
        const rows = tf.gather(tree.shared, ids) as Tensor;
        return floats(
          encode(pass, tree, sourceKeys(tf, sourceLengths), sourceLengths, rows, positions as Tensor),
        );
      }),

    decoder: (batch, kind) =>
      inTree((tree) => {
        const objective = { kind, exitLayers: 'iid', detachCopies: true, goldRatio: 0 } as const;
        const trained = { tf, model, objective, specialIds, tables: treeOf(model, layout) };
        const states = lastStates(trained, tree, batch);
        const logits = tf.matMul(states as never, tree.shared as never, false, true) as Tensor;
        return { states: floats(states), logits: floats(logits) };
      }),
  };
}
