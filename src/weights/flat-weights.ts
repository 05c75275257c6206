/**
 * A model's parameters as one flat vector, in the order of its layout, read by range from wherever they lie:
 * no more than a piece is in memory at a time.
 */
import { createHash } from 'node:crypto';
import { assert, layoutSize, type ParameterLayout } from '../base/index.ts';
import { FLOAT_BYTES } from '../checkpoint/index.ts';
import type { ModelConfig } from '../config/index.ts';
import { leftIdentity, parameterLayout } from '../model/index.ts';
import type { StoredTensor, TensorArchive } from './tensor-archive.ts';

/** Floats that are read at a time. */
const PIECE_FLOATS = 1024 * 1024;

export interface FlatWeights {
  readonly layout: ParameterLayout;
  /** Fills `target` with little-endian float32 values from float `offsetFloats` on. Throws CHECKPOINT_INVALID. */
  read(offsetFloats: number, target: Uint8Array): Promise<void>;
}

/** The tensors of an archive, one for each entry of `layout`. */
export function archivedWeights(
  archive: TensorArchive,
  layout: ParameterLayout,
  tensors: readonly StoredTensor[],
): FlatWeights {
  assert(tensors.length === layout.length, 'every parameter has its tensor');
  return {
    layout,
    async read(offsetFloats, target) {
      const end = offsetFloats + target.length / FLOAT_BYTES;
      assert(offsetFloats >= 0 && end <= layoutSize(layout), `floats ${offsetFloats} to ${end} are there`);
      for (const [index, { offset, size }] of layout.entries()) {
        const first = Math.max(offset, offsetFloats);
        const last = Math.min(offset + size, end);
        if (first >= last) continue;
        const part = target.subarray(
          (first - offsetFloats) * FLOAT_BYTES,
          (last - offsetFloats) * FLOAT_BYTES,
        );
        await archive.read(tensors[index]!, first - offset, part);
      }
    },
  };
}

/** `weights` with a concat head at its end that hands the state on as it is: [I | 0]. */
export function withConcatHead(weights: FlatWeights, model: ModelConfig): FlatWeights {
  const size = layoutSize(weights.layout);
  const { buffer } = leftIdentity(model.dModel);
  return {
    layout: parameterLayout({ ...model, concatHead: true }),
    async read(offsetFloats, target) {
      const inside = Math.max(0, Math.min(target.length, (size - offsetFloats) * FLOAT_BYTES));
      if (inside > 0) await weights.read(offsetFloats, target.subarray(0, inside));
      const first = Math.max(0, offsetFloats - size) * FLOAT_BYTES;
      target.set(new Uint8Array(buffer, first, target.length - inside), inside);
    },
  };
}

/** Feeds the whole vector to `take`, piece by piece in order; `take` must not keep its argument. */
export async function readAllWeights(
  weights: FlatWeights,
  take: (piece: Uint8Array) => void | Promise<void>,
): Promise<void> {
  const size = layoutSize(weights.layout);
  const buffer = new Uint8Array(Math.min(PIECE_FLOATS, size) * FLOAT_BYTES);
  for (let first = 0; first < size; first += PIECE_FLOATS) {
    const piece = buffer.subarray(0, Math.min(PIECE_FLOATS, size - first) * FLOAT_BYTES);
    await weights.read(first, piece);
    await take(piece);
  }
}

/** SHA-256 (hex) over the little-endian bytes of the flat vector: what `lockstep digest` prints of a checkpoint. */
export async function sha256OfWeights(weights: FlatWeights): Promise<string> {
  const hash = createHash('sha256');
  await readAllWeights(weights, (piece) => void hash.update(piece));
  return hash.digest('hex');
}
