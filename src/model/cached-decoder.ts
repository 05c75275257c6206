/**
 * The causal decoder of the autoregressive twin, one token at a time: keys and values of earlier tokens are
 * kept, those of the source are computed once. Slot 0 reads `<s>`, slot t the token of slot t-1.
 *
 * Several continuations of one source (beams) read its keys and values as several queries of one sequence.
 * Legend: B sources, N = B * (continuations of each) rows, D model, H heads, E features of a head, t tokens so far.
 */
import type { Tensor } from './differentiable.ts';
import type { KeysAndValues } from './inference-layers.ts';
import type { EncodedSource, Inference } from './parallel-decoder.ts';

export class CachedDecoder {
  readonly #inference: Inference;
  /** Of each layer. */
  #source: KeysAndValues[];
  #keyBias: Tensor | null;
  /** Of each layer, [N, 2H, t, E]: keys, then values; empty before the first step. */
  #cache: Tensor[] = [];
  #position = 0;

  /** Reads `encoded`, which stays the caller's. */
  constructor(inference: Inference, { hidden, keyBias, batchSize }: EncodedSource) {
    const { layers, weights } = inference;
    this.#inference = inference;
    this.#source = weights.decoder.layers.map(({ crossAttention }) => {
      const pair = layers.tf.tidy(() => {
        const { keys, values } = layers.keysAndValues(hidden, crossAttention, batchSize);
        return [keys, values];
      });
      return { keys: pair[0]!, values: pair[1]! };
    });
    this.#keyBias = keyBias === null ? null : layers.tf.clone(keyBias);
  }

  /** The last layer's states [N, D] after `tokens` [N], those of the slot before; the caller disposes them. */
  step(tokens: Int32Array): Tensor {
    const { layers, weights } = this.#inference;
    const { tf, dModel, heads } = layers;
    const numRows = tokens.length;
    const before = this.#cache;
    const cache: Tensor[] = [];
    const states = tf.tidy(() => {
      const words = tf.gather(weights.table, tf.tensor1d(tokens, 'int32'));
      const placed = tf.add(words, tf.slice(weights.decoder.positions, [this.#position, 0], [1, dModel]));
      let state = layers.norm(placed, weights.decoder.embeddingNorm);
      weights.decoder.layers.forEach((layer, index) => {
        const { selfAttention, selfAttentionNorm, crossAttention, crossAttentionNorm } = layer;
        const now = tf.reshape(tf.matMul(state, selfAttention.keyValue), [
          numRows,
          2 * heads,
          1,
          dModel / heads,
        ]);
        const all = before.length === 0 ? now : tf.concat([before[index]!, now], 2);
        cache.push(tf.keep(all));
        const [keys, values] = tf.split(all, 2, 1);
        const own = { keys: keys!, values: values! };
        const attended = layers.attend(state, selfAttention, selfAttentionNorm, own, null);
        const source = this.#source[index]!;
        const crossed = layers.attend(attended, crossAttention, crossAttentionNorm, source, this.#keyBias);
        state = layers.feedForward(crossed, layer);
      });
      return state;
    });
    tf.dispose(before);
    this.#cache = cache;
    this.#position += 1;
    return states;
  }

  /**
   * Goes on from `rows` of the caches, in this order.
   * @param sources the sources that stay, where some do not: rows belong to them in equal parts, in order
   */
  select(rows: Int32Array, sources: Int32Array | null): void {
    this.#cache = this.#gathered(this.#cache, rows);
    if (sources === null) return;
    const pairs = this.#source.flatMap(({ keys, values }) => [keys, values]);
    const kept = this.#gathered(pairs, sources);
    this.#source = this.#source.map((_, layer) => ({ keys: kept[2 * layer]!, values: kept[2 * layer + 1]! }));
    if (this.#keyBias !== null) this.#keyBias = this.#gathered([this.#keyBias], sources)[0]!;
  }

  dispose(): void {
    const { tf } = this.#inference.layers;
    tf.dispose([...this.#cache, ...this.#source.flatMap(({ keys, values }) => [keys, values])]);
    if (this.#keyBias !== null) tf.dispose(this.#keyBias);
    this.#cache = [];
    this.#source = [];
    this.#keyBias = null;
  }

  /** The rows `index` of each tensor; frees what it read. */
  #gathered(tensors: readonly Tensor[], index: Int32Array): Tensor[] {
    const { tf } = this.#inference.layers;
    const rows = tf.tensor1d(index, 'int32');
    const gathered = tensors.map((tensor) => tf.gather(tensor, rows));
    tf.dispose([rows, ...tensors]);
    return gathered;
  }
}
