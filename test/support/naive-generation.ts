/**
 * Generation as plainly as can be, in float64 and nested arrays: every layer computes every slot, every
 * head reads the whole vocabulary, nothing is cached or folded. Shares no code with src/model but the tree.
 */
import type { ModelConfig } from '../../src/config/index.ts';
import { type ParameterTree, parameterLayout, treeOf } from '../../src/model/index.ts';
import type { Affine, AttentionParameters, DecoderLayerParameters } from '../../src/model/parameters.ts';
import { SPECIAL_IDS } from './model-fixtures.ts';

type Row = readonly number[];
type Rows = readonly Row[];
type Leaf = { readonly shape: readonly number[]; readonly values: Float32Array };

export interface NaiveToken {
  readonly id: number;
  readonly layer: number;
  readonly entropy: number;
  readonly probability: number;
  /** How far its logit is above the next. */
  readonly margin: number;
}

export interface NaiveSequence {
  readonly tokens: readonly NaiveToken[];
  readonly ended: boolean;
}

export class NaiveGeneration {
  readonly #model: ModelConfig;
  readonly #tree: ParameterTree<Leaf>;

  constructor(model: ModelConfig, flat: Float32Array) {
    const leaves = parameterLayout(model).map(({ shape, offset, size }) => ({
      shape,
      values: flat.subarray(offset, offset + size),
    }));
    this.#model = model;
    this.#tree = treeOf(model, leaves);
  }

  encode(source: readonly number[]): Rows {
    const { encoder } = this.#tree;
    let rows = this.#embed(source, encoder.positions, encoder.embeddingNorm);
    for (const layer of encoder.layers) {
      const attended = this.#attend(rows, rows, layer.selfAttention, () => true);
      rows = this.#normAdd(rows, attended, layer.selfAttentionNorm);
      rows = this.#normAdd(rows, this.#feedForward(rows, layer), layer.finalNorm);
    }
    return rows;
  }

  /** The last layer's logits of all slots, all computed anew. */
  logits(source: readonly number[], inputs: readonly number[], causal: boolean): Rows {
    const encoded = this.encode(source);
    let state = this.start(inputs);
    for (const layer of this.#tree.decoder.layers) state = this.#layer(state, encoded, layer, causal);
    return state.map((row) => this.offRamp(row));
  }

  /**
   * Hard exit by its definition: after each layer every slot is tested; those that have left keep their state.
   * @param words what the entropy is taken over
   * @param quorum share of the slots whose leaving lets the others leave
   */
  hard(
    source: readonly number[],
    length: number,
    threshold: number,
    words: ReadonlySet<number> | null,
    quorum = 1,
  ) {
    const { layers } = this.#tree.decoder;
    const encoded = this.encode(source);
    const inputs = Array.from({ length }, (_, slot) => (slot === 0 ? SPECIAL_IDS.bos : SPECIAL_IDS.mask));
    let state = this.start(inputs);
    const tokens: (NaiveToken | null)[] = inputs.map(() => null);
    let end = length;
    let slotLayers = 0;
    layers.forEach((layer, number) => {
      const output = this.#layer(state, encoded, layer, false);
      const computes = tokens.map((token, slot) => token === null && slot < end);
      slotLayers += computes.filter(Boolean).length;
      output.forEach((row, slot) => {
        if (!computes[slot]) return;
        const logits = this.offRamp(row);
        const tested = words === null ? logits : logits.filter((_, id) => words.has(id));
        if (number < layers.length - 1 && entropyOf(tested) >= threshold) return;
        tokens[slot] = chosen(logits, number);
        if (tokens[slot]?.id === SPECIAL_IDS.eos) end = Math.min(end, slot);
      });
      const waiting = [...tokens.keys()].filter((slot) => tokens[slot] === null && slot < end);
      if (length - waiting.length >= quorum * length) {
        for (const slot of waiting) {
          tokens[slot] = chosen(this.offRamp(output[slot]!), number);
          if (tokens[slot]?.id === SPECIAL_IDS.eos) end = Math.min(end, slot);
        }
      }
      state = state.map((row, slot) => (computes[slot] ? output[slot]! : row));
    });
    return { ...cut(tokens.slice(0, end + 1) as NaiveToken[]), slotLayers };
  }

  /** Soft exit: each layer but the first reads concat_head([h ; E[argmax of the layer below]]). */
  soft(source: readonly number[], length: number): NaiveSequence {
    const { decoder, concatHead } = this.#tree;
    const encoded = this.encode(source);
    const inputs = Array.from({ length }, (_, slot) => (slot === 0 ? SPECIAL_IDS.bos : SPECIAL_IDS.mask));
    let state = this.start(inputs);
    decoder.layers.forEach((layer, number) => {
      if (number > 0) {
        state = state.map((row) => {
          const guess = chosen(this.offRamp(row), 0).id;
          const joined = [...row, ...this.#rowOf(this.#tree.shared, guess)];
          return product(concatHead!, joined);
        });
      }
      state = this.#layer(state, encoded, layer, false);
    });
    return cut(state.map((row) => chosen(this.offRamp(row), decoder.layers.length - 1)));
  }

  /** Greedy decoding that runs the whole decoder again for each token. */
  greedy(source: readonly number[], length: number): NaiveSequence {
    const tokens: NaiveToken[] = [];
    while (tokens.length < length && tokens.at(-1)?.id !== SPECIAL_IDS.eos) {
      const inputs = [SPECIAL_IDS.bos, ...tokens.map(({ id }) => id)];
      const logits = this.logits(source, inputs, true).at(-1)!;
      tokens.push(chosen(logits, this.#tree.decoder.layers.length - 1));
    }
    return cut(tokens);
  }

  /** The best of all sequences there are: those that end within `length`, and those of `length` that do not. */
  best(source: readonly number[], length: number, lengthPenalty: number): readonly number[] {
    let best: { ids: readonly number[]; score: number } = { ids: [], score: Number.NEGATIVE_INFINITY };
    const visit = (ids: readonly number[], sum: number) => {
      const isWhole = ids.at(-1) === SPECIAL_IDS.eos || ids.length === length;
      if (isWhole) {
        const score = sum / ids.length ** lengthPenalty;
        if (score > best.score) best = { ids, score };
        return;
      }
      const logits = this.logits(source, [SPECIAL_IDS.bos, ...ids], true).at(-1)!;
      const total = logSumExp(logits);
      for (const [id, logit] of logits.entries()) visit([...ids, id], sum + logit - total);
    };
    visit([], 0);
    return best.ids;
  }

  start(inputs: readonly number[]): Rows {
    return this.#embed(inputs, this.#tree.decoder.positions, this.#tree.decoder.embeddingNorm);
  }

  offRamp(row: Row): Row {
    return product(this.#tree.shared, row);
  }

  #layer(state: Rows, encoded: Rows, layer: DecoderLayerParameters<Leaf>, causal: boolean): Rows {
    const sees = (query: number, key: number) => !causal || key <= query;
    const attended = this.#attend(state, state, layer.selfAttention, sees);
    const own = this.#normAdd(state, attended, layer.selfAttentionNorm);
    const crossed = this.#attend(own, encoded, layer.crossAttention, () => true);
    const both = this.#normAdd(own, crossed, layer.crossAttentionNorm);
    return this.#normAdd(both, this.#feedForward(both, layer), layer.finalNorm);
  }

  #embed(ids: readonly number[], positions: Leaf, norm: Affine<Leaf>): Rows {
    const rows = ids.map((id, place) => {
      const position = this.#rowOf(positions, place + 2);
      return this.#rowOf(this.#tree.shared, id).map((value, column) => value + position[column]!);
    });
    return rows.map((row) => normed(row, norm));
  }

  #attend(
    queries: Rows,
    memory: Rows,
    { q, k, v, out }: AttentionParameters<Leaf>,
    sees: (query: number, key: number) => boolean,
  ): Rows {
    const { heads, dModel } = this.#model;
    const headSize = dModel / heads;
    const keys = memory.map((row) => linear(row, k));
    const values = memory.map((row) => linear(row, v));
    return queries.map((row, place) => {
      const query = linear(row, q).map((value) => value / Math.sqrt(headSize));
      const context = Array.from({ length: dModel }, (_, column) => {
        const first = Math.floor(column / headSize) * headSize;
        const scores = keys.map((key, number) => {
          if (!sees(place, number)) return Number.NEGATIVE_INFINITY;
          let score = 0;
          for (let i = first; i < first + headSize; i += 1) score += query[i]! * key[i]!;
          return score;
        });
        const total = logSumExp(scores);
        return scores.reduce(
          (sum, score, number) => sum + Math.exp(score - total) * values[number]![column]!,
          0,
        );
      });
      return linear(context, out);
    });
  }

  #feedForward(rows: Rows, { fc1, fc2 }: { fc1: Affine<Leaf>; fc2: Affine<Leaf> }): Rows {
    return rows.map((row) =>
      linear(
        linear(row, fc1).map((value) => 0.5 * value * (1 + erf(value / Math.SQRT2))),
        fc2,
      ),
    );
  }

  #normAdd(left: Rows, right: Rows, norm: Affine<Leaf>): Rows {
    return left.map((row, place) => {
      const sum = row.map((value, column) => value + right[place]![column]!);
      return normed(sum, norm);
    });
  }

