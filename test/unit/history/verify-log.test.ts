/**
 * What `verify` finds in a log whose checksums are all right: each mutation is chained anew, so only
 * the meaning is wrong.
 */

import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { LockstepError } from '../../../src/base/index.ts';
import { type VerifiedRun, verifyRun } from '../../../src/cli/verify-run.ts';
import { bitDecidingPart, fingerprintOf } from '../../../src/config/index.ts';
import type { CommittedRecord, HistoryRecord, OpenedRecord } from '../../../src/history/index.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import {
  CHECKPOINT_STEPS,
  CONFIG,
  checkpointed,
  committed,
  factsOf,
  NUM_SLOTS,
  naiveDigest,
  OPENED,
  runRecords,
  STEPS,
  tokensUpTo,
  weightsSha256,
  writeCheckpoints,
  writeLog,
} from '../../support/verifiable-run.ts';

const RECORDS = runRecords();
/** Has the checkpoints; the log is written anew by each test. */
let dir: string;
/** Has a log only. */
let bare: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  bare = await temporaryFolder();
  await writeCheckpoints(
    dir,
    CHECKPOINT_STEPS.map((step) => ({ step })),
  );
});

/** What comes of a run with these records: the proof, or what is wrong. */
async function verdict(
  records: readonly HistoryRecord[],
  folder = dir,
): Promise<VerifiedRun | LockstepError> {
  await writeLog(folder, records);
  try {
    return await verifyRun(folder);
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    expect(error.message).not.toContain('\n');
    return error;
  }
}

async function refusal(records: readonly HistoryRecord[], folder = dir): Promise<LockstepError> {
  const found = await verdict(records, folder);
  if (found instanceof LockstepError) return found;
  throw new Error('the run was found right');
}

const lineOfStep = (step: number) =>
  RECORDS.findIndex((record) => record.kind === 'committed' && record.step === step) + 1;

/** The records with one committed step changed. */
function altered(
  step: number,
  change: (record: CommittedRecord) => Partial<CommittedRecord>,
): HistoryRecord[] {
  return RECORDS.map((record) =>
    record.kind === 'committed' && record.step === step ? { ...record, ...change(record) } : record,
  );
}

function withOpened(change: Partial<OpenedRecord>): HistoryRecord[] {
  return [{ ...OPENED, ...change }, ...RECORDS.slice(1)];
}

describe('a run that is right', () => {
  it('is proven: steps, slots, tokens, checkpoints, weights', async () => {
    const found = await verdict(RECORDS);
    expect(found).toMatchObject({
      log: {
        numRecords: RECORDS.length,
        numSlots: STEPS * NUM_SLOTS,
        history: { lastStep: STEPS, tokens: tokensUpTo(STEPS), finished: true },
        tail: null,
      },
      notes: [],
    });
    expect((found as VerifiedRun).checkpoints).toEqual(
      CHECKPOINT_STEPS.map((step) => ({
        step,
        weightsSha256: weightsSha256(step),
        // A commit names the parameters that it started from.
        parametersDigest: committed(step + 1).parametersDigest,
        chained: step < STEPS,
      })),
    );
  });

  it('may have been resumed, and have stored a checkpoint again', async () => {
    const resumed: HistoryRecord = { kind: 'resumed', fromStep: 2, reason: 'resume', time: OPENED.time };
    const records = [...RECORDS.slice(0, -1), resumed, checkpointed(4), checkpointed(6), RECORDS.at(-1)!];
    expect(await verdict(records)).toMatchObject({ log: { numRecords: records.length }, notes: [] });
  });

  it('may have been done by anyone, in any generation, attempt and time', async () => {
    const others = { generation: 7, attempt: 3, time: '2001-01-01T00:00:00Z' };
    const records = altered(4, ({ slots }) => ({
      ...others,
      slots: slots.map((slot) => ({ ...slot, worker: 'somebody' })),
    }));
    expect(await verdict(records)).toMatchObject({ notes: [] });
  });

  it('may have a zero loss of either sign, which JSON does not tell apart', async () => {
    const records = altered(3, ({ slots }) => ({
      lossSum: 0,
      slots: slots.map((slot) => ({ ...slot, lossSum: -0 })),
    }));
    expect(await verdict(records)).toMatchObject({ notes: [] });
  });

  it('may just have begun', async () => {
    expect(await verdict([], bare)).toMatchObject({
      log: { numRecords: 0 },
      checkpoints: [],
      notes: [expect.stringMatching(/holds no record yet/)],
    });
    expect(await verdict([OPENED], bare)).toMatchObject({ log: { history: { lastStep: 0 } }, notes: [] });
  });
});

