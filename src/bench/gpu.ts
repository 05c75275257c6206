/**
 * `npm run bench:gpu`: what a graphics card trains, beside PyTorch on the same card. Prints tables and keeps
 * all figures as JSON. A figure is measured or not printed. Without a card it says so and fails, unless
 * asked to prove on a software driver, or the CPU, that it works.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { type Column, LockstepError, messageOf, renderTable } from '../base/index.ts';
import {
  ENGINE_NAMES,
  type EngineName,
  MATMUL_PRECISIONS,
  type MatmulPrecision,
  PRESETS,
} from '../config/index.ts';
import { loadEngine, probeEngine, settleEngine } from '../engine/index.ts';
import { HostThreads, usefulHostThreads } from '../kernels/index.ts';
import { type KernelFigures, measureBandwidth, measureKernels } from './gpu/kernels.ts';
import { measureMatMul } from './gpu/mat-mul.ts';
import { measureTorch, type TorchFigures } from './gpu/torch.ts';
import { type GpuFigures, measureTraining, type TrainingSize } from './gpu/training.ts';
import { formatFigure, NOT_MEASURED } from './table.ts';

const RESULTS = fileURLToPath(new URL('../../bench/results/', import.meta.url));

const FULL = {
  model: { ...PRESETS.base.model, vocabSize: 50_265 },
  tokens: 128,
  rows: [8, 16, 32, 64],
  repeats: 10,
  matMulSide: 4096,
  streamedFloats: 2 ** 24,
  calls: 20,
};
/** Small enough for a software driver: proves that everything runs, and says nothing about a card. */
const TINY = {
  model: {
    ...PRESETS.tiny.model,
    ...{ vocabSize: 64, dModel: 16, heads: 2, ffnDim: 32, encoderLayers: 1, decoderLayers: 1 },
  },
  tokens: 8,
  rows: [1],
  repeats: 1,
  matMulSide: 64,
  streamedFloats: 2 ** 18,
  calls: 1,
};

interface Flags {
  readonly engine: EngineName | 'auto';
  readonly device?: string;
  readonly allowSoftware?: boolean;
  readonly matmulPrecision: MatmulPrecision;
  readonly rows?: readonly number[];
}

const program = new Command('bench:gpu')
  .description('tokens/s of LPLM on a graphics card, by micro-batch size, beside PyTorch on the same card')
  .option('--engine <name>', `compute engine: auto, ${ENGINE_NAMES.join(', ')}`, 'auto')
  .option('--device <device>', 'which card, by index or name as `lockstep doctor` lists them')
  .option('--micro-batch-sizes <list>', 'sequences in a micro-batch, as 8,16', sizes)
  .addOption(
    new Option(
      '--matmul-precision <type>',
      'what the operands of products are rounded to; float16 with webgpu',
    )
      .choices(MATMUL_PRECISIONS)
      .default('float32'),
  )
  .option('--allow-software', 'without a card: a tiny version on a software driver or the CPU')
  .action(async (flags: Flags & { microBatchSizes?: readonly number[] }) => {
    try {
      await benchmark({ ...flags, ...(flags.microBatchSizes && { rows: flags.microBatchSizes }) });
    } catch (error) {
      const line = error instanceof LockstepError ? `${error.code}: ${error.message}` : messageOf(error);
      process.stderr.write(`bench:gpu: ${line}\n`);
      process.exitCode = 1;
    }
  });
await program.parseAsync();
// A device may keep the process alive.
process.exit();

async function benchmark({
  engine: asked,
  device,
  allowSoftware,
  matmulPrecision,
  rows,
}: Flags): Promise<void> {
  const name = asked === 'auto' ? (await settleEngine()).name : asked;
  const probe = await probeEngine(name);
  if (!probe.available) throw new LockstepError('ENGINE_UNAVAILABLE', `engine ${name}: ${probe.reason}`);
  if (!probe.isGpu && allowSoftware !== true) {
    throw new LockstepError(
      'ENGINE_UNAVAILABLE',
      `engine ${name} would compute on ${probe.device}, which is no graphics card: see \`lockstep doctor\`, or add --allow-software for a tiny trial`,
    );
  }
  const {
    model,
    tokens,
    repeats,
    matMulSide,
    streamedFloats,
    calls,
    rows: usual,
  } = probe.isGpu ? FULL : TINY;
  const engine = await loadEngine(name, {
    ...{ threads: 1, device: device ?? null, matmulPrecision },
  });
  say(`engine ${name}: ${engine.version}`);
  if (!probe.isGpu)
    say('no graphics card: a tiny model, to prove that this runs; the figures say nothing about a card');

  const peak = await measureMatMul(engine.tf, matMulSide, repeats);
  const bandwidth = await measureBandwidth(engine.tf, streamedFloats, repeats, calls);
  say(
    `peaks that shares refer to: ${formatFigure(peak / 1e9)} GFLOP/s in a product ${matMulSide}^3 in float32, ` +
      `${formatFigure(bandwidth / 1e9)} GB/s in reading and writing ${streamedFloats} floats`,
  );
  const kernelRows = (rows ?? usual)[0]!;
  const kernels = await measureKernels(
    engine.tf,
    { ...model, batchSize: kernelRows, tokens },
    { repeats, calls },
  );
  reportKernels(kernels, peak, bandwidth, kernelRows);
  const threads = new HostThreads(usefulHostThreads(1), say);
  say(
    `the host adds up on ${threads.count} ${threads.count === 1 ? 'thread' : 'threads'}, as a worker alone here does`,
  );
  const figures: GpuFigures[] = [];
  for (const batchSize of rows ?? usual) {
    const size: TrainingSize = { model, batchSize, tokens, repeats };
    try {
      figures.push(await measureTraining(engine, size, threads.shared));
    } catch (error) {
      const trouble = engine.troubleOf(error);
      if (trouble === null) throw error;
      say(`${batchSize} sequences: ${trouble.kind === 'outOfMemory' ? 'out of memory' : trouble.reason}`);
      await engine.restart();
    }
  }
  const torch = probe.isGpu
    ? await measureTorch({ model, tokens, repeats, rows: rows ?? usual })
    : { reason: 'there is no graphics card' };
  report(figures, peak, torch);
  const file = join(RESULTS, `gpu-${new Date().toISOString().replace(/[:.]/g, '-')}.json`);
  await mkdir(dirname(file), { recursive: true });
  const hostThreads = threads.count;
  const facts = {
    ...{ engine: engine.version, isGpu: probe.isGpu, peakFlops: peak, bandwidth, model, tokens, hostThreads },
  };
  await writeFile(file, `${JSON.stringify({ ...facts, kernels, lockstep: figures, torch }, null, 2)}\n`);
  say(`all figures: ${file}`);
}

