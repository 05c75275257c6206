/**
 * Generation of all slots at once, with early exit (ELMER.md sections 2, 5 and 6).
 *
 * `full` computes every layer and reads the last. `hard` tests after each layer but the last: a slot whose
 * entropy is below the threshold leaves; its state is the source of keys and values for the layers above,
 * its query is computed no more; the few that would hold a sequence up may leave with the others. `soft` computes every layer; each but the first reads
 * concat_head([h ; E[argmax of the layer below]]).
 *
 * The test, and the search for the end of a sequence, read `words`. Where these are a sub-vocabulary the
 * whole one is read once for each token that is emitted: what the whole vocabulary ranks first is first in
 * any part of it too, so a slot that does not choose `</s>` among some words cannot choose it among all.
 * Legend: B batch, T target slots, S source, D model, Q queries of a sequence that still compute.
 */
import type { Tensor, Tf } from './differentiable.ts';
import type { InferenceLayers } from './inference-layers.ts';
import type { InferenceWeights } from './inference-weights.ts';
import type { SpecialIds } from './micro-batch.ts';
import { type DecodedSequence, type PackedSlots, SlotExits } from './slot-exits.ts';
import { type HeadResult, headArgMax, readHead, type Words } from './vocabulary-head.ts';

export const EXITS = ['hard', 'full', 'soft'] as const;
export type Exit = (typeof EXITS)[number];

/** What decoders read of the encoder, and what they compute with. */
export interface Inference {
  readonly layers: InferenceLayers;
  readonly weights: InferenceWeights;
  readonly specialIds: SpecialIds;
}

export interface EncodedSource {
  readonly batchSize: number;
  /** [B*S, D] */
  readonly hidden: Tensor;
  /** [B, 1, 1, S] or null */
  readonly keyBias: Tensor | null;
}

export interface ParallelOptions {
  readonly exit: Exit;
  /** Nats; a slot leaves below it. 0 lets none leave before the last layer, infinity all after the first. */
  readonly threshold: number;
  /** Hard exit: once this share of a sequence's slots has left or lies behind its end, the others leave too. */
  readonly quorum: number;
  readonly targetLength: number;
  /** What tests read: a sub-vocabulary with `</s>` in it, or all. */
  readonly words: Words;
}

export interface DecodedBatch {
  readonly sequences: readonly DecodedSequence[];
  /** Queries computed, summed over layers: B * T * L without exits. */
  readonly slotLayers: number;
}

export async function decodeInParallel(
  inference: Inference,
  encoded: EncodedSource,
  options: ParallelOptions,
): Promise<DecodedBatch> {
  const { layers, weights, specialIds } = inference;
  const { tf } = layers;
  const { exit, threshold, quorum, targetLength, words } = options;
  const slots = new SlotExits(encoded.batchSize, targetLength, specialIds.eos);
  const last = weights.decoder.layers.length - 1;
  let state = startState(inference, encoded.batchSize, targetLength);
  let slotLayers = 0;
  for (let layer = 0; layer <= last; layer += 1) {
    const packed = slots.pack();
    if (packed === null) break;
    slotLayers += packed.isReal.reduce((sum, isReal) => sum + isReal, 0);
    if (exit === 'soft' && layer > 0) state = replaced(tf, state, () => softInput(inference, state));
    const output = computeLayer(inference, encoded, layer, state, packed, targetLength);
    const isLast = layer === last;
    if (isLast || exit === 'hard') {
      const test = await readHead(tf, output, words);
      const leaving = [...packed.rows.keys()].filter(
        (query) => packed.isReal[query] === 1 && (isLast || test.entropies[query]! < threshold),
      );
      const reading = { packed, output, test, words };
      await letLeave(inference, slots, reading, leaving, layer);
      slots.settle();
      const stragglers = new Set(slots.stragglers((1 - quorum) * targetLength));
      const following = [...packed.rows.keys()].filter(
        (query) => packed.isReal[query] === 1 && stragglers.has(packed.rows[query]!),
      );
      await letLeave(inference, slots, reading, following, layer);
      slots.settle();
    }
    if (!isLast) state = replaced(tf, state, () => merged(tf, state, output, packed));
    output.dispose();
  }
  state.dispose();
  return { sequences: slots.sequences(), slotLayers };
}

/** h^0 of all slots, [B*T, D]: `<s>` in slot 0 and `<mask>` in the others, with their positions. */
export function startState(
  { layers, weights, specialIds }: Inference,
  batchSize: number,
  length: number,
): Tensor {
  const { tf, dModel } = layers;
  return tf.tidy(() => {
    const ids = Int32Array.from({ length }, (_, slot) => (slot === 0 ? specialIds.bos : specialIds.mask));
    const words = tf.gather(weights.table, tf.tensor1d(ids, 'int32'));
    const placed = tf.add(words, tf.slice(weights.decoder.positions, [0, 0], [length, dModel]));
    return tf.tile(layers.norm(placed, weights.decoder.embeddingNorm), [batchSize, 1]);
  });
}

