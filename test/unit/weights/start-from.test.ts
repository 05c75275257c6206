/** What `--from` names against the model and the data set of the run. */
import { describe, expect, it } from 'vitest';
import { requireSameSizes, requireSameTokens, startFrom } from '../../../src/cli/start-from.ts';
import type { ModelConfig } from '../../../src/config/index.ts';
import { type BpeTokenizer, trainBpe } from '../../../src/data/index.ts';
import { parameterLayout } from '../../../src/model/index.ts';
import type { WeightsSource } from '../../../src/weights/index.ts';
import { SMALL_BART } from '../../support/model-folders.ts';

const tokenizer = trainBpe(
  new Map([
    [' the', 9],
    [' then', 5],
  ]),
  263,
);
const MODEL: ModelConfig = { ...SMALL_BART, vocabSize: tokenizer.vocabSize };

/** Weights of zeros. */
function sourceOf(model: ModelConfig, own: BpeTokenizer | null = null): WeightsSource {
  const weights = {
    layout: parameterLayout(model),
    read: async (_: number, target: Uint8Array) => void target.fill(0),
  };
  const about = { path: 'models/x', description: 'x', notices: [] };
  return { ...about, model, weights, tokenizer: own, close: async () => {} };
}

describe('weights to start from', () => {
  it('have the sizes of the run, or all that differ are named; dropouts may', () => {
    requireSameSizes(sourceOf(MODEL), { ...MODEL, dropout: 0.5, attentionDropout: 0, initStd: 1 });
    expect(() => requireSameSizes(sourceOf(MODEL), { ...MODEL, heads: 4, ffnDim: 13 })).toThrow(
      '--from models/x: its model has other sizes (model.heads: 4 asked for, 2 there; model.ffnDim: 13 asked for, 12 there)',
    );
  });

  it('get the concat head that they lack, which is said, and do not lose the one they have', async () => {
    const wanted = { ...MODEL, concatHead: true };
    requireSameSizes(sourceOf(MODEL), wanted);
    const { notices, weights } = await startFrom(sourceOf(MODEL), wanted);
    expect(notices).toEqual([expect.stringContaining('has no concat_head.weight: it starts as [I | 0]')]);
    expect(weights.layout).toEqual(parameterLayout(wanted));
    expect(() => requireSameSizes(sourceOf(wanted), MODEL)).toThrow(
      /model\.concatHead: false asked for, true there/,
    );
  });

  it('have the tokens of the data set, each under the same id', () => {
    requireSameTokens(sourceOf(MODEL, tokenizer), tokenizer, 'data');
    requireSameTokens(sourceOf(MODEL), tokenizer, 'data');
    const larger = sourceOf({ ...MODEL, vocabSize: 300 });
    expect(() => requireSameTokens(larger, tokenizer, 'data')).toThrow(
      /has 300 tokens, but the data set data has \d+: prepare the data set with the tokenizer of the weights, --tokenizer models\/x/,
    );
    const other = trainBpe(
      new Map([
        [' cat', 9],
        [' cats', 5],
      ]),
      263,
    );
    expect(other.vocabSize).toBe(tokenizer.vocabSize);
    expect(() => requireSameTokens(sourceOf(MODEL, other), tokenizer, 'data')).toThrow(
      /token \d+ is ".*" there, but ".*" in the data set/,
    );
  });
});
