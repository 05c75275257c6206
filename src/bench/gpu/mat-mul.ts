/** Matrix products: how fast the engine's own is at its best, and how many of a gradient's operations they are. */
import type { Engine } from '../../engine/index.ts';
import { summarize } from '../statistics.ts';

type Tf = Engine['tf'];
type KernelFunc = ReturnType<Tf['getKernel']>['kernelFunc'];
/** What a kernel sees of a tensor. */
interface Shaped {
  readonly shape: readonly number[];
}

/** Operations per second of a square product in float32: the median of `repeats`, after one that compiles. */
export async function measureMatMul(tf: Tf, side: number, repeats: number): Promise<number> {
  const a = tf.randomUniform([side, side], -1, 1, 'float32', 1);
  const seconds: number[] = [];
  for (let round = 0; round <= repeats; round += 1) {
    const startMs = performance.now();
    // One value is read, so that the time is the product's; without it nothing waits for the device.
    const corner = tf.tidy(() => tf.slice(tf.matMul(a, a), [0, 0], [1, 1]));
    await corner.data();
    corner.dispose();
    if (round > 0) seconds.push((performance.now() - startMs) / 1000);
  }
  a.dispose();
  return (2 * side ** 3) / summarize(seconds).median;
}

/**
 * Runs `compute` and adds up the multiplications and additions of its matrix products. Null where none is seen: the
 * tensorflow engine runs its own past tfjs's table of kernels.
 */
export async function countProductFlops(tf: Tf, compute: () => Promise<unknown>): Promise<number | null> {
  const backendName = tf.getBackend();
  const config = tf.getKernel('BatchMatMul', backendName);
  let flops = 0;
  const counting: KernelFunc = (parameters) => {
    const { a } = parameters.inputs as unknown as { a: Shaped };
    const { transposeA } = parameters.attrs as unknown as { transposeA: boolean };
    const inner = a.shape.at(transposeA ? -2 : -1)!;
    const out = config.kernelFunc(parameters);
    const { shape } = out as Shaped;
    flops += 2 * inner * shape.reduce((product, length) => product * length, 1);
    return out;
  };
  const replace = (kernelFunc: KernelFunc) => {
    tf.unregisterKernel('BatchMatMul', backendName);
    tf.registerKernel({ ...config, kernelFunc });
  };
  replace(counting);
  try {
    await compute();
  } finally {
    replace(config.kernelFunc);
  }
  return flops === 0 ? null : flops;
}
