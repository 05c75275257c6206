/**
 * The engine's own kernels one by one, at the sizes of a micro-batch: time, and the shares of the device's peaks of
 * products and of memory that it makes use of. Operations and bytes are those that the kernel's result asks for;
 * what it computes twice does not count.
 */
import { FUSED_KERNELS, type FusedKernelName, WHOLE_KERNELS } from '../../base/index.ts';
import type { Engine } from '../../engine/index.ts';
import { summarize } from '../statistics.ts';

type Tf = Engine['tf'];
type Tensor = ReturnType<Tf['tensor']>;

export interface KernelSizes {
  readonly batchSize: number;
  readonly tokens: number;
  readonly dModel: number;
  readonly ffnDim: number;
  readonly heads: number;
  readonly vocabSize: number;
}

export interface KernelFigures {
  readonly name: string;
  readonly milliseconds: number;
  /** How much longer the first call took: the compilation of its shaders. */
  readonly compilationMs: number;
  readonly flops: number;
  /** Read and written. */
  readonly bytes: number;
}

interface Case {
  readonly name: string;
  readonly kernel: FusedKernelName;
  readonly inputs: Readonly<Record<string, readonly number[]>>;
  readonly attributes?: Readonly<Record<string, number>>;
  readonly flops: number;
  readonly bytes: number;
}

/** Logits that the off-ramp holds at a time, as in the model. */
const LOGITS_MAX = 2 ** 24;

function casesOf({ batchSize, tokens, dModel, ffnDim, heads, vocabSize }: KernelSizes): Case[] {
  const rows = batchSize * tokens;
  const [wide, narrow] = [rows * ffnDim, rows * dModel];
  const weights = ffnDim * dModel;
  const attributes = { batchSize, heads, scale: 1 / Math.sqrt(dModel / heads) };
  const scores = batchSize * heads * tokens * tokens;
  const table = vocabSize * dModel;
  const row = [rows, dModel];
  return [
    {
      name: 'linear',
      kernel: FUSED_KERNELS.linear,
      inputs: { x: row, weight: [ffnDim, dModel], bias: [ffnDim] },
      flops: 2 * rows * weights,
      bytes: 4 * (narrow + weights + wide),
    },
    {
      name: 'linear gradient',
      kernel: FUSED_KERNELS.linearGradient,
      inputs: { dy: [rows, ffnDim], x: row, weight: [ffnDim, dModel] },
      flops: 4 * rows * weights,
      bytes: 4 * (2 * narrow + 2 * weights + wide),
    },
    {
      name: 'layer norm',
      kernel: FUSED_KERNELS.layerNorm,
      inputs: { x: row, y: row, weight: [dModel], bias: [dModel] },
      attributes: { epsilon: 1e-5 },
      flops: 0,
      bytes: 4 * 4 * narrow,
    },
    {
      name: 'layer norm gradient',
      kernel: FUSED_KERNELS.layerNormGradient,
      inputs: { dy: row, unit: row, scale: [rows, 1], weight: [dModel] },
      flops: 0,
      bytes: 4 * 3 * narrow,
    },
    {
      name: 'GELU',
      kernel: FUSED_KERNELS.gelu,
      inputs: { x: [rows, ffnDim] },
      flops: 0,
      bytes: 4 * 3 * wide,
    },
    {
      name: 'attention',
      kernel: FUSED_KERNELS.attention,
      inputs: { query: row, key: row, value: row },
      attributes,
      flops: (4 * scores * dModel) / heads,
      bytes: 4 * 4 * narrow,
    },
    {
      name: 'attention gradient',
      kernel: FUSED_KERNELS.attentionGradient,
      inputs: { dContext: row, query: row, key: row, value: row },
      attributes,
      flops: (8 * scores * dModel) / heads,
      bytes: 4 * 8 * narrow,
    },
    {
      name: 'cross entropy',
      kernel: WHOLE_KERNELS.chunkedCrossEntropy,
      inputs: { rows: row, table: [vocabSize, dModel] },
      attributes: { rowsAtOnce: Math.max(16, Math.floor(LOGITS_MAX / vocabSize)), gradients: 1 },
      flops: 6 * rows * table,
      bytes: 4 * (2 * narrow + 2 * table),
    },
  ];
}