function reportKernels(
  kernels: readonly KernelFigures[],
  peak: number,
  bandwidth: number,
  batchSize: number,
): void {
  if (kernels.length === 0) {
    say('this engine has no kernels of its own that could be timed one by one');
    return;
  }
  const right = (title: string): Column => ({ title, align: 'right' });
  const share = (amount: number, milliseconds: number, most: number) =>
    amount === 0 ? NOT_MEASURED : `${formatFigure((100 * amount) / (milliseconds / 1000) / most)} %`;
  const columns: Column[] = [
    { title: `kernel, ${batchSize} sequences`, align: 'left' },
    ...['ms', 'of product peak', 'of memory peak', 'compilation ms'].map(right),
  ];
  const rows = kernels.map(({ name, milliseconds, compilationMs, flops, bytes }) => [
    name,
    formatFigure(milliseconds),
    share(flops, milliseconds, peak),
    share(bytes, milliseconds, bandwidth),
    formatFigure(compilationMs),
  ]);
  for (const line of renderTable(columns, rows)) say(line);
}

function report(figures: readonly GpuFigures[], peak: number, torch: TorchFigures): void {
  const right = (title: string): Column => ({ title, align: 'right' });
  const columns = [
    ...['B', 'tokens/s', 'gradient ms', 'read after ms', 'compute ms', 'read back ms'].map(right),
    ...['upload ms', 'compilation ms', 'slot ms', 'slot on device ms'].map(right),
    ...['GFLOP/s in products', 'share of peak', 'device MiB', 'torch f32', 'torch bf16'].map(right),
  ];
  const peer = (precision: 'float32' | 'bfloat16', batchSize: number): string => {
    const found =
      'reason' in torch
        ? undefined
        : torch.figures.find((other) => other.precision === precision && other.batchSize === batchSize);
    return found === undefined ? NOT_MEASURED : formatFigure(found.tokensPerSecond);
  };
  const rows = figures.map((of) => {
    const rate =
      of.productFlops === null || of.computeMs === 0 ? null : of.productFlops / (of.computeMs / 1000);
    return [
      String(of.batchSize),
      formatFigure((of.batchSize * of.tokens) / (of.gradientMs / 1000)),
      ...[of.gradientMs, of.readAfterMs, of.computeMs, of.readBackMs].map(formatFigure),
      ...[of.uploadMs, of.compilationMs, of.slotOnHostMs].map(formatFigure),
      of.slotOnDeviceMs === null ? NOT_MEASURED : formatFigure(of.slotOnDeviceMs),
      rate === null ? NOT_MEASURED : formatFigure(rate / 1e9),
      rate === null ? NOT_MEASURED : `${formatFigure((100 * rate) / peak)} %`,
      of.deviceBytes === null ? NOT_MEASURED : formatFigure(of.deviceBytes / 2 ** 20),
      peer('float32', of.batchSize),
      peer('bfloat16', of.batchSize),
    ];
  });
  for (const line of renderTable(columns, rows)) say(line);
  say(
    'tokens are target slots; read after is a gradient whose reads all wait for the pass, compute what it takes beyond them; ' +
      'compilation is what the first one took longer; a slot is a gradient brought into the sums of a range, on the host or on the device',
  );
  say(
    'reason' in torch
      ? `PyTorch: not measured, ${torch.reason}`
      : `PyTorch ${torch.version} on ${torch.device}, tokens/s`,
  );
}

function sizes(text: string): readonly number[] {
  const values = text.split(',').map(Number);
  if (values.some((value) => !Number.isInteger(value) || value < 1))
    throw new InvalidArgumentError('expected sizes as 8,16');
  return values;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
