/**
 * GELU(x) = x Phi(x) and its slope Phi(x) + x phi(x), in one pass. The error function is that of the Cephes
 * library in single precision (ndtrf.c): a polynomial around 0, and exp(-x^2) times a polynomial in 1/x^2
 * outside, which keeps the relative precision of Phi far to the left.
 */
import type { FusedKernels } from './fused.ts';
import { rowsOf, type Shader } from './recorder.ts';

const LANES = 64;

/** Of erf(z) / z in z^2, for |z| < 1. */
const CENTRE = [
  7.853861353153693e-5, -8.010193625184903e-4, 5.188327685732524e-3, -2.685381193529856e-2,
  1.128358514861418e-1, -3.76126258242325e-1, 1.12837916572671,
];
/** Of z exp(z^2) erfc(z) in 1/z^2, for 1 <= z < 2. */
const NEAR = [
  2.326819970068386e-2, -1.387039388740657e-1, 3.687424674597105e-1, -5.824733027278666e-1,
  6.210004621745983e-1, -4.944515323274145e-1, 3.404879937665872e-1, -2.741127028184656e-1,
  5.638259427386472e-1,
];
/** The same, for z >= 2. */
const FAR = [
  -1.047766399936249e1, 1.297719955372516e1, -7.495518717768503, 2.921019019210786, -1.0152652792027,
  4.218463358204948e-1, -2.820767439740514e-1, 5.641895067754075e-1,
];

/** Horner's scheme, highest power first. */
const polynomial = (coefficients: readonly number[], variable: string): string =>
  coefficients
    .slice(1)
    .reduce((sum, next) => `(${sum} * ${variable} + f32(${next}))`, `f32(${coefficients[0]})`);

const GELU: Shader = {
  name: 'GELU',
  inputs: ['x'],
  outputs: ['value', 'slope'],
  sizes: ['size', 'skip_x', 'skip_value', 'skip_slope'],
  lanes: LANES,
  code: `
/** erfc of z >= 0. */
fn erfcOf(z: f32) -> f32 {
  let square = z * z;
  if (z < 1.0) { return 1.0 - z * ${polynomial(CENTRE, 'square')}; }
  let inverse = 1.0 / max(square, 1.0);
  let tail = select(${polynomial(FAR, 'inverse')}, ${polynomial(NEAR, 'inverse')}, z < 2.0);
  return exp(-square) * tail / z;
}
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index >= sizes.size) { return; }
  let at = x[sizes.skip_x + index];
  let half = 0.5 * erfcOf(abs(at) * ${Math.SQRT1_2});
  let phi = select(half, 1.0 - half, at > 0.0);
  value[sizes.skip_value + index] = at * phi;
  slope[sizes.skip_slope + index] = phi + at * exp(-0.5 * at * at) * ${1 / Math.sqrt(2 * Math.PI)};
}`,
};

export const geluKernels: FusedKernels = {
  gelu(recorder, { x }) {
    const [value, slope] = [recorder.create(x!.shape), recorder.create(x!.shape)];
    for (const range of recorder.rowRanges(x!)) {
      const size = range.count * x!.shape[1]!;
      const operands = { x: range, value: rowsOf(value, range), slope: rowsOf(slope, range) };
      recorder.run(GELU, operands, { size }, Math.ceil(size / LANES));
    }
    return [value, slope];
  },
};