describe('a run that has skipped a step', () => {
  const skipping = { ...CONFIG, optimizer: { ...CONFIG.optimizer, onNotFinite: 'skip' } } as const;
  const opened: OpenedRecord = {
    ...OPENED,
    config: skipping,
    fingerprint: fingerprintOf(bitDecidingPart(skipping, OPENED.datasetSha256)),
  };
  /** Step 3 in place of its commit; the parameters that step 4 starts from are those of step 2. */
  const { parametersDigest } = committed(3);
  const skip: HistoryRecord = {
    ...{ kind: 'skipped', step: 3, generation: 1, slot: NUM_SLOTS - 1, worker: 'worker-0' },
    ...{ reason: 'overflow', time: OPENED.time },
  };
  const records = [
    opened,
    ...[committed(1), committed(2), checkpointed(2), skip],
    { ...committed(4), parametersDigest },
  ];
  let folder: string;

  beforeAll(async () => {
    folder = await temporaryFolder();
    const part = bitDecidingPart(skipping, OPENED.datasetSha256);
    const facts = { ...factsOf(2), fingerprint: opened.fingerprint, bitDeciding: { ...part } };
    await writeCheckpoints(folder, [{ step: 2, facts }]);
  });

  it('is proven like any other; its tokens and slots are those of the others', async () => {
    expect(await verdict(records, folder)).toMatchObject({
      log: {
        numSlots: 3 * NUM_SLOTS,
        history: { lastStep: 4, tokens: tokensUpTo(2) + committed(4).tokens },
      },
      checkpoints: [{ step: 2, chained: true }],
      notes: [],
    });
  });

  it('does not count a checkpoint as confirmed by a step that nobody voted on', async () => {
    expect(await verdict(records.slice(0, -1), folder)).toMatchObject({
      checkpoints: [{ step: 2, chained: false }],
    });
  });

  it('has changed nothing by it: the commit after it started from what the checkpoint holds', async () => {
    const error = await refusal(records.with(-1, committed(4)), folder);
    expect(error).toMatchObject({ code: 'CHECKPOINT_INVALID', context: { step: 2, line: 6 } });
    expect(error.message).toContain('digest of its parameters');
  });

  it('may store what it was left with: a checkpoint of that step names no commit', async () => {
    const dir = await temporaryFolder();
    const part = bitDecidingPart(skipping, OPENED.datasetSha256);
    const facts = {
      ...{ ...factsOf(3), fingerprint: opened.fingerprint, bitDeciding: { ...part } },
      ...{ commit: null, tokensSeen: tokensUpTo(2) },
    };
    await writeCheckpoints(dir, [{ step: 3, facts }]);
    // The made-up weights of step 3 are what step 4 starts from.
    const right = records.with(-1, committed(4));
    expect(await verdict(right, dir)).toMatchObject({ checkpoints: [{ step: 3, chained: true }] });
    await writeCheckpoints(dir, [{ step: 3, facts: { ...facts, commit: factsOf(3).commit } }]);
    expect(await refusal(right, dir)).toMatchObject({
      context: { step: 3, field: 'commit.gradientDigest', expected: null },
    });
  });

  it('had to be allowed to', async () => {
    expect(await refusal(records.with(0, OPENED), folder)).toMatchObject({
      code: 'HISTORY_CORRUPT',
      context: { line: 5, step: 3, field: 'kind', recorded: 'skipped', expected: 'committed' },
    });
  });

  it('names a slot of its steps', async () => {
    const error = await refusal(records.with(4, { ...skip, slot: NUM_SLOTS }), folder);
    expect(error.context).toMatchObject({ line: 5, step: 3, field: 'slot', recorded: NUM_SLOTS });
    expect(await verdict(records.with(4, { ...skip, slot: null }), folder)).toMatchObject({ notes: [] });
  });
});

