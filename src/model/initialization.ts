/**
 * The parameters a run starts from, as BART starts: weights from N(0, initStd), biases 0, norms 1.
 *
 * Each tensor draws from its own key (seed, 'initialization', substream = its number in the layout),
 * so that its values depend on no other tensor. Draws go through Math.log, sin and cos, whose last
 * bit is the JavaScript engine's choice: replicas take the weights from a snapshot, not from here.
 */
import { assert, layoutSize, type ParameterLayout, PhiloxRng } from '../base/index.ts';
import type { ModelConfig } from '../config/index.ts';
import { buildTree, type StartValue } from './parameters.ts';

/** Row of `<pad>` in the tied table; zero at the start, as in BART, and trained like any other. */
const PAD_ROW = 1;

/** Fills `target` (layout size, in floats) with the start values of `model` under `seed`. */
export function initializeParameters(
  layout: ParameterLayout,
  model: ModelConfig,
  seed: number,
  target: Float32Array,
): void {
  assert(
    target.length === layoutSize(layout),
    `parameter vector of ${target.length} floats, layout has ${layoutSize(layout)}`,
  );
  const starts: StartValue[] = [];
  buildTree(model, (_name, _shape, start) => starts.push(start));
  layout.forEach((entry, index) => {
    const values = target.subarray(entry.offset, entry.offset + entry.size);
    if (starts[index] === 'normal') {
      const rng = new PhiloxRng({ seed, stream: 'initialization', substream: index, step: 0, slot: 0 });
      for (let i = 0; i < values.length; i += 1) values[i] = rng.nextNormal() * model.initStd;
    } else {
      values.fill(starts[index] === 'ones' ? 1 : 0);
      if (starts[index] === 'leftIdentity') values.set(leftIdentity(entry.shape[0]!));
    }
  });
  target.fill(0, PAD_ROW * model.dModel, (PAD_ROW + 1) * model.dModel);
}

/** [I | 0] of shape [rows, 2 * rows], row-major: what a concat head starts as. */
export function leftIdentity(rows: number): Float32Array {
  const values = new Float32Array(rows * 2 * rows);
  for (let row = 0; row < rows; row += 1) values[row * 2 * rows + row] = 1;
  return values;
}