  #rowOf({ shape, values }: Leaf, row: number): number[] {
    const width = shape[1]!;
    return [...values.subarray(row * width, (row + 1) * width)];
  }
}

function product({ shape, values }: Leaf, row: Row): number[] {
  const [out, width] = shape as [number, number];
  return Array.from({ length: out }, (_, place) =>
    row.reduce((sum, value, column) => sum + value * values[place * width + column]!, 0),
  );
}

function linear(row: Row, { weight, bias }: Affine<Leaf>): number[] {
  return product(weight, row).map((value, place) => value + bias.values[place]!);
}

function normed(row: Row, { weight, bias }: Affine<Leaf>): number[] {
  const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
  const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
  return row.map(
    (value, column) =>
      ((value - mean) / Math.sqrt(variance + 1e-5)) * weight.values[column]! + bias.values[column]!,
  );
}

function chosen(logits: Row, layer: number): NaiveToken {
  const id = logits.indexOf(Math.max(...logits));
  const next = Math.max(...logits.filter((_, other) => other !== id));
  return {
    id,
    layer,
    margin: logits[id]! - next,
    entropy: entropyOf(logits),
    probability: Math.exp(logits[id]! - logSumExp(logits)),
  };
}

function cut(tokens: readonly NaiveToken[]): NaiveSequence {
  const end = tokens.findIndex(({ id }) => id === SPECIAL_IDS.eos);
  return end === -1 ? { tokens, ended: false } : { tokens: tokens.slice(0, end + 1), ended: true };
}

export function entropyOf(logits: Row): number {
  const total = logSumExp(logits);
  return -logits.reduce((sum, logit) => sum + Math.exp(logit - total) * (logit - total), 0);
}

function logSumExp(values: Row): number {
  const largest = Math.max(...values);
  return largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}

/** The error function by its Taylor series, which converges everywhere; arguments here are small. */
function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; n < 120; n += 1) {
    term *= -(x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
