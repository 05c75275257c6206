import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { PRESETS } from '../../../src/config/index.ts';
import {
  type Dataset,
  microBatch,
  openDataset,
  prepareDataset,
  samplePlace,
} from '../../../src/data/index.ts';
import { sampleText, temporaryFolder, writeInto } from '../../support/data-files.ts';

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
    const batch = microBatch(await dataset(), { seed: 1, step: 3, slot: 2 }, data, stepConfig);
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
    } = microBatch(await dataset(), { seed: 1, step: 1, slot: 0 }, quiet, stepConfig);
    expect(S).toBe(T + 1);
    for (let row = 0; row < microBatchSize; row += 1) {
      expect(sourceIds.subarray(row * S + 1, (row + 1) * S)).toEqual(labels.subarray(row * T, (row + 1) * T));
    }
  });

  it('depends on its key only, not on what was drawn before', async () => {
    const set = await dataset();
    const key = { seed: 7, step: 5, slot: 1 };
    const first = microBatch(set, key, data, stepConfig);
    microBatch(set, { ...key, slot: 3 }, data, stepConfig);
    expect(microBatch(set, key, data, stepConfig)).toEqual(first);
    expect(microBatch(await dataset(), key, data, stepConfig)).toEqual(first);
    expect(microBatch(set, { ...key, seed: 8 }, data, stepConfig)).not.toEqual(first);
    expect(microBatch(set, { ...key, step: 6 }, data, stepConfig)).not.toEqual(first);
  });

  it('noises the same text differently in each epoch', async () => {
    const set = await dataset();
    const { count } = set.samplesFor(data.sequenceLength);
    const one = { microBatches: count, microBatchSize: 1 };
    const byText = new Map<string, Set<string>>();
    for (const step of [1, 2]) {
      for (let slot = 0; slot < count; slot += 1) {
        const { labels, sourceIds } = microBatch(set, { seed: 1, step, slot }, data, one);
        const seen = byText.get(labels.join()) ?? new Set();
        byText.set(labels.join(), seen.add(sourceIds.join()));
      }
    }
    const changed = [...byText.values()].filter((sources) => sources.size > 1).length;
    expect(changed / byText.size).toBeGreaterThan(0.9);
  });
});
