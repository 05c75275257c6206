/**
 * Multi-head attention over sequences of different lengths as one operation with a hand-derived gradient: each block of
 * sequences by itself (scaled-dot-product.ts), rows moved into blocks and out of them around it.
 */
import { differentiable, type Tensor, type Tf } from './differentiable.ts';
import { attend, attendGradient } from './scaled-dot-product.ts';
import type { Attended } from './sequence-blocks.ts';

export interface AttentionOptions extends Omit<Attended, 'groups'> {
  readonly heads: number;
  /** Dropout of each block's attention weights, [B, H, Q, K]; null for none. */
  readonly weightMasks: readonly (Tensor | null)[];
}

/** Context rows [queries, D] for queries [queries, D], keys and values [keys, D]. */
export function attention(
  tf: Tf,
  query: Tensor,
  key: Tensor,
  value: Tensor,
  { heads, queries, keys, biases, weightMasks }: AttentionOptions,
): Tensor {
  const shapes = queries.blocks.map((block, index) => ({
    ...{ batchSize: block.batchSize, heads, numQueries: block.length, numKeys: keys.blocks[index]!.length },
    ...{ keyBias: biases[index]!, weightMask: weightMasks[index]! },
  }));
  /** Tensors that each block has kept. */
  let counts: readonly number[] = [];
  return differentiable(
    tf,
    [query, key, value],
    () => {
      const [ofQuery, ofKey, ofValue] = [queries.split(query), keys.split(key), keys.split(value)];
      const made = shapes.map((shape, index) =>
        attend(tf, ofQuery[index]!, ofKey[index]!, ofValue[index]!, shape),
      );
      counts = made.map(({ saved }) => saved.length);
      return {
        value: queries.join(made.map(({ value: context }) => context)),
        saved: made.flatMap(({ saved }) => saved),
      };
    },
    (dContext, saved) => {
      let first = 0;
      const made = queries.splitGradient(dContext).map((part, index) => {
        const kept = saved.slice(first, first + counts[index]!);
        first += counts[index]!;
        return attendGradient(tf, part, kept, shapes[index]!);
      });
      return [queries, keys, keys].map((rows, input) => rows.join(made.map((parts) => parts[input]!)));
    },
  );
}
