import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type DataConfig, PRESETS } from '../../../src/config/index.ts';
import {
  type Dataset,
  type MicroBatch,
  microBatch,
  openDataset,
  prepareDataset,
  type Samples,
  samplePlace,
  sampleSpecOf,
  validationBatch,
} from '../../../src/data/index.ts';
import { errorOf, sampleText, temporaryFolder, writeInto } from '../../support/data-files.ts';

const { data, step: stepConfig } = PRESETS.tiny;
const { microBatches, microBatchSize } = stepConfig;
const quiet = { ...data, noise: { ...data.noise, sentencePermutation: 0, maskRatio: 0 } };

async function dataset(): Promise<Dataset> {
  const folder = temporaryFolder();
  const lines = Array.from({ length: 25 }, (_, seed) =>
    JSON.stringify({ text: sampleText(seed, 1 + (seed % 14)) }),
  );
  const input = writeInto(folder, 'a.jsonl', lines.join('\n'));
  const outDir = join(folder, 'set');
  await prepareDataset({ inputs: [input], outDir, vocabSize: 340 });
  const opened = await openDataset(outDir);
  onTestFinished(() => opened.close());
  return opened;
}

describe('samplePlace', () => {
  it('goes through every sample once an epoch, across slots and steps', () => {
    const count = 45;
    const places = Array.from({ length: 3 * count }, (_, index) => {
      const row = index % microBatchSize;
      const slot = Math.floor(index / microBatchSize) % microBatches;
      const step = 1 + Math.floor(index / microBatchSize / microBatches);
      return samplePlace({ seed: 4, step, slot }, row, count, stepConfig);
    });
    for (const epoch of [0, 1, 2]) {
      const samples = places.filter((place) => place.epoch === epoch).map(({ sample }) => sample);
      expect(samples).toHaveLength(count);
      expect(new Set(samples).size).toBe(count);
    }
  });

  it('begins with step 1 and refuses places outside the step', () => {
    expect(samplePlace({ seed: 4, step: 1, slot: 0 }, 0, 1000, stepConfig).epoch).toBe(0);
    expect(() => samplePlace({ seed: 4, step: 0, slot: 0 }, 0, 10, stepConfig)).toThrow('step 0');
    expect(() => samplePlace({ seed: 4, step: 1, slot: microBatches }, 0, 10, stepConfig)).toThrow('slot');
  });
});

