import { describe, expect, it } from 'vitest';
import { LockstepError } from '../../../src/base/index.ts';
import type { DeviceTrouble } from '../../../src/engine/index.ts';
import { firstRows, gradientDespiteTrouble } from '../../../src/worker/device-trouble.ts';
import { randomBatch } from '../../support/model-fixtures.ts';

const KEY = { seed: 1, step: 1, slot: 0 };
const batch = randomBatch(30, { sourceLengths: [9, 6, 7, 3, 2], targetLengths: [8, 5, 10, 2, 4] });
const parameters = Float32Array.of(1, 2);

/** A device that fails as told, one member for each gradient asked for; it needs its parameters after each start. */
function device(fails: (attempt: number, rows: number) => DeviceTrouble['kind'] | null) {
  const calls: string[] = [];
  let trouble: DeviceTrouble | null = null;
  let holds = true;
  let attempts = 0;
  return {
    calls,
    context: {
      engine: {
        device: 'Card',
        troubleOf: () => trouble,
        restart: async () => {
          calls.push('restart');
          trouble = null;
          holds = false;
        },
      },
      model: {
        setParameters: (flat: Float32Array) => {
          expect(flat).toBe(parameters);
          holds = true;
        },
        gradient: async ({ batchSize, realTokens }: typeof batch) => {
          expect(holds, 'a fresh device has been given the parameters').toBe(true);
          calls.push(`gradient of ${batchSize}`);
          const kind = fails(attempts, batchSize);
          attempts += 1;
          if (kind === null) return { lossSum: 7, realTokens };
          trouble = { kind, reason: 'as told' };
          throw new LockstepError('DEVICE_FAILED', 'as told');
        },
      },
      parameters,
      onRestart: ({ kind }: DeviceTrouble) => calls.push(kind),
    },
  };
}

const target = new Float32Array(2);

describe('a gradient despite trouble', () => {
  it('is computed once where there is none', async () => {
    const { context, calls } = device(() => null);
    expect(await gradientDespiteTrouble(context, batch, KEY, target)).toMatchObject({ lossSum: 7 });
    expect(calls).toEqual(['gradient of 5']);
  });

  it('is computed again after a fresh start when the device was lost', async () => {
    const { context, calls } = device((attempt) => (attempt < 2 ? 'lost' : null));
    expect(await gradientDespiteTrouble(context, batch, KEY, target)).toMatchObject({ lossSum: 7 });
    const lost = ['gradient of 5', 'lost', 'restart'];
    expect(calls).toEqual([...lost, ...lost, 'gradient of 5']);
  });

  it('is given up on a device that is lost time and again, which is said', async () => {
    const { context, calls } = device(() => 'lost');
    await expect(gradientDespiteTrouble(context, batch, KEY, target)).rejects.toMatchObject({
      code: 'DEVICE_FAILED',
      message: expect.stringMatching(/^Card was lost 4 times on one micro-batch: as told/),
    });
    expect(calls.filter((call) => call === 'restart').length).toBe(3);
  });

  it('passes on what is not about the device', async () => {
    const { context } = device(() => null);
    context.model.gradient = () => Promise.reject(new LockstepError('NOT_FINITE', 'the loss is NaN'));
    await expect(gradientDespiteTrouble(context, batch, KEY, target)).rejects.toMatchObject({
      code: 'NOT_FINITE',
    });
  });

  it.each([
    [2, '2 fit here when tried: set step.microBatchSize to 2'],
    [1, '1 fit here when tried'],
    [0, 'not even 1 fits'],
  ])('names the size that fits a device that holds %i rows, after trying it', async (capacity, text) => {
    const { context, calls } = device((_, rows) => (rows > capacity ? 'outOfMemory' : null));
    const error = await gradientDespiteTrouble(context, batch, KEY, target).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'DEVICE_FAILED' });
    expect(error.message).toContain('too little memory for step.microBatchSize 5');
    expect(error.message).toContain(text);
    // A device that is only full of what went before gets a second chance before anything smaller is tried.
    expect(calls.filter((call) => call === 'gradient of 5').length).toBe(2);
  });
});

describe('the first rows of a micro-batch', () => {
  it('are a micro-batch of the same width, with tokens counted anew', () => {
    const { sourceLength, targetLength } = batch;
    const two = firstRows(batch, 2);
    expect(two).toMatchObject({ batchSize: 2, sourceLength, targetLength, realTokens: 13 });
    expect(two.sourceIds).toEqual(batch.sourceIds.slice(0, 2 * sourceLength));
    expect(two.labels.length).toBe(2 * targetLength);
    expect([...two.sourceLengths]).toEqual([9, 6]);
  });
});
