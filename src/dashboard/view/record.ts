/**
 * The records of a run's telemetry: one line each of `metrics.jsonl`, in order of time. The run view is a
 * fold over them, live or read back, so that a page shows the same in either case. Pure.
 *
 * They are for looking only: the commit log is the truth of the run, and a lost line costs a point in a chart.
 */
import { z } from 'zod';

const count = z.int().min(0);
/** Milliseconds since 1970, UTC. */
const at = z.number();
const figure = z.number().nullable();

export const phaseTimesSchema = z.object({
  data: z.number(),
  compute: z.number(),
  wait: z.number(),
  reduce: z.number(),
  commit: z.number(),
  optimizer: z.number(),
});

/** The run was started or resumed. */
const openedSchema = z.object({
  kind: z.literal('opened'),
  at,
  run: z.string(),
  preset: z.string(),
  engine: z.string(),
  totalSteps: count,
  /** Slots of a step (M). */
  slots: count,
  sequencesPerSlot: count,
  sequenceLength: count,
  decoderLayers: count,
  /** What the decoder learns (`objective.kind`). */
  objective: z.string().catch('lplm'),
  datasetSha256: z.string(),
  /** Where the data set was when the run was started; null when nobody said. */
  dataDir: z.string().nullable(),
  /** The committed step it starts from. */
  fromStep: count,
  tokensSeen: count,
});

const committedSchema = z.object({
  kind: z.literal('committed'),
  at,
  step: count,
  generation: count,
  attempt: count,
  /** Computed again after a rewind, and found equal to its record. */
  repeated: z.boolean(),
  /** Mean over the step's real target tokens, in nats. */
  loss: z.number(),
  learningRate: z.number(),
  tokens: count,
  /** Since the commit before; null for the first after a start. */
  stepMs: figure,
  /** What each worker contributed to this step. */
  workers: z.array(z.object({ worker: z.string(), slots: count, tokens: count })),
});

/** Where a worker's time went in a step; workers tell it one step later. */
const reportedSchema = z.object({
  kind: z.literal('reported'),
  at,
  step: count,
  worker: z.string(),
  times: phaseTimesSchema,
});

/** How the cluster looks at this moment. Live ones come every second, few of them are kept. */
const sampledSchema = z.object({
  kind: z.literal('sampled'),
  at,
  generation: count,
  /** The committed step that the members hold. */
  stateStep: count,
  phase: z.enum(['gathering', 'computing', 'reducing', 'closing', 'finished']),
  attempt: count,
  slotsDone: count,
  parameters: count.nullable(),
  engineVersion: z.string().nullable(),
  workers: z.array(
    z.object({
      worker: z.string(),
      host: z.string(),
      pid: count,
      device: z.string(),
      phase: z.string(),
      slotsDone: count,
      slotsLeased: count,
      slotsPerSecond: figure,
      residentBytes: count,
      /** Absent in records of before there was such a figure. */
      engineBytes: figure.default(null),
      sentBytes: count,
      receivedBytes: count,
    }),
  ),
});

/** A line of the coordinator's log that tells of more than progress. */
const notedSchema = z.object({
  kind: z.literal('noted'),
  at,
  level: z.enum(['info', 'warn', 'error']),
  event: z.string(),
  fields: z.record(z.string(), z.unknown()),
});

const endedSchema = z.object({
  kind: z.literal('ended'),
  at,
  outcome: z.enum(['completed', 'stopped', 'failed']),
  step: count,
  /** Why it failed; null otherwise. */
  reason: z.string().nullable(),
});

export const telemetrySchema = z.discriminatedUnion('kind', [
  openedSchema,
  committedSchema,
  reportedSchema,
  sampledSchema,
  notedSchema,
  endedSchema,
]);
export type Telemetry = z.infer<typeof telemetrySchema>;
export type OpenedRecord = z.infer<typeof openedSchema>;
export type CommittedRecord = z.infer<typeof committedSchema>;
export type ReportedRecord = z.infer<typeof reportedSchema>;
export type SampledRecord = z.infer<typeof sampledSchema>;
export type NotedRecord = z.infer<typeof notedSchema>;
export type EndedRecord = z.infer<typeof endedSchema>;
