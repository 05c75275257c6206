/** Generation against its plain twin: exits, ends, cached and beam decoding; nothing is left behind. */
import { beforeAll, describe, expect, test } from 'vitest';
import type { EngineName, ObjectiveKind } from '../../../src/config/index.ts';
import { loadEngine, probeEngines } from '../../../src/engine/index.ts';
import type { Tf } from '../../../src/model/differentiable.ts';
import {
  createGenerationModel,
  type DecodedSequence,
  type DecodingOptions,
  type GenerationModel,
  type SourceBatch,
} from '../../../src/model/index.ts';
import { initialParameters, MINI_MODEL, SPECIAL_IDS } from '../../support/model-fixtures.ts';
import { NaiveGeneration, type NaiveToken } from '../../support/naive-generation.ts';

/** Not webgpu, whose software driver is too slow for all of this. tensorflow brings fused kernels, wasm composes core ops. */
const engines = (await probeEngines())
  .filter(({ name, available }) => available && name !== 'webgpu')
  .map(({ name }) => name);
let tf: Tf;
// In this process they share one tfjs, whose backend is then switched.
for (const name of engines) ({ tf } = await loadEngine(name, { threads: 1 }));
const onEachEngine = describe.each(engines.map((name) => [name] as const));
const useEngine = async (name: EngineName) => {
  await tf.setBackend(name);
};

const MODEL = { ...MINI_MODEL, concatHead: true };
const DEFAULTS: DecodingOptions = {
  exit: 'hard',
  threshold: 1,
  quorum: 1,
  confidence: 'full',
  targetLength: 9,
  beams: 1,
  lengthPenalty: 1,
};
const SOURCES = [
  [0, 11, 12, 13, 2],
  [0, 5, 21, 2],
  [0, 30, 31, 32, 33, 34, 8, 2],
  [0, 2],
];

/** Parameters under which confidence differs from slot to slot and some choose `</s>`: a longer table. */
function parametersWithEnds(seed: number, model = MODEL): Float32Array {
  const flat = initialParameters(model, seed);
  const { dModel, vocabSize } = model;
  for (let i = 0; i < vocabSize * dModel; i += 1) {
    flat[i]! *= Math.floor(i / dModel) === SPECIAL_IDS.eos ? 4 : 3;
  }
  return flat;
}

function batchOf(sources: readonly (readonly number[])[]): SourceBatch {
  const sourceLength = Math.max(...sources.map(({ length }) => length));
  const sourceIds = new Int32Array(sources.length * sourceLength).fill(SPECIAL_IDS.pad);
  sources.forEach((ids, row) => {
    sourceIds.set(ids, row * sourceLength);
  });
  const sourceLengths = Int32Array.from(sources, ({ length }) => length);
  return { batchSize: sources.length, sourceLength, sourceIds, sourceLengths };
}

function modelOf(flat: Float32Array, kind: ObjectiveKind = 'lplm', more: object = {}): GenerationModel {
  const model = createGenerationModel({ tf, model: MODEL, kind, specialIds: SPECIAL_IDS, ...more });
  model.setParameters(flat);
  return model;
}

async function decode(model: GenerationModel, sources: readonly (readonly number[])[], more: object = {}) {
  const encoded = model.encode(batchOf(sources));
  try {
    return await model.decode(encoded, { ...DEFAULTS, ...more });
  } finally {
    encoded.dispose();
  }
}

function expectSame(
  actual: DecodedSequence,
  expected: { readonly tokens: readonly Omit<NaiveToken, 'margin'>[]; readonly ended: boolean },
): void {
  const choices = (tokens: readonly { id: number; layer: number }[]) =>
    tokens.map(({ id, layer }) => [id, layer]);
  expect(choices(actual.tokens)).toEqual(choices(expected.tokens));
  expect(actual.ended).toBe(expected.ended);
  actual.tokens.forEach(({ entropy, probability }, slot) => {
    if (entropy !== null) expect(entropy).toBeCloseTo(expected.tokens[slot]!.entropy, 4);
    expect(probability).toBeCloseTo(expected.tokens[slot]!.probability, 4);
  });
}

