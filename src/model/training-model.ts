/**
 * The model as a worker uses it: parameters in, flat gradient out. The only stateful thing here is
 * the uploaded parameter tensors; a gradient is a function of (parameters, batch, key) alone.
 *
 * Invariants: no tensor outlives a call but the parameters; at this border all vectors are flat
 * Float32Arrays in layout order. Losses are sums over real tokens: the division by the step's token
 * count happens once, after the reduction (DESIGN.md section 3).
 * Values come back from the device asynchronously, for WebGPU has no other way: a gradient as soon as it is known
 * where the engine reads beside computing, all together after the pass where it does not.
 */
import { assert, LockstepError, layoutSize, type ParameterLayout } from '../base/index.ts';
import type { ModelConfig, ObjectiveConfig } from '../config/index.ts';
import type { MicroBatch } from '../data/index.ts';
import { gradients, type Tensor, type Tf } from './differentiable.ts';
import { type DropoutMasks, dropoutFor, type SlotKey } from './dropout.ts';
import type { Trained } from './inputs.ts';
import { Lookups } from './lookups.ts';
import { MaskMemory } from './mask-memory.ts';
import type { SpecialIds } from './micro-batch.ts';
import { evaluationLoss, trainingLoss } from './objectives.ts';
import { type ParameterTree, parameterLayout, treeOf } from './parameters.ts';

export interface TrainingModelOptions {
  readonly tf: Tf;
  readonly model: ModelConfig;
  readonly objective: ObjectiveConfig;
  readonly specialIds: SpecialIds;
  readonly dropoutMasks: DropoutMasks;
  /** Copies a float32 tensor's values to `target`, the engine's shortest way. */
  readonly readInto: (tensor: Tensor, target: Float32Array) => Promise<void>;
  /** Makes memory that an engine may read in place; arrays if absent. */
  readonly allocate?: (floats: number) => Float32Array;
  /** Whether the engine reads values beside computing; false if absent. Changes no bit. */
  readonly readsBeside?: boolean;
}

export interface GradientResult {
  /** Sum of the loss over real target tokens, in nats. */
  readonly lossSum: number;
  readonly realTokens: number;
}

export interface DeviceGradientResult extends GradientResult {
  /** For each parameter of the layout its gradient; null for zeros. The caller frees them. */
  readonly gradient: readonly (Tensor | null)[];
}

export interface TrainingModel {
  readonly layout: ParameterLayout;
  /**
   * Takes parameters (layout order). `flat` may be shared memory. An engine reads it when it first needs to, or in place
   * each time, so it keeps its values until the next call.
   */
  setParameters(flat: Float32Array): void;
  /** Writes d(lossSum)/d(parameters) to `target`, every element. Throws NOT_FINITE on a loss that is not finite. */
  gradient(batch: MicroBatch, key: SlotKey, target: Float32Array): Promise<GradientResult>;
  /**
   * The same gradient left on the device, for engines with the kernel `addRows`: what would be read of each tensor has,
   * but for subnormals, the bits that `gradient` writes.
   */
  gradientOnDevice(batch: MicroBatch, key: SlotKey): Promise<DeviceGradientResult>;
  /** Loss at full depth, without dropout: what the last layer alone says. */
  evaluate(batch: MicroBatch): Promise<GradientResult>;
  dispose(): void;
}

