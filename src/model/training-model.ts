/**
 * The model as a worker uses it: parameters in, flat gradient out. The only stateful thing here is
 * the uploaded parameter tensors; a gradient is a function of (parameters, batch, key) alone.
 *
 * Invariants: no tensor outlives a call but the parameters; at this border all vectors are flat
 * Float32Arrays in layout order. Losses are sums over real tokens: the division by the step's token
 * count happens once, after the reduction (DESIGN.md section 3).
 * Values come back from the device asynchronously, all of a computation's at once: WebGPU has no other way.
 */
import { assert, LockstepError, layoutSize, type ParameterLayout } from '../base/index.ts';
import type { ModelConfig, ObjectiveConfig } from '../config/index.ts';
import type { MicroBatch } from '../data/index.ts';
import type { Tensor, Tf } from './differentiable.ts';
import { type DropoutMasks, dropoutFor, type SlotKey } from './dropout.ts';
import type { Lookups } from './lookups.ts';
import type { SpecialIds } from './micro-batch.ts';
import { evaluationLoss, type Trained, trainingLoss } from './objectives.ts';
import { type ParameterTree, parameterLayout, treeOf } from './parameters.ts';

export interface TrainingModelOptions {
  readonly tf: Tf;
  readonly model: ModelConfig;
  readonly objective: ObjectiveConfig;
  readonly specialIds: SpecialIds;
  readonly dropoutMasks: DropoutMasks;
  /** Copies a float32 tensor's values to `target`, the engine's shortest way. */
  readonly readInto: (tensor: Tensor, target: Float32Array) => Promise<void>;
}

export interface GradientResult {
  /** Sum of the loss over real target tokens, in nats. */
  readonly lossSum: number;
  readonly realTokens: number;
}

export interface TrainingModel {
  readonly layout: ParameterLayout;
  /** Uploads parameters (layout order). `flat` may be shared memory and may change after the call. */
  setParameters(flat: Float32Array): void;
  /** Writes d(lossSum)/d(parameters) to `target`, every element. Throws NOT_FINITE on a loss that is not finite. */
  gradient(batch: MicroBatch, key: SlotKey, target: Float32Array): Promise<GradientResult>;
  /** Loss at full depth, without dropout: what the last layer alone says. */
  evaluate(batch: MicroBatch): Promise<GradientResult>;
  dispose(): void;
}

export function createTrainingModel(options: TrainingModelOptions): TrainingModel {
  const { tf, model, objective, specialIds, dropoutMasks, readInto } = options;
  const layout = parameterLayout(model);
  const size = layoutSize(layout);
  const trained: Trained = { tf, model, objective, specialIds, tables: treeOf(model, layout) };
  /** What the parameter tensors were made over: tfjs reads it only when an operation first needs them. */
  const uploads = new Float32Array(size);
  let leaves: Tensor[] = [];

  const uploaded = (): ParameterTree<Tensor> => {
    assert(leaves.length > 0, 'setParameters comes before any computation');
    return treeOf(model, leaves);
  };

  return {
    layout,

    setParameters(flat) {
      assert(flat.length === size, `parameter vector of ${flat.length} floats, layout has ${size}`);
      tf.dispose(leaves);
      uploads.set(flat);
      leaves = layout.map(({ shape, offset, size: length }) =>
        tf.tensor(uploads.subarray(offset, offset + length), [...shape]),
      );
    },

    async gradient(batch, key, target) {
      assert(target.length === size, `gradient of ${target.length} floats, layout has ${size}`);
      const tree = uploaded();
      const { realTokens } = batch;
      if (realTokens === 0) {
        target.fill(0);
        return { lossSum: 0, realTokens };
      }
      let addLookupGradients: Lookups['addGradients'] = () => {};
      const tensors = tf.tidy(() => {
        const pass = { tf, model, masks: dropoutFor(tf, dropoutMasks, key, model) };
        const { lookups, lossSum: forward } = trainingLoss(trained, pass, tree, batch, key);
        const inputs = lookups.tensors;
        addLookupGradients = (...found) => lookups.addGradients(...found);
        // Not `tf.valueAndGrads`, which refuses a parameter that the loss does not reach: a layer above
        // every drawn exit.
        const { value, grads } = tf
          .engine()
          .gradients(forward as () => ReturnType<Tf['scalar']>, [...inputs, ...leaves], undefined, true);
        return [value, ...grads];
      });
      const grads = tensors.slice(-layout.length);
      const read = layout.map(async ({ offset, size: length }, index) => {
        const part = target.subarray(offset, offset + length);
        const grad = grads[index];
        if (grad == null) part.fill(0);
        else await readInto(grad, part).finally(() => grad.dispose());
      });
      const [[loss, ...ofLookups]] = await Promise.all([download(tensors.slice(0, -layout.length)), ...read]);
      const lossSum = loss![0]!;
      requireFinite(lossSum, key);
      addLookupGradients(ofLookups, target);
      return { lossSum, realTokens };
    },

    async evaluate(batch) {
      const { realTokens } = batch;
      if (realTokens === 0) return { lossSum: 0, realTokens };
      const [loss] = await download([tf.tidy(() => evaluationLoss(trained, uploaded(), batch))]);
      return { lossSum: loss![0]!, realTokens };
    },

    dispose() {
      tf.dispose(leaves);
      leaves = [];
    },
  };
}

/** The values of float32 tensors, all transfers under way together; disposes the tensors, also when it fails. */
async function download(tensors: readonly (Tensor | null)[]): Promise<(Float32Array | null)[]> {
  try {
    // Every tensor of the model is float32 but for indices, which never come here.
    return await Promise.all(tensors.map(async (tensor) => ((await tensor?.data()) as Float32Array) ?? null));
  } finally {
    for (const tensor of tensors) tensor?.dispose();
  }
}

function requireFinite(lossSum: number, { step, slot }: SlotKey): void {
  if (Number.isFinite(lossSum)) return;
  throw new LockstepError(
    'NOT_FINITE',
    `the loss of step ${step}, slot ${slot} is ${lossSum}; lower optimizer.learningRate or set optimizer.clipNorm`,
    { context: { step, slot, lossSum } },
  );
}