/** concat_head([h ; E[argmax]]), [B*T, D]: no bias, no residual, no norm (ELMER.md section 4). */
export function softInput({ layers, weights }: Inference, state: Tensor): Tensor {
  const { tf } = layers;
  const guesses = headArgMax(tf, state, weights.offRamp);
  const embedded = tf.gather(weights.table, guesses);
  return tf.matMul(tf.concat([state, embedded], 1), weights.concatHead!);
}

/** The layer's output for the packed queries, [sequences * Q, D]. */
export function computeLayer(
  { layers, weights }: Inference,
  encoded: EncodedSource,
  layer: number,
  state: Tensor,
  packed: PackedSlots,
  targetLength: number,
): Tensor {
  const { tf } = layers;
  const parameters = weights.decoder.layers[layer]!;
  return tf.tidy(() => {
    const { sequences, rows } = packed;
    const isWhole = sequences.length === encoded.batchSize;
    const numPacked = sequences.length;
    const of = (x: Tensor, rowsEach: number) =>
      isWhole ? x : tf.gather(x, tf.tensor1d(rowsOf(sequences, rowsEach), 'int32'));
    const query = holdsAllRows(packed, state) ? state : tf.gather(state, tf.tensor1d(rows, 'int32'));
    const { selfAttention, selfAttentionNorm, crossAttention, crossAttentionNorm } = parameters;
    const own = layers.keysAndValues(of(state, targetLength), selfAttention, numPacked);
    const attended = layers.attend(query, selfAttention, selfAttentionNorm, own, null);
    const sourceLength = encoded.hidden.shape[0]! / encoded.batchSize;
    const source = layers.keysAndValues(of(encoded.hidden, sourceLength), crossAttention, numPacked);
    const keyBias = encoded.keyBias === null ? null : of(encoded.keyBias, 1);
    const crossed = layers.attend(attended, crossAttention, crossAttentionNorm, source, keyBias);
    return layers.feedForward(crossed, parameters);
  });
}

interface LayerReading {
  readonly packed: PackedSlots;
  readonly output: Tensor;
  /** What `words` say of each query. */
  readonly test: HeadResult;
  readonly words: Words;
}

/** Decides the tokens of the queries `leaving`, in rounds that end at what looks like a sequence's end. */
async function letLeave(
  { layers, weights, specialIds }: Inference,
  slots: SlotExits,
  { packed, output, test, words }: LayerReading,
  leaving: readonly number[],
  layer: number,
): Promise<void> {
  const { tf } = layers;
  let pending = leaving;
  while (pending.length > 0) {
    const ended = new Set<number>();
    const now: number[] = [];
    const later: number[] = [];
    for (const query of pending) {
      const sequence = slots.sequenceOf(packed.rows[query]!);
      (ended.has(sequence) ? later : now).push(query);
      if (test.ids[query] === specialIds.eos) ended.add(sequence);
    }
    const isTested = words.ids === null;
    const read = isTested ? test : await readRows(now);
    now.forEach((query, place) => {
      const index = isTested ? query : place;
      slots.leave(packed.rows[query]!, {
        id: read.ids[index]!,
        layer,
        entropy: read.entropies[index]!,
        probability: read.probabilities[index]!,
      });
    });
    pending = later.filter((query) => !slots.isBehindEnd(packed.rows[query]!));
  }

  async function readRows(queries: readonly number[]): Promise<HeadResult> {
    const isAll = queries.length === packed.rows.length;
    const picked = isAll
      ? tf.clone(output)
      : tf.tidy(() => tf.gather(output, tf.tensor1d(Int32Array.from(queries), 'int32')));
    const result = await readHead(tf, picked, { embeddings: weights.offRamp, ids: null });
    picked.dispose();
    return result;
  }
}

/** The state with the outputs in their rows: what exited before stays as it was. */
function merged(tf: Tf, state: Tensor, output: Tensor, packed: PackedSlots): Tensor {
  if (holdsAllRows(packed, state)) return tf.clone(output);
  const { rows, isReal } = packed;
  const numRows = state.shape[0]!;
  const source = Int32Array.from({ length: numRows }, (_, row) => row);
  rows.forEach((row, query) => {
    if (isReal[query] === 1) source[row] = numRows + query;
  });
  return tf.gather(tf.concat([state, output], 0), tf.tensor1d(source, 'int32'));
}

/** Whether the queries are the rows of the state, in order. */
function holdsAllRows({ rows, isReal }: PackedSlots, state: Tensor): boolean {
  return rows.length === state.shape[0] && isReal.every((real) => real === 1);
}

function rowsOf(sequences: readonly number[], rowsEach: number): Int32Array {
  return Int32Array.from(
    { length: sequences.length * rowsEach },
    (_, index) => sequences[Math.floor(index / rowsEach)]! * rowsEach + (index % rowsEach),
  );
}

/** The value of `next`, tidied; frees `previous`. */
function replaced(tf: Tf, previous: Tensor, next: () => Tensor): Tensor {
  const value = tf.tidy(next);
  previous.dispose();
  return value;
}
