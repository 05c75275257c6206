/**
 * Dropout for the model: where it happens, and the port that draws the masks. A place in the network
 * has a fixed site number, so that a mask is a function of (seed, step, slot, site) and its size only.
 *
 * Rates of 0 draw nothing and run no operation.
 */
import { assert, type RandomKey } from '../base/index.ts';
import type { Tensor, Tf } from './differentiable.ts';
import { alignedFloats, type MaskMemory } from './mask-memory.ts';

/** The port; the kernels room implements it. */
export interface DropoutMasks {
  /** Fills `target` with 0 (with probability `rate`) or 1/(1-rate), as drawn under `key`. */
  dropoutMask(target: Float32Array, key: RandomKey, rate: number): void;
}

/** What one micro-batch draws under. */
export interface SlotKey {
  readonly seed: number;
  readonly step: number;
  readonly slot: number;
}

const STACKS = ['encoder', 'decoder'] as const;
export type StackName = (typeof STACKS)[number];
const PLACES = [
  'weights',
  'attention',
  'crossWeights',
  'crossAttention',
  'activation',
  'feedForward',
] as const;
export type DropoutPlace = (typeof PLACES)[number];

const PLACES_MAX = 8;
const LAYERS_MAX = 1024;

/** The mask of one site of the network; null where nothing is dropped. */
export interface Dropout {
  /** After the embedding norm of a stack. */
  embedding(stack: StackName, shape: readonly number[]): Tensor | null;
  layer(stack: StackName, layer: number, place: DropoutPlace, shape: readonly number[]): Tensor | null;
  /** The same for a place whose activations are in parts: one for each of `shapes`. */
  parts(
    stack: StackName,
    layer: number,
    place: DropoutPlace,
    shapes: readonly (readonly number[])[],
  ): readonly (Tensor | null)[];
}

export interface DropoutRates {
  readonly dropout: number;
  readonly attentionDropout: number;
  readonly activationDropout: number;
}

/** Evaluation and generation drop nothing. */
export const noDropout: Dropout = {
  embedding: () => null,
  layer: () => null,
  parts: (_stack, _layer, _place, shapes) => shapes.map(() => null),
};

/** The substream of a place: the embedding of a stack counts as its layer 0, place 0. */
export function dropoutSite(stack: StackName, layer: number | 'embedding', place: DropoutPlace): number {
  const row = layer === 'embedding' ? 0 : layer + 1;
  assert(row < LAYERS_MAX, `layer ${layer} is beyond the ${LAYERS_MAX - 1} that have dropout sites`);
  return (STACKS.indexOf(stack) * LAYERS_MAX + row) * PLACES_MAX + PLACES.indexOf(place);
}

/** The masks of one micro-batch, in `memory`. The caller's `tf.tidy` disposes the tensors. */
export function dropoutFor(
  tf: Tf,
  source: DropoutMasks,
  memory: MaskMemory,
  key: SlotKey,
  rates: DropoutRates,
): Dropout {
  const drawParts = (
    site: number,
    shapes: readonly (readonly number[])[],
    rate: number,
  ): readonly (Tensor | null)[] => {
    if (rate === 0) return shapes.map(() => null);
    const sizes = shapes.map((shape) => shape.reduce((size, side) => size * side, 1));
    const begins = [0];
    for (const size of sizes) begins.push(begins.at(-1)! + alignedFloats(size));
    const mask = memory.take(begins[shapes.length - 1]! + sizes.at(-1)!);
    source.dropoutMask(mask, { ...key, stream: 'dropout', substream: site }, rate);
    return shapes.map((shape, part) => {
      const begin = begins[part]!;
      return tf.tensor(mask.subarray(begin, begin + sizes[part]!), [...shape]);
    });
  };
  const draw = (site: number, shape: readonly number[], rate: number) => drawParts(site, [shape], rate)[0]!;
  const rateOf: Readonly<Record<DropoutPlace, number>> = {
    weights: rates.attentionDropout,
    attention: rates.dropout,
    crossWeights: rates.attentionDropout,
    crossAttention: rates.dropout,
    activation: rates.activationDropout,
    feedForward: rates.dropout,
  };
  return {
    embedding: (stack, shape) => draw(dropoutSite(stack, 'embedding', 'weights'), shape, rates.dropout),
    layer: (stack, layer, place, shape) => draw(dropoutSite(stack, layer, place), shape, rateOf[place]),
    parts: (stack, layer, place, shapes) =>
      drawParts(dropoutSite(stack, layer, place), shapes, rateOf[place]),
  };
}
