/** Entry of a helper thread: does parts of the calls that are posted on the board which it was started with. */
import { workerData } from 'node:worker_threads';
import type { GradientPrecision } from '../config/index.ts';
import { CallBoard } from './call-board.ts';
import type { HelperData } from './host-threads.ts';
import { doPart } from './kernel-call.ts';
import { createWasmKernels, type WasmKernels } from './wasm-kernels.ts';

// Given by host-threads.ts of this very version.
const { shared, helper } = workerData as HelperData;
const kernels = new Map<GradientPrecision, WasmKernels>();

/** A run has one precision; it is known only when the first call comes. */
function kernelsFor(precision: GradientPrecision): WasmKernels {
  const found = kernels.get(precision) ?? createWasmKernels(precision);
  kernels.set(precision, found);
  return found;
}

new CallBoard(shared).serve(helper, ({ gradientPrecision, work }, begin, end) =>
  doPart(kernelsFor(gradientPrecision), work, begin, end),
);
