/** Gradients of LPLM on one device, for micro-batches of full rows of random tokens: times by phase, operations, memory. */
import { execFileSync } from 'node:child_process';
import { layoutSize, PhiloxRng } from '../../base/index.ts';
import { type ModelConfig, PRESETS } from '../../config/index.ts';
import type { MicroBatch } from '../../data/index.ts';
import type { DeviceGradient, Engine } from '../../engine/index.ts';
import { createKernels } from '../../kernels/index.ts';
import { createTrainingModel, initializeParameters } from '../../model/index.ts';
import { summarize } from '../statistics.ts';
import { countProductFlops } from './mat-mul.ts';

export interface TrainingSize {
  readonly model: ModelConfig;
  readonly batchSize: number;
  /** Of each source and target. */
  readonly tokens: number;
  readonly repeats: number;
}

/** Medians, in milliseconds. */
export interface GpuFigures {
  readonly batchSize: number;
  readonly tokens: number;
  /** One micro-batch, parameters on the device, gradient in the host's memory. */
  readonly gradientMs: number;
  /** The same with all reads after the pass: what reading during it spares. */
  readonly readAfterMs: number;
  /** As much of that as is not reading back. */
  readonly computeMs: number;
  /** Reading tensors of the gradient's sizes back. */
  readonly readBackMs: number;
  /** What a gradient takes longer right after new parameters. */
  readonly uploadMs: number;
  /** The same and all that makes it part of a worker's sums: finiteness, flush, one addition; by the host. */
  readonly slotOnHostMs: number;
  /** The same, all of it on the device; null where the engine leaves sums to the host. */
  readonly slotOnDeviceMs: number | null;
  /** How much longer the first one took: the compilation of its shaders. */
  readonly compilationMs: number;
  /** Of the matrix products of one gradient; null where the engine runs them past tfjs. */
  readonly productFlops: number | null;
  /** Held on the device afterwards, freed buffers that are kept for the next micro-batch among them; null where not known. */
  readonly deviceBytes: number | null;
}

const SPECIAL_IDS = { bos: 0, pad: 1, eos: 2, mask: 3 };
const KEY = { seed: 1, step: 1, slot: 0 };

/** `helpers`: that the host's sums are shared with, as in a worker. */
export async function measureTraining(
  engine: Engine,
  size: TrainingSize,
  helpers: SharedArrayBuffer | null,
): Promise<GpuFigures> {
  const { tf } = engine;
  const { model, batchSize, tokens, repeats } = size;
  const { objective } = PRESETS.base;
  const kernels = createKernels('float32', helpers);
  const create = (readsBeside: boolean) =>
    createTrainingModel({
      ...{ tf, model, objective, readsBeside },
      specialIds: SPECIAL_IDS,
      dropoutMasks: kernels,
      readInto: engine.readInto,
    });
  const [training, readingAfter] = [create(engine.readsBeside), create(false)];
  const parameters = new Float32Array(layoutSize(training.layout));
  initializeParameters(training.layout, model, 1, parameters);
  const gradient = new Float32Array(parameters.length);
  const batch = randomBatch(model.vocabSize, batchSize, tokens);
  const compute = () => training.gradient(batch, KEY, gradient);
  try {
    training.setParameters(parameters);
    const firstMs = await timed(compute);
    const productFlops = await countProductFlops(tf, compute);
    const gradientMs = await medianOf(repeats, () => timed(compute));
    const sum = new Float32Array(parameters.length);
    const slotOnHostMs = await medianOf(repeats, () =>
      timed(async () => {
        await compute();
        kernels.addLeaf(gradient, [sum]);
      }),
    );
    const slotOnDeviceMs = await timeSlotOnDevice(engine, repeats, () =>
      training.gradientOnDevice(batch, KEY),
    );
    readingAfter.setParameters(parameters);
    const readAfterMs = await medianOf(repeats, () =>
      timed(() => readingAfter.gradient(batch, KEY, gradient)),
    );
    readingAfter.dispose();
    const afterUploadMs = await medianOf(repeats, () => {
      training.setParameters(parameters);
      return timed(compute);
    });
    const readBackMs = await medianOf(repeats, () => timeReadBack(tf, training.layout));
    return {
      ...{ batchSize, tokens, gradientMs, readAfterMs, readBackMs, productFlops },
      ...{ slotOnHostMs, slotOnDeviceMs },
      compilationMs: Math.max(0, firstMs - gradientMs),
      computeMs: Math.max(0, readAfterMs - readBackMs),
      uploadMs: Math.max(0, afterUploadMs - gradientMs),
      deviceBytes: deviceBytes(engine),
    };
  } finally {
    training.dispose();
    readingAfter.dispose();
  }
}

async function timeSlotOnDevice(
  engine: Engine,
  repeats: number,
  compute: () => Promise<{ readonly gradient: DeviceGradient }>,
): Promise<number | null> {
  const sums = await engine.deviceSums();
  if (sums === null) return null;
  const slot = async (before: DeviceGradient | null) => {
    const { leaf } = await sums.leaf((await compute()).gradient);
    return before === null ? leaf : sums.add(before, leaf);
  };
  // Its shaders are compiled then.
  let sum = await slot(await slot(null));
  const milliseconds = await medianOf(repeats, () =>
    timed(async () => {
      sum = await slot(sum);
    }),
  );
  for (const tensor of sum) tensor?.dispose();
  return milliseconds;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

async function medianOf(repeats: number, sample: () => Promise<number>): Promise<number> {
  const samples: number[] = [];
  for (let round = 0; round < repeats; round += 1) samples.push(await sample());
  return summarize(samples).median;
}

/** Fresh values of every parameter's shape, computed on the device, then read back as a gradient is. */
async function timeReadBack(
  tf: Engine['tf'],
  layout: readonly { readonly shape: readonly number[] }[],
): Promise<number> {
  const tensors = layout.map(({ shape }) => tf.fill([...shape], 1));
  // The device has computed them all once the last can be read.
  const last = tf.tidy(() => tf.sum(tensors.at(-1)!));
  await last.data();
  const milliseconds = await timed(() => Promise.all(tensors.map((tensor) => tensor.data())));
  tf.dispose([last, ...tensors]);
  return milliseconds;
}

function randomBatch(vocabSize: number, batchSize: number, tokens: number): MicroBatch {
  const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream: 0, step: 0, slot: 0 });
  const ids = () => Int32Array.from({ length: batchSize * tokens }, () => 4 + rng.nextInt(vocabSize - 4));
  return {
    ...{ batchSize, sourceLength: tokens, targetLength: tokens, realTokens: batchSize * tokens },
    ...{ sourceIds: ids(), labels: ids() },
    sourceLengths: new Int32Array(batchSize).fill(tokens),
  };
}

function deviceBytes({ name, tf }: Engine): number | null {
  if (name === 'webgpu') {
    // The backend's own count, which tfjs does not type.
    return (tf.memory() as ReturnType<Engine['tf']['memory']> & { numBytesAllocatedInGPU: number })
      .numBytesAllocatedInGPU;
  }
  try {
    const flags = ['--query-compute-apps=pid,used_memory', '--format=csv,noheader,nounits'];
    const lines = execFileSync('nvidia-smi', flags, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).split('\n');
    const ours = lines.find((line) => Number(line.split(',')[0]) === process.pid);
    return ours === undefined ? null : Number(ours.split(',')[1]) * 2 ** 20;
  } catch {
    return null;
  }
}