describe('a record that is wrong is named: line, step, field, recorded, expected', () => {
  const rate = committed(3).learningRate;
  it.each<[string, HistoryRecord[], Record<string, unknown>]>([
    [
      'a learning rate off the schedule',
      altered(3, () => ({ learningRate: rate * 1.01 })),
      { step: 3, field: 'learningRate', recorded: rate * 1.01, expected: rate },
    ],
    [
      'the rate of another step',
      altered(5, () => ({ learningRate: rate })),
      { step: 5, field: 'learningRate', recorded: rate, expected: committed(5).learningRate },
    ],
    [
      'a slot too few, whose tokens and loss are not counted either',
      altered(4, ({ slots, tokens }) => {
        const kept = slots.slice(0, -1);
        const lossSum = kept.reduce((sum, slot) => sum + slot.lossSum, 0);
        return { slots: kept, tokens: tokens - slots.at(-1)!.tokens, lossSum };
      }),
      { step: 4, field: 'number of slots', recorded: NUM_SLOTS - 1, expected: NUM_SLOTS },
    ],
    [
      'a slot twice',
      altered(1, ({ slots, tokens }) => {
        const doubled = [...slots, slots.at(-1)!];
        const lossSum = doubled.reduce((sum, slot) => sum + slot.lossSum, 0);
        return { slots: doubled, tokens: tokens + slots.at(-1)!.tokens, lossSum };
      }),
      { step: 1, field: 'number of slots', recorded: NUM_SLOTS + 1, expected: NUM_SLOTS },
    ],
    [
      'a loss that is not the sum',
      altered(6, ({ lossSum }) => ({ lossSum: lossSum + 2 ** -40 })),
      {
        step: 6,
        field: 'lossSum',
        recorded: committed(6).lossSum + 2 ** -40,
        expected: committed(6).lossSum,
      },
    ],
  ])('%s', async (_, records, context) => {
    const error = await refusal(records);
    expect(error.code).toBe('HISTORY_CORRUPT');
    const line = lineOfStep(Number(context.step));
    expect(error.context).toMatchObject({ ...context, line });
    const { step, field, recorded, expected } = context;
    expect(error.message).toContain(
      `commits.log: line ${line}, step ${step}: ${field}: ${recorded} recorded, ${expected} expected`,
    );
  });

  it('tokens that are not the sum', async () => {
    const { message, context } = await refusal(altered(5, ({ tokens }) => ({ tokens: tokens + 1 })));
    const { tokens } = committed(5);
    expect(message).toContain(`tokens: ${tokens + 1} in step 5 instead of ${tokens}`);
    expect(context).toMatchObject({ line: lineOfStep(5) });
  });

  it.each(['NaN', 'Infinity', '-Infinity'])('a loss of %s, which JSON cannot hold', async (text) => {
    const { code, message, context } = await refusal(altered(2, () => ({ lossSum: Number(text) })));
    expect(code).toBe('HISTORY_CORRUPT');
    expect(message).toMatch(/lossSum: .*expected number, received null/);
    expect(context).toMatchObject({ line: lineOfStep(2) });
  });

  it('a checkpoint announced again with other weights', async () => {
    const again = { ...checkpointed(2), weightsSha256: weightsSha256(4) } as HistoryRecord;
    const { message, context } = await refusal(RECORDS.toSpliced(-1, 0, again));
    expect(message).toMatch(/line 11, step 2: weightsSha256: .* \(announced in line 4\)/);
    expect(context).toMatchObject({ recorded: weightsSha256(4), expected: weightsSha256(2) });
  });

  it('the fingerprint, the configuration or the data set of the first record', async () => {
    const line = 1;
    expect((await refusal(withOpened({ fingerprint: 'cd'.repeat(32) }))).context).toMatchObject({
      line,
      field: 'fingerprint',
      recorded: 'cd'.repeat(32),
      expected: OPENED.fingerprint,
    });
    const bolder = { ...CONFIG, optimizer: { ...CONFIG.optimizer, learningRate: 1 } };
    const otherConfig = await refusal(withOpened({ config: bolder }));
    expect(otherConfig.context).toMatchObject({ line, field: 'fingerprint', recorded: OPENED.fingerprint });
    const otherData = await refusal(withOpened({ datasetSha256: 'ef'.repeat(32) }));
    expect(otherData.context).toMatchObject({ line, field: 'fingerprint', recorded: OPENED.fingerprint });
    const odd = { ...CONFIG, step: { ...CONFIG.step, microBatches: 0 } };
    expect((await refusal(withOpened({ config: odd }))).context).toMatchObject({
      line,
      field: 'config.step.microBatches',
      recorded: '0',
    });
    const { steps, ...without } = CONFIG;
    expect((await refusal(withOpened({ config: without }))).context).toMatchObject({
      line,
      field: 'config.steps',
      recorded: 'absent',
    });
  });
});

