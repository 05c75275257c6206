/**
 * The candidate sub-vocabulary that a cheap confidence test reads instead of all V tokens: the tokens of the
 * batch's sources, `</s>`, and the K tokens that the model itself gives most often.
 *
 * The last are asked of the model, once after its parameters are set: what it says, over all slots and layers,
 * of a source without a word. That needs no data and no training and works for any model, while ids are in the
 * order of frequency in some vocabularies only (BART's; elsewhere the bytes come first).
 */
import type { Tensor } from './differentiable.ts';
import {
  computeLayer,
  type EncodedSource,
  type Inference,
  softInput,
  startState,
} from './parallel-decoder.ts';
import { SlotExits } from './slot-exits.ts';
import { numWords, pickWords, type Words, wordLogits } from './vocabulary-head.ts';

/** Slots that the model is asked over: further ones tell little more. */
const ASKED_SLOTS_MAX = 32;

/** The `count` most probable ids, the best first. `encoded` is the source without a word, one sequence. */
export async function expectedTokens(
  inference: Inference,
  encoded: EncodedSource,
  { count, maxPositions }: { readonly count: number; readonly maxPositions: number },
): Promise<Int32Array> {
  const { layers, weights, specialIds } = inference;
  const { tf } = layers;
  const length = Math.min(ASKED_SLOTS_MAX, maxPositions);
  const all = new SlotExits(1, length, specialIds.eos).pack()!;
  const summed = tf.tidy(() => {
    let state = startState(inference, 1, length);
    let sum: Tensor = tf.zeros([numWords(weights.offRamp)]);
    weights.decoder.layers.forEach((_, layer) => {
      const input = weights.concatHead !== null && layer > 0 ? softInput(inference, state) : state;
      state = computeLayer(inference, encoded, layer, input, all, length);
      sum = tf.add(sum, tf.sum(tf.softmax(wordLogits(tf, state, weights.offRamp)), 0));
    });
    return sum;
  });
  const probabilities = await summed.data();
  summed.dispose();
  const ids = Int32Array.from(probabilities.keys());
  // Ties go to the lower id, so that the list depends on the parameters alone.
  ids.sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
  return ids.slice(0, count);
}

/** The words for a batch of sources; the caller disposes their embeddings. */
export function shortlistOf(
  { layers, weights, specialIds }: Inference,
  sourceIds: Int32Array,
  expected: Int32Array,
): Words {
  const { tf } = layers;
  const ids = Int32Array.from(new Set([specialIds.eos, ...expected, ...sourceIds])).sort();
  return { embeddings: pickWords(tf, weights.offRamp, ids), ids };
}