describe('microBatch', () => {
  it('has the documented shape: framed sources, shifted labels, padding', async () => {
    const batch = await microBatch(await dataset(), { seed: 1, step: 3, slot: 2 }, data, stepConfig);
    const { sourceLength: S, targetLength: T } = batch;
    expect(batch.batchSize).toBe(microBatchSize);
    expect([batch.sourceIds.length, batch.labels.length]).toEqual([microBatchSize * S, microBatchSize * T]);
    expect(Math.max(...batch.sourceLengths)).toBe(S);
    expect(S).toBeLessThanOrEqual(data.sequenceLength);
    expect(T).toBeLessThanOrEqual(data.sequenceLength - 1);
    let real = 0;
    for (let row = 0; row < microBatchSize; row += 1) {
      const source = batch.sourceIds.subarray(row * S, (row + 1) * S);
      const length = batch.sourceLengths[row]!;
      expect([source[0], source[length - 1]]).toEqual([0, 2]);
      expect(source.subarray(length).every((id) => id === 1)).toBe(true);
      const labels = batch.labels.subarray(row * T, (row + 1) * T);
      const end = labels.indexOf(2);
      expect(labels.subarray(end + 1).every((id) => id === 1)).toBe(true);
      expect(labels.subarray(0, end).every((id) => id > 3)).toBe(true);
      real += end + 1;
    }
    expect(batch.realTokens).toBe(real);
  });

  it('has the target as its source where there is no noise', async () => {
    const {
      sourceIds,
      labels,
      sourceLength: S,
      targetLength: T,
    } = await microBatch(await dataset(), { seed: 1, step: 1, slot: 0 }, quiet, stepConfig);
    expect(S).toBe(T + 1);
    for (let row = 0; row < microBatchSize; row += 1) {
      expect(sourceIds.subarray(row * S + 1, (row + 1) * S)).toEqual(labels.subarray(row * T, (row + 1) * T));
    }
  });

  it('depends on its key only, not on what was drawn before', async () => {
    const set = await dataset();
    const key = { seed: 7, step: 5, slot: 1 };
    const first = await microBatch(set, key, data, stepConfig);
    await microBatch(set, { ...key, slot: 3 }, data, stepConfig);
    expect(await microBatch(set, key, data, stepConfig)).toEqual(first);
    expect(await microBatch(await dataset(), key, data, stepConfig)).toEqual(first);
    expect(await microBatch(set, { ...key, seed: 8 }, data, stepConfig)).not.toEqual(first);
    expect(await microBatch(set, { ...key, step: 6 }, data, stepConfig)).not.toEqual(first);
  });

  it('noises the same text differently in each epoch', async () => {
    const set = await dataset();
    const { count } = await set.samples(sampleSpecOf(data, 'train'));
    const one = { microBatches: count, microBatchSize: 1 };
    const byText = new Map<string, Set<string>>();
    for (const step of [1, 2]) {
      for (let slot = 0; slot < count; slot += 1) {
        const { labels, sourceIds } = await microBatch(set, { seed: 1, step, slot }, data, one);
        const seen = byText.get(labels.join()) ?? new Set();
        byText.set(labels.join(), seen.add(sourceIds.join()));
      }
    }
    const changed = [...byText.values()].filter((sources) => sources.size > 1).length;
    expect(changed / byText.size).toBeGreaterThan(0.9);
  });

  it('packs whole documents, each noised on its own and ended by </s>', async () => {
    const set = await dataset();
    const packed = { ...data, packing: 'packed', sequenceLength: 400 } as const;
    const samples = await set.samples(sampleSpecOf(packed, 'train'));
    expect(samples.count).toBeLessThan((await set.samples(sampleSpecOf(data, 'train'))).count);
    let several = 0;
    for (let slot = 0; slot < microBatches; slot += 1) {
      const key = { seed: 3, step: 1, slot };
      const noised = await microBatch(set, key, packed, stepConfig);
      const plain = await microBatch(set, key, { ...packed, noise: quiet.noise }, stepConfig);
      const { sourceLength: S, targetLength: T } = noised;
      expect(S).toBeLessThanOrEqual(packed.sequenceLength);
      for (let row = 0; row < microBatchSize; row += 1) {
        const source = noised.sourceIds.subarray(row * S, row * S + noised.sourceLengths[row]!);
        const target = noised.labels.subarray(row * T, (row + 1) * T);
        const real = target.subarray(0, target.lastIndexOf(2) + 1);
        const ends = real.filter((id) => id === 2).length;
        expect(source.filter((id) => id === 2)).toHaveLength(ends);
        expect(source.filter((id) => id === 0)).toHaveLength(1);
        if (ends > 1) several += 1;
        const { sample } = samplePlace(key, row, samples.count, stepConfig);
        const parts = await samples.read(sample);
        expect([...real]).toEqual(parts.flatMap((part) => [...part, 2]));
        const quietRow = plain.sourceIds.subarray(row * plain.sourceLength, (row + 1) * plain.sourceLength);
        expect(quietRow.subarray(1, real.length + 1)).toEqual(real);
      }
    }
    expect(several).toBeGreaterThan(3);
  });
});