describe('records out of place', () => {
  it('any one dropped: refused at its place, unless it only announced', async () => {
    for (const [index, record] of RECORDS.slice(0, -1).entries()) {
      const found = await verdict(RECORDS.toSpliced(index, 1));
      if (record.kind === 'checkpointed') {
        expect(found).toMatchObject({
          notes: [expect.stringMatching(`of step ${record.step} is not announced`)],
        });
        continue;
      }
      expect(found).toMatchObject({ code: 'HISTORY_CORRUPT', context: { line: index + 1 } });
    }
  });

  it('any one doubled: refused, unless it announces the same again', async () => {
    for (const [index, record] of RECORDS.slice(0, -1).entries()) {
      const found = await verdict(RECORDS.toSpliced(index, 0, record));
      if (record.kind === 'checkpointed') expect(found).toMatchObject({ notes: [] });
      else expect(found).toMatchObject({ code: 'HISTORY_CORRUPT', context: { line: index + 2 } });
    }
  });

  it('any two steps exchanged, or their numbers alone', async () => {
    const steps = Array.from({ length: STEPS }, (_, index) => index + 1);
    const pairs = steps.flatMap((a) => steps.filter((b) => b > a).map((b) => [a, b] as const));
    for (const [a, b] of pairs) {
      const at = (step: number) => RECORDS[lineOfStep(step) - 1]!;
      const exchanged = RECORDS.with(lineOfStep(a) - 1, at(b)).with(lineOfStep(b) - 1, at(a));
      const { code, message, context } = await refusal(exchanged);
      expect(code).toBe('HISTORY_CORRUPT');
      expect(message).toContain(`step ${b} committed after step ${a - 1}`);
      expect(context.line).toBe(lineOfStep(a));
      const renumbered = exchanged.map((record, index) =>
        record.kind === 'committed' ? { ...record, step: (RECORDS[index] as CommittedRecord).step } : record,
      );
      // Now in order: each stands with the work of the other, which its rate or a checkpoint gives away.
      await refusal(renumbered);
    }
  });
});

describe('what checkpoints alone give away', () => {
  it('a digest of parameters that the step did not start from', async () => {
    for (const step of [3, 5]) {
      const error = await refusal(
        altered(step, () => ({ parametersDigest: naiveDigest(Float32Array.of(1)) })),
      );
      expect(error.code).toBe('CHECKPOINT_INVALID');
      expect(error.message).toContain(`step-0000000${step - 1}: step ${step - 1}: digest of its parameters`);
      expect(error.context).toMatchObject({
        line: lineOfStep(step),
        recorded: committed(step).parametersDigest,
        expected: naiveDigest(Float32Array.of(1)),
      });
    }
  });

  it('any plausible change of tokens, and of the digests of a step with a checkpoint', async () => {
    const mutation = fc.record({
      step: fc.integer({ min: 1, max: STEPS }),
      slot: fc.nat(NUM_SLOTS - 1),
      extra: fc.integer({ min: 1, max: 1000 }),
      field: fc.constantFrom('tokens', 'gradientDigest', 'parametersDigest'),
    });
    await fc.assert(
      fc.asyncProperty(mutation, async ({ step, slot, extra, field }) => {
        if (field === 'tokens') {
          const found = await refusal(
            altered(step, ({ slots, tokens }) => ({
              tokens: tokens + extra,
              slots: slots.with(slot, { ...slots[slot]!, tokens: slots[slot]!.tokens + extra }),
            })),
          );
          // The first checkpoint from that step on has seen other tokens.
          const witness = CHECKPOINT_STEPS.find((checkpoint) => checkpoint >= step)!;
          expect(found.context).toMatchObject({
            step: witness,
            field: 'tokensSeen',
            recorded: tokensUpTo(witness),
            expected: tokensUpTo(witness) + extra,
          });
          return;
        }
        const digest = extra.toString(16).padStart(32, 'f');
        const found = await verdict(altered(step, () => ({ [field]: digest })));
        const isStored = CHECKPOINT_STEPS.includes(step);
        const isNext = field === 'parametersDigest' && CHECKPOINT_STEPS.includes(step - 1);
        if (isStored || isNext) expect(found).toBeInstanceOf(LockstepError);
        else expect(found).toMatchObject({ notes: [] });
      }),
      { numRuns: 60, seed: 1 },
    );
  });
});
