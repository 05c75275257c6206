/** The configurations in configs/: each is whole, and says what was published (ELMER.md section 4). */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { PRESETS, readConfigFile, resolveConfig } from '../../../src/config/index.ts';

const FOLDER = fileURLToPath(new URL('../../../configs/', import.meta.url));
const names = readdirSync(FOLDER);

describe('configurations of tasks', () => {
  it('are there for the three tasks', () => {
    expect(names.toSorted()).toEqual(['personachat.json', 'squad-question-generation.json', 'xsum.json']);
  });

  it.each(names)('%s resolves, with the published settings', (name) => {
    const path = FOLDER + name;
    const { optimizer, step, model, data } = resolveConfig({ file: { path, values: readConfigFile(path) } });
    const { learningRate, schedule, warmupSteps, beta1, beta2, epsilon, weightDecay, clipNorm } = optimizer;
    expect({ learningRate, schedule, warmupSteps, beta1, beta2, epsilon, weightDecay, clipNorm }).toEqual({
      ...{ learningRate: 2e-5, schedule: 'constant', warmupSteps: 0, beta1: 0.9, beta2: 0.999 },
      ...{ epsilon: 1e-8, weightDecay: 0, clipNorm: null },
    });
    expect(step.microBatches * step.microBatchSize).toBe(32);
    expect([model.dropout, model.attentionDropout, model.activationDropout]).toEqual([0.1, 0.1, 0.1]);
    expect(data.sequenceLength).toBe(512);
    // What generation fills: a model that never sees free slots cannot tell where to end.
    expect(data.targetSlots).toBe('full');
  });

  it.each(names)('%s takes its sizes from the weights', (name) => {
    const path = FOLDER + name;
    const small = { ...PRESETS.small.model, maxPositions: 512, vocabSize: 5000 };
    const { model } = resolveConfig({ model: small, file: { path, values: readConfigFile(path) } });
    expect(model).toEqual({ ...small, dropout: 0.1, attentionDropout: 0.1, activationDropout: 0.1 });
  });
});