export function createTrainingModel(options: TrainingModelOptions): TrainingModel {
  const { tf, model, objective, specialIds, dropoutMasks, readInto, readsBeside = false } = options;
  const { allocate = (floats: number) => new Float32Array(floats) } = options;
  const layout = parameterLayout(model);
  const size = layoutSize(layout);
  const trained: Trained = { tf, model, objective, specialIds, tables: treeOf(model, layout) };
  const masks = new MaskMemory(allocate);
  let leaves: Tensor[] = [];

  const uploaded = (): ParameterTree<Tensor> => {
    assert(leaves.length > 0, 'setParameters comes before any computation');
    return treeOf(model, leaves);
  };

  /**
   * Loss, gradients of the lookups, gradients of the parameters; null for what the loss does not reach. `onGradient`
   * hears of a parameter's gradient when it is whole, in the middle of the pass.
   */
  const differentiated = (
    batch: MicroBatch,
    key: SlotKey,
    lookups: Lookups,
    onGradient: (place: number, gradient: Tensor) => void = () => {},
  ): (Tensor | null)[] =>
    tf.tidy(() => {
      masks.reset();
      const tree = uploaded();
      const pass = { tf, model, masks: dropoutFor(tf, dropoutMasks, masks, key, model) };
      const forward = trainingLoss(trained, pass, lookups, tree, batch, key);
      const inputs = lookups.tensors;
      const found = gradients(
        tf,
        () => forward(tree),
        [...inputs, ...leaves],
        (place, gradient) => {
          if (place >= inputs.length) onGradient(place - inputs.length, gradient);
        },
      );
      // Nulls pass through `tidy`, whose type does not say so.
      return [found.value, ...found.gradients] as Tensor[];
    });

  return {
    layout,

    setParameters(flat) {
      assert(flat.length === size, `parameter vector of ${flat.length} floats, layout has ${size}`);
      tf.dispose(leaves);
      leaves = layout.map(({ shape, offset, size: length }) =>
        tf.tensor(flat.subarray(offset, offset + length), [...shape]),
      );
    },

    async gradient(batch, key, target) {
      assert(target.length === size, `gradient of ${target.length} floats, layout has ${size}`);
      const { realTokens } = batch;
      if (realTokens === 0) {
        target.fill(0);
        return { lossSum: 0, realTokens };
      }
      const reads = new Map<number, Promise<void>>();
      const receive = (place: number, gradient: Tensor) => {
        const { offset, size: length } = layout[place]!;
        const read = readInto(gradient, target.subarray(offset, offset + length));
        // Whoever waits for it hears of a failure; of a pass that fails before, nobody does.
        read.catch(() => {});
        reads.set(place, read);
      };
      const lookups = new Lookups(tf);
      let tensors: (Tensor | null)[] = [];
      try {
        tensors = differentiated(batch, key, lookups, readsBeside ? receive : undefined);
        const grads = tensors.slice(tensors.length - layout.length);
        layout.forEach(({ offset, size: length }, place) => {
          const grad = grads[place];
          if (grad == null) target.fill(0, offset, offset + length);
          else if (!reads.has(place)) receive(place, grad);
        });
        const [loss, ...ofLookups] = await Promise.all(
          tensors.slice(0, -layout.length).map((tensor) => (tensor === null ? null : valuesOf(tensor))),
        );
        await Promise.all(reads.values());
        const lossSum = loss![0]!;
        requireFinite(lossSum, key);
        await lookups.addGradients(ofLookups, target);
        return { lossSum, realTokens };
      } finally {
        for (const tensor of tensors) tensor?.dispose();
        lookups.dispose();
      }
    },

    async gradientOnDevice(batch, key) {
      const { realTokens } = batch;
      if (realTokens === 0) return { lossSum: 0, realTokens, gradient: layout.map(() => null) };
      const lookups = new Lookups(tf);
      let tensors: (Tensor | null)[] = [];
      const gradient: (Tensor | null)[] = [];
      try {
        tensors = differentiated(batch, key, lookups);
        gradient.push(...tensors.splice(-layout.length));
        const [loss, ...ofLookups] = tensors;
        lookups.addOnDevice(ofLookups, (table) => {
          const place = layout.indexOf(table);
          gradient[place] ??= tf.fill([...table.shape], 0);
          return gradient[place];
        });
        const lossSum = (await valuesOf(loss!))[0]!;
        requireFinite(lossSum, key);
        return { lossSum, realTokens, gradient };
      } catch (error) {
        for (const tensor of gradient) tensor?.dispose();
        throw error;
      } finally {
        for (const tensor of tensors) tensor?.dispose();
        lookups.dispose();
      }
    },

    async evaluate(batch) {
      const { realTokens } = batch;
      if (realTokens === 0) return { lossSum: 0, realTokens };
      const loss = tf.tidy(() => evaluationLoss(trained, uploaded(), batch));
      try {
        return { lossSum: (await valuesOf(loss))[0]!, realTokens };
      } finally {
        loss.dispose();
      }
    },

    dispose() {
      tf.dispose(leaves);
      leaves = [];
    },
  };
}

/** Every tensor of the model is float32 but for indices, which are not asked for here. */
async function valuesOf(tensor: Tensor): Promise<Float32Array> {
  return (await tensor.data()) as Float32Array;
}

function requireFinite(lossSum: number, { step, slot }: SlotKey): void {
  if (Number.isFinite(lossSum)) return;
  throw new LockstepError(
    'NOT_FINITE',
    `the loss of step ${step}, slot ${slot} is ${lossSum}; lower optimizer.learningRate or set optimizer.clipNorm`,
    { context: { step, slot, lossSum } },
  );
}
