/**
 * A micro-batch's gradient, whatever happens to the device under way. All that a step needs lies in the
 * host's memory, so a device that was lost costs its work on one micro-batch: the engine starts afresh,
 * takes the parameters again and computes the same gradient, to the bit.
 *
 * A device that is out of memory may be full of what other micro-batches left, so it gets one fresh start
 * too. If that is not enough the run cannot go on here, and the size that would fit is found by trying.
 */
import { LockstepError, messageOf } from '../base/index.ts';
import { type MicroBatch, PAD_ID } from '../data/index.ts';
import type { DeviceTrouble, Engine } from '../engine/index.ts';
import type { GradientResult, TrainingModel } from '../model/index.ts';

/** Fresh starts for one micro-batch. A device that fails once more is broken. */
const RESTARTS_MAX = 3;

export interface DeviceContext {
  readonly engine: Pick<Engine, 'device' | 'restart' | 'troubleOf'>;
  readonly model: Pick<TrainingModel, 'gradient' | 'setParameters'>;
  /** What the model was given last. */
  readonly parameters: Float32Array;
  /** Hears of each fresh start. */
  onRestart(trouble: DeviceTrouble): void;
}

/** Writes the gradient to `target`. Throws DEVICE_FAILED when the device cannot compute it, and what `gradient` throws. */
export async function gradientDespiteTrouble(
  context: DeviceContext,
  batch: MicroBatch,
  key: Parameters<TrainingModel['gradient']>[1],
  target: Float32Array,
): Promise<GradientResult> {
  const { engine, model } = context;
  for (let restarts = 0; ; restarts += 1) {
    try {
      return await model.gradient(batch, key, target);
    } catch (error) {
      const trouble = engine.troubleOf(error);
      if (trouble === null) throw error;
      if (trouble.kind === 'outOfMemory' && restarts > 0) {
        const fitting = await largestFitting(context, batch, key, target);
        throw outOfMemory(engine.device, batch.batchSize, fitting, error);
      }
      if (restarts === RESTARTS_MAX) throw broken(engine.device, trouble, error);
      context.onRestart(trouble);
      await freshStart(context);
    }
  }
}

async function freshStart({ engine, model, parameters }: DeviceContext): Promise<void> {
  await engine.restart();
  model.setParameters(parameters);
}

/** The most rows of the micro-batch that the device takes, of its half, its quarter and so on; null when not one. */
async function largestFitting(
  context: DeviceContext,
  batch: MicroBatch,
  key: Parameters<TrainingModel['gradient']>[1],
  target: Float32Array,
): Promise<number | null> {
  for (let rows = Math.floor(batch.batchSize / 2); rows >= 1; rows = Math.floor(rows / 2)) {
    await freshStart(context);
    try {
      await context.model.gradient(firstRows(batch, rows), key, target);
      return rows;
    } catch (error) {
      if (context.engine.troubleOf(error)?.kind !== 'outOfMemory') throw error;
    }
  }
  return null;
}

/** A micro-batch of the first rows, as wide as the whole. */
export function firstRows(batch: MicroBatch, rows: number): MicroBatch {
  const labels = batch.labels.slice(0, rows * batch.targetLength);
  const padding = labels.filter((label) => label === PAD_ID).length;
  return {
    ...batch,
    batchSize: rows,
    sourceIds: batch.sourceIds.slice(0, rows * batch.sourceLength),
    sourceLengths: batch.sourceLengths.slice(0, rows),
    labels,
    realTokens: labels.length - padding,
  };
}

function outOfMemory(device: string, rows: number, fitting: number | null, cause: unknown): LockstepError {
  const remedy =
    fitting === null
      ? 'not even 1 fits: choose a smaller model, shorter sequences or another device'
      : `${fitting} fit here when tried: set step.microBatchSize to ${fitting} in a new run, or stop what else uses the device`;
  return new LockstepError(
    'DEVICE_FAILED',
    `${device} has too little memory for step.microBatchSize ${rows}; ${remedy}`,
    { context: { device, microBatchSize: rows, fitting }, cause },
  );
}

function broken(device: string, { kind, reason }: DeviceTrouble, cause: unknown): LockstepError {
  const what = kind === 'lost' ? 'was lost' : 'failed';
  return new LockstepError(
    'DEVICE_FAILED',
    `${device} ${what} ${RESTARTS_MAX + 1} times on one micro-batch: ${messageOf(reason)}; look at its driver's log`,
    { context: { device, kind }, cause },
  );
}
