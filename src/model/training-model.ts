/**
 * The model as a worker uses it: parameters in, flat gradient out. The only stateful thing here is
 * the uploaded parameter tensors; a gradient is a function of (parameters, batch, key) alone.
 *
 * Invariants: no tensor outlives a call but the parameters; at this border all vectors are flat
 * Float32Arrays in layout order. Losses are sums over real tokens: the division by the step's token
 * count happens once, after the reduction (DESIGN.md section 3).
 * Values come back from the device asynchronously, all of a computation's at once: WebGPU has no other way.
 * The input embedding is looked up outside the differentiated function; its gradient rows are added
 * into the tied table's on the host, in row order: the same bits on every engine, no scatter-add.
 */
import { assert, LockstepError, layoutSize, type ParameterLayout } from '../base/index.ts';
import type { ModelConfig, ObjectiveConfig } from '../config/index.ts';
import type { MicroBatch } from '../data/index.ts';
import { argMaxTokens, crossEntropySumOnly } from './cross-entropy.ts';
import { decodeFully, decoderStart } from './decoder.ts';
import type { Tensor, Tf } from './differentiable.ts';
import { type DropoutMasks, dropoutFor, noDropout, type SlotKey } from './dropout.ts';
import { encode, type Pass, paddingBias } from './encoder.ts';
import { drawExitLayers, planExits } from './exit-layers.ts';
import { lplmLossSum } from './lplm.ts';
import type { SourceBatch, SpecialIds } from './micro-batch.ts';
import { type ParameterTree, POSITION_OFFSET, parameterLayout, treeOf } from './parameters.ts';

export interface TrainingModelOptions {
  readonly tf: Tf;
  readonly model: ModelConfig;
  readonly objective: ObjectiveConfig;
  readonly specialIds: SpecialIds;
  readonly dropoutMasks: DropoutMasks;
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
  /** Loss at full depth, without dropout: what the last layer alone would say. */
  evaluate(batch: MicroBatch): Promise<GradientResult>;
  /** Decodes `targetLength` slots at full depth; one array of ids per row, cut before the first `</s>`. */
  generate(batch: SourceBatch, targetLength: number): Promise<Int32Array[]>;
  dispose(): void;
}

/** The four inputs that are looked up in tables; their gradients are rows of the tables' gradients. */
interface Inputs {
  readonly lookup_BSD: Tensor;
  readonly encoderPositions_SD: Tensor;
  readonly bos_1D: Tensor;
  readonly mask_1D: Tensor;
  readonly decoderPositions_TD: Tensor;
}

