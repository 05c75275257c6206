/**
 * The naive twins of src/kernels/*.wat: one element after the other in plain JavaScript, each operation
 * rounded by Math.fround (add, sub, mul, div and sqrt of two float32 in float64, rounded once more, are
 * the IEEE float32 results). The kernels must give the same bits.
 */
import { philox4x32, philoxBase, type RandomKey } from '../../src/base/index.ts';
import type { GradientPrecision } from '../../src/config/index.ts';
import type { AdamwScalars, AdamwVectors } from '../../src/kernels/index.ts';
import { bitsOf } from './floats.ts';

const f = Math.fround;
const SMALLEST_NORMAL = 2 ** -126;

function flush(value: number): number {
  return Math.abs(value) < SMALLEST_NORMAL ? 0 : value;
}

const scratch = new Float32Array(1);
const scratchBits = bitsOf(scratch);

/** The value of the bfloat16 with these 16 bits; that after the largest counts as 2^128 and stands for infinity. */
function bfloat16At(upper: number): number {
  scratchBits[0] = upper << 16;
  return upper === 0x7f80 ? 2 ** 128 : scratch[0]!;
}

/**
 * The nearest bfloat16, of two equally near the one whose last bit is 0: tried out on the two around it, in
 * float64, where their distances are exact.
 */
function roundToBfloat16(value: number): number {
  if (!Number.isFinite(value)) return value;
  const size = Math.abs(value);
  scratch[0] = size;
  const below = scratchBits[0]! >>> 16;
  const [lower, upper] = [bfloat16At(below), bfloat16At(below + 1)];
  const isUp = size - lower > upper - size || (size - lower === upper - size && below % 2 === 1);
  return Math.sign(value) * f(isUp ? upper : lower);
}

type Round = (value: number) => number;
const roundingOf = (precision: GradientPrecision): Round =>
  precision === 'bfloat16' ? roundToBfloat16 : (value) => value;

export function flushIntoTwin(
  target: Float32Array,
  source: Float32Array,
  precision: GradientPrecision = 'float32',
): void {
  const from = bitsOf(source);
  const to = bitsOf(target);
  const round = roundingOf(precision);
  source.forEach((value, index) => {
    if (!Number.isNaN(value)) target[index] = round(flush(value));
    // By bits, so that a NaN keeps its payload.
    else to[index] = precision === 'float32' ? from[index]! : 0x7fc00000;
  });
}

export function addFlushTwin(
  target: Float32Array,
  left: Float32Array,
  right: Float32Array,
  precision: GradientPrecision = 'float32',
): void {
  const round = roundingOf(precision);
  const to = bitsOf(target);
  for (let index = 0; index < target.length; index += 1) {
    const sum = f(left[index]! + right[index]!);
    if (Number.isNaN(sum)) to[index] = 0x7fc00000;
    else target[index] = round(flush(sum));
  }
}

/** The digest of one block of at most BLOCK_FLOATS floats. */
export function digestTwin(block: Float32Array): bigint {
  const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
  const rotate = (value: bigint, by: bigint): bigint => u64(value << by) | (value >> (64n - by));
  const golden = 0x9e3779b97f4a7c15n;
  const mix1 = 0xbf58476d1ce4e5b9n;
  const mix2 = 0x94d049bb133111ebn;
  const bits = bitsOf(block);
  const word = (index: number): bigint =>
    BigInt(bits[2 * index] ?? 0) | (BigInt(bits[2 * index + 1] ?? 0) << 32n);
  const lanes = [0x243f6a8885a308d3n, 0x13198a2e03707344n, 0xa4093822299f31d0n, 0x082efa98ec4e6c89n];
  for (let first = 0; first * 2 < block.length; first += 4) {
    for (let lane = 0; lane < 4; lane += 1) {
      lanes[lane] = u64(rotate(u64(lanes[lane]! + word(first + lane) * mix1), 31n) * golden);
    }
  }
  let hash = u64(BigInt(block.length) * mix2);
  for (const lane of lanes) hash = u64(rotate(hash ^ lane, 29n) * golden);
  hash = u64((hash ^ (hash >> 30n)) * mix1);
  hash = u64((hash ^ (hash >> 27n)) * mix2);
  return hash ^ (hash >> 31n);
}

/** The sum of squares of one block, eight lanes wide. */
export function sumOfSquaresTwin(block: Float32Array): number {
  const lanes = [0, 0, 0, 0, 0, 0, 0, 0];
  block.forEach((value, index) => {
    lanes[index % 8]! += value * value;
  });
  const [a, b, c, d, e, g, h, i] = lanes as [number, number, number, number, number, number, number, number];
  return a + c + (e + h) + (b + d + (g + i));
}

export function adamwTwin(vectors: AdamwVectors, scalars: AdamwScalars): void {
  const { parameters, gradient, firstMoment, secondMoment } = vectors;
  for (let index = 0; index < parameters.length; index += 1) {
    const g = f(gradient[index]! * scalars.gradientScale);
    const m = flush(f(f(scalars.beta1 * firstMoment[index]!) + f(scalars.oneMinusBeta1 * g)));
    const v = flush(f(f(scalars.beta2 * secondMoment[index]!) + f(scalars.oneMinusBeta2 * f(g * g))));
    const denominator = f(f(Math.sqrt(f(v / scalars.correction2))) + scalars.epsilon);
    const parameter = parameters[index]!;
    const update = f(f(f(m / scalars.correction1) / denominator) + f(scalars.weightDecay * parameter));
    parameters[index] = f(parameter - f(scalars.learningRate * update));
    firstMoment[index] = m;
    secondMoment[index] = v;
  }
}

export function dropoutMaskTwin(target: Float32Array, key: RandomKey, rate: number): void {
  const threshold = Math.min(Math.round(rate * 2 ** 16), 2 ** 16 - 1);
  const kept = f(1 / (1 - threshold / 2 ** 16));
  const { c1, c2, c3, k0, k1 } = philoxBase(key);
  const block = new Uint32Array(4);
  for (let index = 0; index < target.length; index += 1) {
    philox4x32(block, Math.floor(index / 8), c1, c2, c3, k0, k1);
    const word = block[Math.floor((index % 8) / 2)]!;
    const half = index % 2 === 0 ? word & 0xffff : word >>> 16;
    target[index] = half < threshold ? 0 : kept;
  }
}