onEachEngine('parallel decoding, engine %s', (engine) => {
  beforeAll(() => useEngine(engine));

  test('by hard exit is what computing everything and selecting gives', async () => {
    const layersSeen = new Set<number>();
    let ends = 0;
    for (const seed of [4, 5, 6]) {
      const flat = parametersWithEnds(seed);
      const naive = new NaiveGeneration(MODEL, flat);
      const model = modelOf(flat);
      for (const threshold of [0.8, 1.2, 1.6]) {
        const { sequences, slotLayers } = await decode(model, SOURCES, { threshold });
        const twins = SOURCES.map((source) => naive.hard(source, DEFAULTS.targetLength, threshold, null));
        sequences.forEach((sequence, row) => {
          expectSame(sequence, twins[row]!);
          for (const { layer } of sequence.tokens) layersSeen.add(layer);
          if (sequence.ended) ends += 1;
        });
        expect(slotLayers).toBe(twins.reduce((sum, twin) => sum + twin.slotLayers, 0));
      }
      model.dispose();
    }
    // What is compared has exits at every layer, and sequences that end.
    expect([...layersSeen].sort()).toEqual([0, 1, 2]);
    expect(ends).toBeGreaterThan(5);
  });

  test('lets the last few of a sequence leave with the others, by its definition', async () => {
    const quorums = [1, 0.9, 0.8, 0.6, 0];
    const computed = quorums.map(() => 0);
    for (const seed of [4, 5, 6]) {
      const flat = parametersWithEnds(seed);
      const naive = new NaiveGeneration(MODEL, flat);
      const model = modelOf(flat);
      for (const [place, quorum] of quorums.entries()) {
        const { sequences, slotLayers } = await decode(model, SOURCES, { threshold: 0.8, quorum });
        const twins = SOURCES.map((source) => naive.hard(source, DEFAULTS.targetLength, 0.8, null, quorum));
        sequences.forEach((sequence, row) => {
          expectSame(sequence, twins[row]!);
        });
        expect(slotLayers).toBe(twins.reduce((sum, twin) => sum + twin.slotLayers, 0));
        computed[place]! += slotLayers;
      }
      model.dispose();
    }
    expect(computed).toEqual([...computed].sort((a, b) => b - a));
    expect(new Set(computed).size).toBeGreaterThan(3);
  });

  test('tests the shortlist that it says, and reads the tokens from the whole vocabulary', async () => {
    const flat = parametersWithEnds(4);
    const naive = new NaiveGeneration(MODEL, flat);
    // Without expected tokens the words are those of the sources and `</s>`.
    const model = modelOf(flat, 'lplm', { shortlistSize: 0 });
    for (const source of SOURCES) {
      const threshold = 0.5;
      const { sequences } = await decode(model, [source], { confidence: 'shortlist', threshold });
      const words = new Set([...source, SPECIAL_IDS.eos]);
      expectSame(sequences[0]!, naive.hard(source, DEFAULTS.targetLength, threshold, words));
    }
    model.dispose();
  });

  test('with a shortlist of all words decides as with the whole vocabulary', async () => {
    const model = modelOf(parametersWithEnds(2), 'lplm', { shortlistSize: MODEL.vocabSize });
    const full = await decode(model, SOURCES, { threshold: 1.2, confidence: 'full' });
    const short = await decode(model, SOURCES, { threshold: 1.2, confidence: 'shortlist' });
    expect(short.slotLayers).toBe(full.slotLayers);
    full.sequences.forEach(({ tokens, ended }, row) => {
      const numbers = tokens.map((token) => ({ ...token, entropy: token.entropy! }));
      expectSame(short.sequences[row]!, { tokens: numbers, ended });
    });
    model.dispose();
  });

  test('through all layers gives the same with either confidence: the end is found exactly', async () => {
    for (const seed of [1, 2, 3]) {
      const model = modelOf(parametersWithEnds(seed));
      const full = await decode(model, SOURCES, { exit: 'full', confidence: 'full' });
      expect(await decode(model, SOURCES, { exit: 'full', confidence: 'shortlist' })).toEqual(full);
      model.dispose();
    }
  });

  test('leaves at the last layer for threshold 0, at the first for infinity, and ever later between', async () => {
    const model = modelOf(parametersWithEnds(5));
    const layersOf = async (threshold: number) => {
      const { sequences, slotLayers } = await decode(model, SOURCES, { threshold });
      return { layers: sequences.flatMap(({ tokens }) => tokens.map(({ layer }) => layer)), slotLayers };
    };
    const thresholds = [0, 0.8, 1.2, 1.6, 2.4, Number.POSITIVE_INFINITY];
    const all = [];
    for (const threshold of thresholds) all.push(await layersOf(threshold));
    expect(new Set(all[0]!.layers)).toEqual(new Set([MODEL.decoderLayers - 1]));
    expect(new Set(all.at(-1)!.layers)).toEqual(new Set([0]));
    const computed = all.map(({ slotLayers }) => slotLayers);
    expect(computed).toEqual([...computed].sort((a, b) => b - a));
    expect(computed[0]).toBeGreaterThan(computed.at(-1)!);
    expect((await decode(model, SOURCES, { threshold: 0 })).sequences).toEqual(
      (await decode(model, SOURCES, { exit: 'full' })).sequences,
    );
    model.dispose();
  });

  test('by soft exit is what its plain form gives', async () => {
    for (const seed of [1, 2, 3]) {
      const flat = parametersWithEnds(seed);
      // Off its start value [I | 0], with which nothing of the embedding would count.
      for (let i = flat.length - 2 * MODEL.dModel ** 2; i < flat.length; i += 1)
        flat[i]! += 0.2 * Math.sin(i);
      const naive = new NaiveGeneration(MODEL, flat);
      const model = modelOf(flat, 'soft');
      const { sequences } = await decode(model, SOURCES, { exit: 'soft' });
      sequences.forEach((sequence, row) => {
        expectSame(sequence, naive.soft(SOURCES[row]!, DEFAULTS.targetLength));
      });
      model.dispose();
    }
  });
});

