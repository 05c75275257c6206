import { describe, expect, it } from 'vitest';
import { historyRecordSchema, replayDifferences } from '../../../src/history/index.ts';
import { committed, recordsOf, skipped } from '../../support/history-fixtures.ts';

describe('history records', () => {
  it('fit their schema, and nothing more does', () => {
    for (const record of [...recordsOf(3), skipped(4)]) {
      expect(historyRecordSchema.parse(record)).toEqual(record);
      expect(historyRecordSchema.safeParse({ ...record, extra: 1 }).success).toBe(false);
      expect(historyRecordSchema.safeParse({ ...record, time: 'yesterday' }).success).toBe(false);
    }
    expect(historyRecordSchema.safeParse({ ...committed(1), tokens: 1 }).success).toBe(false);
    expect(historyRecordSchema.safeParse({ ...committed(1), lossSum: Number.NaN }).success).toBe(false);
    expect(historyRecordSchema.safeParse({ ...committed(1), slots: [] }).success).toBe(false);
    const { gradientNorm, ...without } = committed(1);
    expect(historyRecordSchema.safeParse(without).success).toBe(true);
  });
});

describe('the record of a skipped step', () => {
  it('names the slot, or none when only the sum was not finite', () => {
    expect(historyRecordSchema.parse({ ...skipped(1), slot: null })).toMatchObject({ slot: null });
    for (const slot of [-1, 1.5, '2', undefined]) {
      expect(historyRecordSchema.safeParse({ ...skipped(1), slot }).success).toBe(false);
    }
  });

  it('has a step, from 1 on, and who found it', () => {
    expect(historyRecordSchema.safeParse(skipped(0)).success).toBe(false);
    expect(historyRecordSchema.safeParse({ ...skipped(1), worker: '' }).success).toBe(false);
  });

  it('holds no tokens, loss or digests: there was no update', () => {
    for (const field of ['tokens', 'lossSum', 'gradientDigest', 'parametersDigest']) {
      expect(historyRecordSchema.safeParse({ ...skipped(1), [field]: 1 }).success).toBe(false);
    }
  });
});

describe('replayDifferences', () => {
  const recorded = committed(5);

  it('takes no notice of who computed a step, and when', () => {
    const again = {
      ...recorded,
      generation: 9,
      attempt: 3,
      time: '2027-01-01T00:00:00Z',
      slots: recorded.slots.map((slot) => ({ ...slot, worker: 'worker-9' })),
    };
    expect(replayDifferences(recorded, again)).toEqual([]);
  });

  it('names each bit that differs', () => {
    const slots = recorded.slots.map((slot, index) => (index === 2 ? { ...slot, lossSum: 0.5 } : slot));
    const again = { ...recorded, slots, gradientDigest: 'aa' };
    expect(replayDifferences(recorded, again)).toEqual([
      `gradientDigest: "${recorded.gradientDigest}" -> "aa"`,
      `slots.2.lossSum: ${recorded.slots[2]!.lossSum} -> 0.5`,
    ]);
  });

  it('takes the zeros for one, as the log does', () => {
    expect(replayDifferences({ ...recorded, lossSum: 0 }, { ...recorded, lossSum: -0 })).toEqual([]);
  });
});
