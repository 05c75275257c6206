/** Greedy decoding of the autoregressive twin: the most probable token at each step, until every sequence has ended. */
import { CachedDecoder } from './cached-decoder.ts';
import type { DecodedBatch, EncodedSource, Inference } from './parallel-decoder.ts';
import type { DecodedToken } from './slot-exits.ts';
import { readHead } from './vocabulary-head.ts';

export async function decodeGreedily(
  inference: Inference,
  encoded: EncodedSource,
  targetLength: number,
): Promise<DecodedBatch> {
  const { layers, weights, specialIds } = inference;
  const { tf } = layers;
  const numLayers = weights.decoder.layers.length;
  const vocabulary = { embeddings: weights.offRamp, ids: null };
  const decoder = new CachedDecoder(inference, encoded);
  const tokens = Array.from({ length: encoded.batchSize }, (): DecodedToken[] => []);
  const hasEnded = (sequence: number) => tokens[sequence]!.at(-1)?.id === specialIds.eos;
  /** The sequences that the decoder's rows are of. */
  let computing = [...tokens.keys()];
  let previous: Int32Array = new Int32Array(computing.length).fill(specialIds.bos);
  let slotLayers = 0;
  try {
    for (let slot = 0; slot < targetLength && computing.length > 0; slot += 1) {
      const states = decoder.step(previous);
      slotLayers += previous.length * numLayers;
      const { ids, entropies, probabilities } = await readHead(tf, states, vocabulary);
      states.dispose();
      computing.forEach((sequence, row) => {
        if (hasEnded(sequence)) return;
        const id = ids[row]!;
        const [entropy, probability] = [entropies[row]!, probabilities[row]!];
        tokens[sequence]!.push({ id, layer: numLayers - 1, entropy, probability });
      });
      previous = ids;
      const rows = Int32Array.from(computing.keys()).filter((row) => !hasEnded(computing[row]!));
      // Moving the caches costs as much as some steps: ended rows are carried on until they are half.
      if (rows.length > computing.length / 2) continue;
      if (rows.length > 0) decoder.select(rows, rows);
      computing = [...rows].map((row) => computing[row]!);
      previous = rows.map((row) => ids[row]!);
    }
  } finally {
    decoder.dispose();
  }
  return {
    sequences: tokens.map((all, sequence) => ({ tokens: all, ended: hasEnded(sequence) })),
    slotLayers,
  };
}