describe('decoder slots', () => {
  const roomy = { ...data, targetLength: 60 } as const;
  const widthsOf = async (config: DataConfig, seed = 1) => {
    const set = await dataset();
    const keys = [1, 2, 3].flatMap((step) => [0, 1, 2, 3].map((slot) => ({ seed, step, slot })));
    return Promise.all(keys.map((key) => microBatch(set, key, config, stepConfig)));
  };
  const longestOf = ({ labels, targetLength, batchSize }: MicroBatch) =>
    Math.max(
      ...Array.from({ length: batchSize }, (_, row) =>
        labels.subarray(row * targetLength, (row + 1) * targetLength).lastIndexOf(2),
      ),
    ) + 1;

  it('are as many as the longest target has, or as many as allowed', async () => {
    for (const batch of await widthsOf(roomy)) expect(batch.targetLength).toBe(longestOf(batch));
    for (const batch of await widthsOf({ ...roomy, targetSlots: 'full' }))
      expect(batch.targetLength).toBe(60);
    for (const batch of await widthsOf({ ...data, targetSlots: 'full' })) {
      expect(batch.targetLength).toBe(data.sequenceLength);
    }
  });

  it('are drawn between the two by seed, step and slot alone, and change nothing else', async () => {
    const random = await widthsOf({ ...roomy, targetSlots: 'random' });
    const longest = await widthsOf(roomy);
    random.forEach((batch, index) => {
      const bare = longest[index]!;
      expect(batch.targetLength).toBeGreaterThanOrEqual(bare.targetLength);
      expect(batch.targetLength).toBeLessThanOrEqual(60);
      expect(longestOf(batch)).toBe(bare.targetLength);
      expect([batch.sourceIds, batch.realTokens]).toEqual([bare.sourceIds, bare.realTokens]);
    });
    expect(new Set(random.map(({ targetLength }) => targetLength)).size).toBeGreaterThan(4);
    expect(await widthsOf({ ...roomy, targetSlots: 'random' })).toEqual(random);
    const other = await widthsOf({ ...roomy, targetSlots: 'random' }, 2);
    expect(other.map(({ targetLength }) => targetLength)).not.toEqual(
      random.map(({ targetLength }) => targetLength),
    );
  });

  it('reach both ends of the range, each width about equally often', async () => {
    const set = await dataset();
    const one = { microBatches: 600, microBatchSize: 1 };
    const config = { ...data, targetLength: 52, targetSlots: 'random' } as const;
    const counts = new Map<number, number>();
    for (let slot = 0; slot < 600; slot += 1) {
      const batch = await microBatch(set, { seed: 5, step: 1, slot }, config, one);
      const longest = longestOf(batch);
      // Widths of 4 classes, from the longest target to the limit.
      const share = Math.floor((4 * (batch.targetLength - longest)) / (52 - longest + 1));
      counts.set(share, (counts.get(share) ?? 0) + 1);
      if (batch.targetLength === 52) counts.set(52, 1);
      if (batch.targetLength === longest) counts.set(-1, 1);
    }
    expect(counts.get(52)).toBe(1);
    expect(counts.get(-1)).toBe(1);
    for (const share of [0, 1, 2, 3]) expect(counts.get(share)).toBeGreaterThan(100);
  });

  it('are none beyond what a short target length allows: texts are divided to fit', async () => {
    const set = await dataset();
    const short = { ...data, targetLength: 12 };
    const batch = await microBatch(set, { seed: 1, step: 1, slot: 0 }, short, stepConfig);
    expect(batch.targetLength).toBeLessThanOrEqual(12);
    const shortSamples = await set.samples(sampleSpecOf(short, 'train'));
    expect(shortSamples.count).toBeGreaterThan((await set.samples(sampleSpecOf(data, 'train'))).count);
  });
});

describe('validationBatch', () => {
  const held = { ...data, validationShare: 0.3 };

  it('goes through the documents that training never sees', async () => {
    const set = await dataset();
    const training = await set.samples(sampleSpecOf(held, 'train'));
    const validation = await set.samples(sampleSpecOf(held, 'validation'));
    expect(training.count + validation.count).toBe((await set.samples(sampleSpecOf(data, 'train'))).count);
    const batch = await validationBatch(set, 0, validation.count, 1, held);
    expect(batch.batchSize).toBe(validation.count);
    expect(await validationBatch(await dataset(), 0, validation.count, 1, held)).toEqual(batch);
    const firsts = async (samples: Samples) => {
      const places = Array.from({ length: samples.count }, (_, sample) => samples.places(sample));
      return (await Promise.all(places)).flat().map(({ first }) => first);
    };
    const trained = new Set(await firsts(training));
    expect((await firsts(validation)).filter((first) => trained.has(first))).toEqual([]);
  });

  it('refuses a share that leaves a side empty', async () => {
    const set = await dataset();
    const none = { ...data, validationShare: 1e-6 };
    const error = await errorOf(() => set.samples(sampleSpecOf(none, 'validation')));
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toContain('data.validationShare is 0.000001');
  });
});