export function createTrainingModel(options: TrainingModelOptions): TrainingModel {
  const { tf, model, objective, specialIds, dropoutMasks } = options;
  const layout = parameterLayout(model);
  const size = layoutSize(layout);
  const tables = treeOf(model, layout);
  let leaves: Tensor[] = [];

  const uploaded = (): ParameterTree<Tensor> => {
    assert(leaves.length > 0, 'setParameters comes before any computation');
    return treeOf(model, leaves);
  };

  const lookUp = (tree: ParameterTree<Tensor>, batch: SourceBatch, targetLength: number): Inputs => {
    requireLength(model, 'source', batch.sourceLength);
    requireLength(model, 'target', targetLength);
    const { dModel } = model;
    const ids = tf.tensor(batch.sourceIds.slice(), [batch.batchSize, batch.sourceLength], 'int32');
    const row = (id: number) => tf.slice(tree.shared, [id, 0], [1, dModel]);
    const positions = (table: Tensor, count: number) =>
      tf.slice(table, [POSITION_OFFSET, 0], [count, dModel]);
    return {
      lookup_BSD: tf.gather(tree.shared, ids),
      encoderPositions_SD: positions(tree.encoder.positions, batch.sourceLength),
      bos_1D: row(specialIds.bos),
      mask_1D: row(specialIds.mask),
      decoderPositions_TD: positions(tree.decoder.positions, targetLength),
    };
  };

  const startAndEncoded = (
    pass: Pass,
    tree: ParameterTree<Tensor>,
    inputs: Inputs,
    { batchSize, sourceLength, sourceLengths }: SourceBatch,
  ) => {
    const { lookup_BSD, encoderPositions_SD, bos_1D, mask_1D, decoderPositions_TD } = inputs;
    const keyBias = paddingBias(tf, sourceLengths, sourceLength);
    const hidden = encode(pass, tree, lookup_BSD, encoderPositions_SD, keyBias);
    const start = decoderStart(pass, tree, batchSize, bos_1D, mask_1D, decoderPositions_TD);
    return { start, encoded: { batchSize, hidden, keyBias } };
  };

  const decodeAll = (batch: SourceBatch, targetLength: number): Tensor => {
    const tree = uploaded();
    const pass = { tf, model, masks: noDropout };
    const inputs = lookUp(tree, batch, targetLength);
    const { start, encoded } = startAndEncoded(pass, tree, inputs, batch);
    return decodeFully(pass, tree, start, encoded);
  };

  const writeGradient = (
    batch: MicroBatch,
    grads: readonly (Float32Array | null)[],
    numInputs: number,
    target: Float32Array,
  ): void => {
    target.fill(0);
    layout.forEach((entry, index) => {
      const grad = grads[numInputs + index];
      if (grad != null) target.set(grad, entry.offset);
    });
    const { dModel } = model;
    const [lookup, encoderPositions, bos, mask, decoderPositions] = grads
      .slice(0, numInputs)
      .map((grad) => grad ?? new Float32Array());
    target.set(encoderPositions!, tables.encoder.positions.offset + POSITION_OFFSET * dModel);
    target.set(decoderPositions!, tables.decoder.positions.offset + POSITION_OFFSET * dModel);
    const table = target.subarray(tables.shared.offset, tables.shared.offset + tables.shared.size);
    batch.sourceIds.forEach((id, row) => {
      const isPadding =
        row % batch.sourceLength >= batch.sourceLengths[Math.floor(row / batch.sourceLength)]!;
      if (!isPadding) addRow(table, id, lookup!, row, dModel);
    });
    addRow(table, specialIds.bos, bos!, 0, dModel);
    addRow(table, specialIds.mask, mask!, 0, dModel);
  };

  return {
    layout,

    setParameters(flat) {
      assert(flat.length === size, `parameter vector of ${flat.length} floats, layout has ${size}`);
      tf.dispose(leaves);
      leaves = layout.map(({ shape, offset, size: length }) =>
        // A copy: tfjs reads the array it is given only when an operation first needs it.
        tf.tensor(flat.slice(offset, offset + length), [...shape]),
      );
    },

    async gradient(batch, key, target) {
      assert(target.length === size, `gradient of ${target.length} floats, layout has ${size}`);
      const tree = uploaded();
      const { batchSize, targetLength, labels, realTokens } = batch;
      if (realTokens === 0) {
        target.fill(0);
        return { lossSum: 0, realTokens };
      }
      const plan = planExits({
        batchSize,
        targetLength,
        numLayers: model.decoderLayers,
        exitLayers: drawExitLayers(key, batchSize * targetLength, model.decoderLayers),
        labels,
        padId: specialIds.pad,
        detachCopies: objective.detachCopies,
      });
      assert(plan.labels.length === realTokens, `${plan.labels.length} labels of ${realTokens} real tokens`);
      const { value, grads, numInputs } = tf.tidy(() => {
        const pass = { tf, model, masks: dropoutFor(tf, dropoutMasks, key, model) };
        const inputs = lookUp(tree, batch, targetLength);
        const sources = Object.values(inputs) as Tensor[];
        const forward = () => {
          const { start, encoded } = startAndEncoded(pass, tree, inputs, batch);
          return lplmLossSum(pass, tree, start, encoded, plan) as ReturnType<Tf['scalar']>;
        };
        // Not `tf.valueAndGrads`, which refuses a parameter that the loss does not reach: a layer above
        // every drawn exit.
        const computed = tf.engine().gradients(forward, [...sources, ...leaves], undefined, true);
        return { ...computed, numInputs: sources.length };
      });
      const [lossSum, ...values] = await download([value, ...grads]);
      requireFinite(lossSum![0]!, key);
      writeGradient(batch, values, numInputs, target);
      return { lossSum: lossSum![0]!, realTokens };
    },

    async evaluate(batch) {
      const { labels, realTokens, targetLength } = batch;
      if (realTokens === 0) return { lossSum: 0, realTokens };
      const rows = Int32Array.from(labels.keys()).filter((row) => labels[row] !== specialIds.pad);
      const lossSum = tf.tidy(() => {
        const picked = tf.gather(decodeAll(batch, targetLength), tf.tensor1d(rows, 'int32'));
        const wanted = rows.map((row) => labels[row]!);
        return crossEntropySumOnly(tf, picked, uploaded().shared, wanted);
      });
      const [value] = await download([lossSum]);
      return { lossSum: value![0]!, realTokens };
    },

    async generate(batch, targetLength) {
      const hidden = tf.tidy(() => decodeAll(batch, targetLength));
      const tokens = await argMaxTokens(tf, hidden, uploaded().shared);
      hidden.dispose();
      return Array.from({ length: batch.batchSize }, (_, row) => {
        const slots = tokens.slice(row * targetLength, (row + 1) * targetLength);
        const end = slots.indexOf(specialIds.eos);
        return end === -1 ? slots : slots.slice(0, end);
      });
    },

    dispose() {
      tf.dispose(leaves);
      leaves = [];
    },
  };
}

/** Adds row `from` of `rows` to row `to` of `table`. */
function addRow(table: Float32Array, to: number, rows: Float32Array, from: number, width: number): void {
  const target = to * width;
  const source = from * width;
  for (let column = 0; column < width; column += 1) table[target + column]! += rows[source + column]!;
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

function requireLength(model: ModelConfig, what: string, length: number): void {
  if (length >= 1 && length <= model.maxPositions) return;
  throw new LockstepError(
    'CONFIG_INVALID',
    `a ${what} of ${length} tokens does not fit model.maxPositions ${model.maxPositions}; raise it or lower data.sequenceLength`,
    { context: { field: 'model.maxPositions', value: model.maxPositions, length } },
  );
}