onEachEngine('autoregressive decoding, engine %s', (engine) => {
  beforeAll(() => useEngine(engine));

  const options = { exit: 'full' };

  test('with caches gives the tokens of decoding anew each time', async () => {
    let ends = 0;
    for (const seed of [4, 5, 6]) {
      const flat = parametersWithEnds(seed);
      const naive = new NaiveGeneration(MODEL, flat);
      const model = modelOf(flat, 'autoregressive');
      const { sequences } = await decode(model, SOURCES, options);
      sequences.forEach((sequence, row) => {
        expectSame(sequence, naive.greedy(SOURCES[row]!, DEFAULTS.targetLength));
        if (sequence.ended) ends += 1;
      });
      model.dispose();
    }
    expect(ends).toBeGreaterThan(0);
  });

  test('with as many beams as there are sequences finds the best of them all', async () => {
    const small = { ...MODEL, vocabSize: 6 };
    for (const seed of [1]) {
      const flat = initialParameters(small, seed);
      const naive = new NaiveGeneration(small, flat);
      const model = createGenerationModel({
        ...{ tf, model: small, kind: 'autoregressive', specialIds: SPECIAL_IDS },
      });
      model.setParameters(flat);
      const sources = [
        [0, 4, 5, 2],
        [0, 5, 2],
      ];
      for (const lengthPenalty of [0, 1, 2]) {
        const wide = { ...options, targetLength: 3, beams: 216, lengthPenalty };
        const { sequences } = await decode(model, sources, wide);
        sequences.forEach(({ tokens }, row) => {
          expect(tokens.map(({ id }) => id)).toEqual(naive.best(sources[row]!, 3, lengthPenalty));
        });
      }
      model.dispose();
    }
  });

  test('with beams does not depend on the batch, and finds what greedy misses', async () => {
    let better = 0;
    for (const seed of [4, 5]) {
      const model = modelOf(parametersWithEnds(seed), 'autoregressive');
      const beams = { ...options, beams: 3, lengthPenalty: 0 };
      const together = (await decode(model, SOURCES, beams)).sequences;
      const greedy = (await decode(model, SOURCES, options)).sequences;
      const logProbability = ({ tokens }: DecodedSequence) =>
        tokens.reduce((sum, { probability }) => sum + Math.log(probability), 0);
      for (const [row, source] of SOURCES.entries()) {
        const [alone] = (await decode(model, [source], beams)).sequences;
        expect(alone!.tokens.map(({ id }) => id)).toEqual(together[row]!.tokens.map(({ id }) => id));
        if (logProbability(together[row]!) > logProbability(greedy[row]!) + 0.01) better += 1;
      }
      model.dispose();
    }
    expect(better).toBeGreaterThan(1);
  });
});

onEachEngine('the generation model, engine %s', (engine) => {
  beforeAll(() => useEngine(engine));

  test('says the same twice and leaves no tensor behind', async () => {
    const before = tf.memory().numTensors;
    for (const kind of ['lplm', 'autoregressive'] as const) {
      const model = modelOf(parametersWithEnds(2), kind);
      const all: object[] =
        kind === 'lplm'
          ? [{}, { confidence: 'shortlist' }, { exit: 'full' }, { exit: 'soft' }, { threshold: 0 }]
          : [{ exit: 'full' }, { exit: 'full', beams: 3 }];
      for (const options of all) {
        const during = tf.memory().numTensors;
        const first = await decode(model, SOURCES, options);
        expect(await decode(model, SOURCES, options)).toEqual(first);
        expect(tf.memory().numTensors).toBe(during);
      }
      model.setParameters(parametersWithEnds(3));
      model.dispose();
      expect(tf.memory().numTensors).toBe(before);
    }
  });

  test('refuses an exit that it has not got, and lengths beyond its positions', async () => {
    const headless = createGenerationModel({
      ...{ tf, model: MINI_MODEL, kind: 'lplm', specialIds: SPECIAL_IDS },
    });
    headless.setParameters(initialParameters(MINI_MODEL));
    await expect(decode(headless, SOURCES, { exit: 'soft' })).rejects.toThrow(
      'exit is soft: the model has no concat_head',
    );
    await expect(decode(headless, SOURCES, { beams: 2 })).rejects.toThrow(
      'beams is 2: only an autoregressive model',
    );
    await expect(decode(headless, SOURCES, { targetLength: 21 })).rejects.toThrow('a target of 21 tokens');
    await expect(decode(headless, [Array.from({ length: 21 }, () => 5)])).rejects.toThrow(
      'a source of 21 tokens',
    );
    headless.dispose();
    const causal = modelOf(parametersWithEnds(1), 'autoregressive');
    await expect(decode(causal, SOURCES, { exit: 'hard' })).rejects.toThrow(
      'exit is hard: an autoregressive model',
    );
    causal.dispose();
  });
});
