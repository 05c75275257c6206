/** Matrix products: how fast the engine's own is at its best, and how many of a gradient's operations they are. */
import { FUSED_KERNELS, WHOLE_KERNELS } from '../../base/index.ts';
import type { Engine } from '../../engine/index.ts';
import { summarize } from '../statistics.ts';

type Tf = Engine['tf'];
type KernelFunc = ReturnType<Tf['getKernel']>['kernelFunc'];
/** What a kernel sees of a tensor. */
interface Shaped {
  readonly shape: readonly number[];
}
type Inputs = Readonly<Record<string, Shaped>>;
type Attributes = Readonly<Record<string, unknown>>;

/**
 * Operations per second of a square product in float32: the median of `repeats`, after one that compiles. The engine's
 * own product where it has one, and tfjs's: the faster of both.
 */
export async function measureMatMul(tf: Tf, side: number, repeats: number): Promise<number> {
  const a = tf.randomUniform([side, side], -1, 1, 'float32', 1);
  const bias = tf.zeros([side]);
  const products = [() => tf.matMul(a, a)];
  if (tf.getKernel(FUSED_KERNELS.linear, tf.getBackend()) !== undefined) {
    const inputs = { x: a, weight: a, bias };
    products.push(() => (tf.engine().runKernel(FUSED_KERNELS.linear, inputs) as [typeof a])[0]);
  }
  const seconds: number[] = [];
  for (const product of products) {
    const samples: number[] = [];
    for (let round = 0; round <= repeats; round += 1) {
      const startMs = performance.now();
      // One value is read, so that the time is the product's; without it nothing waits for the device.
      const corner = tf.tidy(() => tf.slice(product(), [0, 0], [1, 1]));
      await corner.data();
      corner.dispose();
      if (round > 0) samples.push((performance.now() - startMs) / 1000);
    }
    seconds.push(summarize(samples).median);
  }
  tf.dispose([a, bias]);
  return (2 * side ** 3) / Math.min(...seconds);
}

/** Operations of the products within a kernel, by its inputs' shapes. What a kernel computes twice counts once. */
const PRODUCT_FLOPS: Readonly<Record<string, (inputs: Inputs, attributes: Attributes) => number>> = {
  BatchMatMul: ({ a, b }, { transposeB }) => 2 * sizeOf(a!) * b!.shape.at(transposeB ? -2 : -1)!,
  [FUSED_KERNELS.linear]: ({ x, weight }) => 2 * x!.shape[0]! * sizeOf(weight!),
  [FUSED_KERNELS.linearGradient]: ({ x, weight }) => 4 * x!.shape[0]! * sizeOf(weight!),
  [FUSED_KERNELS.attention]: ({ query, key }, { batchSize }) =>
    (4 * query!.shape[0]! * sizeOf(key!)) / Number(batchSize),
  // Keys may lie in heads.
  [FUSED_KERNELS.attentionGradient]: ({ dContext, key }, { batchSize }) =>
    (8 * dContext!.shape[0]! * sizeOf(key!)) / Number(batchSize),
  [FUSED_KERNELS.crossEntropy]: ({ rows, table }) => 6 * rows!.shape[0]! * sizeOf(table!),
  [WHOLE_KERNELS.chunkedCrossEntropy]: ({ rows, table }) => 6 * rows!.shape[0]! * sizeOf(table!),
};

function sizeOf({ shape }: Shaped): number {
  return shape.reduce((product, length) => product * length, 1);
}

/**
 * Runs `compute` and adds up the multiplications and additions of its matrix products. Null where none is seen.
 */
export async function countProductFlops(tf: Tf, compute: () => Promise<unknown>): Promise<number | null> {
  const backendName = tf.getBackend();
  let flops = 0;
  const replaced = Object.entries(PRODUCT_FLOPS).flatMap(([name, flopsOf]) => {
    const config = tf.getKernel(name, backendName);
    if (config === undefined) return [];
    const counting: KernelFunc = (parameters) => {
      const { inputs, attrs } = parameters;
      flops += flopsOf(inputs as unknown as Inputs, (attrs ?? {}) as unknown as Attributes);
      return config.kernelFunc(parameters);
    };
    return [{ config, counting }];
  });
  const register = (kernelName: string, config: (typeof replaced)[number]['config']) => {
    tf.unregisterKernel(kernelName, backendName);
    tf.registerKernel(config);
  };
  for (const { config, counting } of replaced) {
    register(config.kernelName, { ...config, kernelFunc: counting });
  }
  try {
    await compute();
  } finally {
    for (const { config } of replaced) register(config.kernelName, config);
  }
  return flops === 0 ? null : flops;
}
