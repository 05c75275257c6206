/** y = x W^T + b with the bias added as the product is written, and its gradient. */
import { columnSums } from './column-sums.ts';
import type { FusedKernels } from './fused.ts';
import { product } from './product.ts';

export const linearKernels: FusedKernels = {
  linear(recorder, { x, weight, bias }) {
    return [product(recorder, { a: x!, b: weight!, transposeB: true, bias: bias! })];
  },

  linearGradient(recorder, { dy, x, weight }) {
    return [
      product(recorder, { a: dy!, b: weight! }),
      product(recorder, { a: dy!, b: x!, transposeA: true }),
      ...columnSums(recorder, dy!),
    ];
  },
};