/**
 * Medians of `repeats` samples of `calls` calls each; an engine without these kernels has none.
 * @param calls more than one where what a read takes would count beside a kernel
 */
export async function measureKernels(
  tf: Tf,
  sizes: KernelSizes,
  { repeats, calls }: { readonly repeats: number; readonly calls: number },
): Promise<KernelFigures[]> {
  const figures: KernelFigures[] = [];
  for (const { name, kernel, inputs: shapes, attributes, flops, bytes } of casesOf(sizes)) {
    if (tf.getKernel(kernel, tf.getBackend()) === undefined) continue;
    const inputs: Record<string, Tensor> = Object.fromEntries(
      Object.entries(shapes).map(([input, shape], seed) => [
        input,
        tf.randomUniform([...shape], -0.1, 0.1, 'float32', seed),
      ]),
    );
    if (kernel === WHOLE_KERNELS.chunkedCrossEntropy) {
      inputs.labels = tf.zeros([sizes.batchSize * sizes.tokens], 'int32');
    }
    if (kernel === FUSED_KERNELS.attentionGradient) keepOfForward(tf, inputs, { ...attributes });
    const sample = async (count: number) => {
      const startMs = performance.now();
      for (let call = 1; call <= count; call += 1) {
        const results = tf.engine().runKernel(kernel, inputs, { ...attributes }) as Tensor[];
        // One value is read, so that the time is the device's; without it nothing waits for it.
        if (call === count) await tf.tidy(() => tf.slice(tf.reshape(results[0]!, [-1]), [0], [1])).data();
        tf.dispose(results);
      }
      return (performance.now() - startMs) / count;
    };
    const firstMs = await sample(1);
    const onceMs = await sample(1);
    const samples: number[] = [];
    for (let round = 0; round < repeats; round += 1) samples.push(await sample(calls));
    tf.dispose(inputs);
    const milliseconds = summarize(samples).median;
    figures.push({ name, milliseconds, compilationMs: Math.max(0, firstMs - onceMs), flops, bytes });
  }
  return figures;
}

/** Puts what the forward kernel keeps, which differs from engine to engine, in the place of its operands. */
function keepOfForward(tf: Tf, inputs: Record<string, Tensor>, attributes: Record<string, number>): void {
  const { query, key, value } = inputs;
  const operands = { query: query!, key: key!, value: value! };
  const [context, ...kept] = tf.engine().runKernel(FUSED_KERNELS.attention, operands, attributes) as Tensor[];
  const names = ['query', 'key', 'value', 'weights', 'kept'];
  Object.assign(
    inputs,
    { context },
    Object.fromEntries(kept.map((tensor, index) => [names[index]!, tensor])),
  );
  // An engine may keep an operand itself.
  for (const operand of Object.values(operands)) if (!kept.includes(operand)) operand.dispose();
}

/** Bytes per second of reading and writing memory: a product with a number, element by element. */
export async function measureBandwidth(
  tf: Tf,
  floats: number,
  repeats: number,
  calls: number,
): Promise<number> {
  const x = tf.zeros([floats]);
  const seconds: number[] = [];
  for (let round = 0; round <= repeats; round += 1) {
    const startMs = performance.now();
    const last = tf.tidy(() => {
      let y = x;
      for (let call = 0; call < calls; call += 1) y = tf.mul(y, 1.5);
      return tf.slice(y, [0], [1]);
    });
    await last.data();
    last.dispose();
    if (round > 0) seconds.push((performance.now() - startMs) / 1000);
  }
  x.dispose();
  return (2 * 4 * floats * calls) / summarize(seconds).median;
}
