/**
 * The records of a run's commit log. Together they are the truth of the run; queue, dashboard and
 * checkpoints are views of it (DESIGN sections 1 and 4). Pure.
 *
 * Times are given by the caller, as ISO 8601 in UTC. Which records may follow which: sequence.ts.
 */
import { z } from 'zod';
import { listDifferences } from '../config/index.ts';

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in lower-case hex');
const digestSchema = z.string().regex(/^[0-9a-f]{1,128}$/, 'must be a digest in lower-case hex');
const timeSchema = z.iso.datetime();
const countSchema = z.int().min(0);
const stepSchema = z.int().min(1);

const openedSchema = z.strictObject({
  kind: z.literal('opened'),
  runId: z.string().min(1),
  /** Of the part of `config` that decides the bits. */
  fingerprint: sha256Schema,
  config: z.record(z.string(), z.unknown()),
  datasetSha256: sha256Schema,
  time: timeSchema,
});

const slotSchema = z.strictObject({
  /** Real tokens of the micro-batch: what its loss is a sum over. */
  tokens: countSchema,
  lossSum: z.number(),
  /** Who computed it. */
  worker: z.string().min(1),
});

const committedSchema = z
  .strictObject({
    kind: z.literal('committed'),
    /** Steps count from 1; the weights before step 1 are the initial ones. */
    step: stepSchema,
    generation: countSchema,
    attempt: countSchema,
    /** Real tokens of the step. */
    tokens: countSchema,
    lossSum: z.number(),
    /** Global norm before clipping; absent when it is not computed. */
    gradientNorm: z.number().optional(),
    learningRate: z.number(),
    gradientDigest: digestSchema,
    /** Of the parameters that the step started from. */
    parametersDigest: digestSchema,
    /** One for each slot, in slot order. */
    slots: z.array(slotSchema).min(1),
    time: timeSchema,
  })
  .superRefine(({ step, tokens, slots }, context) => {
    const sum = slots.reduce((total, slot) => total + slot.tokens, 0);
    if (tokens === sum) return;
    const message = `${tokens} in step ${step} instead of ${sum}, the sum of the tokens of all slots`;
    context.addIssue({ code: 'custom', path: ['tokens'], message });
  });

/** A step that left the parameters as they were, on all replicas alike: its gradient was not finite. */
const skippedSchema = z.strictObject({
  kind: z.literal('skipped'),
  step: stepSchema,
  generation: countSchema,
  /** The slot whose own gradient was not finite; null when only the sum over all slots was not. */
  slot: countSchema.nullable(),
  /** Who found it. */
  worker: z.string().min(1),
  reason: z.string(),
  time: timeSchema,
});

const checkpointedSchema = z.strictObject({
  kind: z.literal('checkpointed'),
  step: countSchema,
  weightsSha256: sha256Schema,
  time: timeSchema,
});

const resumedSchema = z.strictObject({
  kind: z.literal('resumed'),
  /** The step of the checkpoint that the run goes on from. */
  fromStep: countSchema,
  reason: z.string().min(1),
  time: timeSchema,
});

const finishedSchema = z.strictObject({ kind: z.literal('finished'), step: countSchema, time: timeSchema });

export const historyRecordSchema = z.discriminatedUnion('kind', [
  openedSchema,
  committedSchema,
  skippedSchema,
  checkpointedSchema,
  resumedSchema,
  finishedSchema,
]);

export type HistoryRecord = z.infer<typeof historyRecordSchema>;
export type OpenedRecord = z.infer<typeof openedSchema>;
export type CommittedRecord = z.infer<typeof committedSchema>;
export type SkippedRecord = z.infer<typeof skippedSchema>;
/** How a step ended. */
export type StepRecord = CommittedRecord | SkippedRecord;
export type CheckpointedRecord = z.infer<typeof checkpointedSchema>;
export type SlotRecord = z.infer<typeof slotSchema>;

/**
 * What the bits of a step consist of, as far as the log knows: how a step that is computed again
 * differs from the one on record, as `path: recorded -> again`; empty when it is the same step.
 * Who computed it, in which generation and attempt, and when, may differ.
 */
export function replayDifferences(recorded: CommittedRecord, again: CommittedRecord): string[] {
  return listDifferences(bitsOf(recorded), bitsOf(again));
}

function bitsOf({ kind, generation, attempt, time, slots, ...bits }: CommittedRecord): unknown {
  const compared = { ...bits, slots: slots.map(({ tokens, lossSum }) => ({ tokens, lossSum })) };
  // As the log would give it back: JSON has one zero only.
  return JSON.parse(JSON.stringify(compared));
}
