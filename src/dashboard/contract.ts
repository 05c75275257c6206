/**
 * The contract between the dashboard's server and its page: every path, JSON answer, server-sent event
 * and action. docs/DASHBOARD.md says the same in words. The page imports types only.
 *
 * Times are milliseconds since 1970 (UTC) where the name ends in `At`, durations in milliseconds where it
 * ends in `Ms`; sizes are bytes, losses nats per token. `null` says that a figure is not known (yet).
 * Whatever a string holds (names, titles, generated text, reasons) is text, never HTML.
 *
 *   GET  /api/session                     SessionView; never needs the token
 *   POST /api/session                     SessionRequest; 204 with a cookie, or 401
 *   GET  /api/overview                    Overview; 404 while the folder holds no run
 *   GET  /api/workers                     WorkersView
 *   GET  /api/timeline                    TimelineView
 *   GET  /api/series                      SeriesView
 *   GET  /api/history                     HistoryView      ?kinds=commit,fault,...&before=ID&limit=N
 *   GET  /api/logs                        LogView          ?file=worker-0.log&at=MILLISECONDS
 *   GET  /api/queue                       QueueView
 *   GET  /api/data                        DataView
 *   GET  /api/checkpoints                 CheckpointsView
 *   GET  /api/checkpoints/:step/:file     the file (model.safetensors, optimizer.safetensors, manifest.json)
 *   POST /api/checkpoints/:step/verify    CheckpointView, every byte hashed
 *   GET  /api/playground                  PlaygroundView
 *   POST /api/playground/generate         GenerateRequest; Generated
 *   GET  /api/playground/example          NoisedExample    ?step=N&slot=N&row=N
 *   POST /api/workers/:worker/drain       ActionAnswer
 *   POST /api/workers/:worker/evict       ActionAnswer
 *   GET  /api/events                      server-sent events, see EventMap
 *   GET  /queues                          Bull Board       GET /metrics   Prometheus
 *   GET  /healthz, /readyz                HealthView; never need the token
 *
 * An error is `ErrorView` with status 400, 401 (no detail), 403 (cross-site, or not allowed), 404, 409
 * (not possible now) or 503 (no playground, no queue). Every POST but that of the session carries the
 * session's `csrf` in the header `CSRF_HEADER`, a JSON body, and comes from the page's own origin.
 */
import { z } from 'zod';

export const CSRF_HEADER = 'x-lockstep-csrf';

export interface ErrorView {
  /** One sentence; for 401 only `unauthorized`. */
  readonly error: string;
}

export interface SessionView {
  /** Whether requests without a token are refused; then the page asks for it. */
  readonly needsToken: boolean;
  readonly authorized: boolean;
  /** What `CSRF_HEADER` must carry; null while not authorized. */
  readonly csrf: string | null;
  readonly version: string;
}

export const sessionRequestSchema = z.strictObject({ token: z.string().min(1).max(256) });
export type SessionRequest = z.infer<typeof sessionRequestSchema>;

// ---- the run ------------------------------------------------------------------------------------

export const RUN_STATES = [
  /** Members are missing, or joiners are on their way and nothing is computed. */
  'waiting',
  'training',
  /** The last step is committed, or the run was told to stop; the final checkpoint is being written. */
  'closing',
  'completed',
  'stopped',
  'failed',
  /** The record ends without an end: no coordinator has written for a while. */
  'silent',
] as const;
export type RunState = (typeof RUN_STATES)[number];

/** Something wrong, in one sentence, and what to do about it, in another. */
export interface Problem {
  readonly level: 'warning' | 'error';
  /** Closed set, for tests and for keeping a dismissed one dismissed: `straggler`, `workerLost`, ... */
  readonly kind: string;
  readonly text: string;
  readonly remedy: string;
}

export interface Overview {
  readonly run: {
    readonly id: string;
    /** The last part of the run folder's path. */
    readonly name: string;
    readonly preset: string;
    readonly engine: string;
    readonly parameters: number | null;
    readonly startedAt: number;
  };
  /** Whether the coordinator itself answers; false for a look at a run folder. */
  readonly live: boolean;
  readonly state: RunState;
  /** As "training, step 412 of 1,000, 3 workers, 1 joining". */
  readonly headline: string;
  /** The newest committed step; 0 before the first. */
  readonly step: number;
  readonly totalSteps: number;
  readonly generation: number;
  /** The step under way; null when none is. */
  readonly underWay: {
    readonly step: number;
    readonly attempt: number;
    readonly phase: 'computing' | 'reducing';
    readonly slotsDone: number;
    readonly slots: number;
  } | null;
  readonly workers: {
    readonly training: number;
    readonly joining: number;
    readonly draining: number;
    /** Lost within the last ten minutes and not back under the same name. */
    readonly lost: number;
  };
  readonly loss: number | null;
  readonly validationLoss: number | null;
  readonly learningRate: number | null;
  /** Of the newest steps, pauses included. */
  readonly tokensPerSecond: number | null;
  readonly stepMs: number | null;
  /** What share of the time of the newest steps a smooth run would have needed for them, 0 .. 1. */
  readonly goodput: number | null;
  readonly tokensSeen: number;
  readonly leftMs: number | null;
  readonly lastCheckpoint: { readonly step: number; readonly at: number } | null;
  /** Worst first; empty when all is well. */
  readonly problems: readonly Problem[];
  /** When anything was last heard of the run. */
  readonly updatedAt: number;
}

/**
 * Columns of equal length, one entry per bucket of `stride` steps: 1 until the run is longer than the budget,
 * then 2, 4, ...; the last bucket may be short. At most 1,024 buckets, however long the run is.
 */
export interface SeriesView {
  readonly stride: number;
  /** The newest step of each bucket. */
  readonly step: readonly number[];
  /** Mean over the bucket's steps, and its extremes for a band behind the line. */
  readonly loss: readonly number[];
  readonly lossMin: readonly number[];
  readonly lossMax: readonly number[];
  readonly learningRate: readonly number[];
  readonly tokensPerSecond: readonly (number | null)[];
  readonly stepMs: readonly (number | null)[];
  readonly goodput: readonly (number | null)[];
  /** Losses on held-out text, at steps of their own; empty when the run computes none. */
  readonly validation: { readonly step: readonly number[]; readonly loss: readonly number[] };
}

/** One committed step, as an event brings it. */
export interface SeriesPoint {
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly tokensPerSecond: number | null;
  readonly stepMs: number | null;
  readonly goodput: number | null;
  readonly at: number;
}

// ---- workers ------------------------------------------------------------------------------------

export const WORKER_STATES = ['preparing', 'joining', 'training', 'draining', 'left', 'lost'] as const;
export type WorkerState = (typeof WORKER_STATES)[number];

/** The order in which a worker passes through them within a step. */
export const PHASES = ['data', 'compute', 'wait', 'reduce', 'commit', 'optimizer'] as const;
export type Phase = (typeof PHASES)[number];
/** Milliseconds of one step, by phase; `wait` is what the others leave of the step's time. */
export type PhaseTimes = Readonly<Record<Phase, number>>;

export interface WorkerRow {
  readonly name: string;
  readonly host: string;
  readonly pid: number;
  /** As the engine names it; empty until the worker is prepared. */
  readonly device: string;
  readonly engine: string;
  readonly state: WorkerState;
  /** Why it left or was lost; null otherwise. */
  readonly reason: string | null;
  /** Its slots take so much longer than the median worker's that the step waits for it. */
  readonly straggler: boolean;
  readonly slotsDone: number;
  /** Leased and not computed yet. */
  readonly slotsLeased: number;
  readonly slotsPerSecond: number | null;
  /** Its share of the newest steps' tokens. */
  readonly tokensPerSecond: number | null;
  /** Of the newest step it has reported. */
  readonly phases: PhaseTimes | null;
  readonly residentBytes: number | null;
  /** Held by the engine's tensors, on the host or on a card. */
  readonly engineBytes: number | null;
  readonly sentBytes: number | null;
  readonly receivedBytes: number | null;
  readonly sentBytesPerSecond: number | null;
  readonly receivedBytesPerSecond: number | null;
  /** The generation it became a member with; null before. */
  readonly generation: number | null;
  readonly joinedAt: number;
  /** When it left or was lost; null otherwise. */
  readonly endedAt: number | null;
  /** Names of log files that `GET /api/logs` can show. */
  readonly logs: readonly string[];
}

export interface WorkersView {
  /** Present ones by name, then those gone, newest first. At most 200. */
  readonly rows: readonly WorkerRow[];
  /** Which buttons can work here and now; none for a run that is only looked at. */
  readonly actions: { readonly drain: boolean; readonly evict: boolean };
}

export interface TimelineStep {
  readonly step: number;
  readonly attempt: number;
  /** Computed a second time after a rewind. */
  readonly repeated: boolean;
  readonly startedAt: number;
  readonly endedAt: number;
  /** One per worker that has reported this step; phases follow each other from `startedAt` on. */
  readonly lanes: readonly { readonly worker: string; readonly phases: PhaseTimes }[];
}

export interface TimelineView {
  /** Every worker with a lane, by name. */
  readonly workers: readonly string[];
  /** Oldest first, at most 60. A worker reports a step with the next one, so the newest is one behind. */
  readonly steps: readonly TimelineStep[];
}

export interface ActionAnswer {
  /** What will happen now, in one sentence. */
  readonly text: string;
}

// ---- history and logs ---------------------------------------------------------------------------

export const HISTORY_KINDS = [
  'commit',
  /** A worker came: greeted, or became a member. */
  'join',
  /** A worker was lost, evicted, turned away, or left. */
  'loss',
  /** An attempt at reducing a step was given up. */
  'abort',
  /** Replicas disagreed, or a repeated step did not equal its record. */
  'divergence',
  /** A stale, foreign or damaged frame or result was refused. */
  'stale',
  'checkpoint',
  /** Rewinds, trouble with the queue or the disk, the run's start and its end. */
  'run',
] as const;
export type HistoryKind = (typeof HISTORY_KINDS)[number];

export interface HistoryEntry {
  /** Grows with time; unique within the run. */
  readonly id: number;
  readonly at: number;
  readonly kind: HistoryKind;
  readonly level: 'info' | 'warn' | 'error';
  /** The step it concerns, or null. */
  readonly step: number | null;
  readonly worker: string | null;
  /** One sentence. */
  readonly text: string;
  /** Where `GET /api/logs` finds its lines, with `at` of this entry. */
  readonly logs: readonly string[];
}

export interface HistoryView {
  /** Newest first. */
  readonly entries: readonly HistoryEntry[];
  /** Entries since the run's start, by kind, also of those no longer kept. */
  readonly counts: Readonly<Record<HistoryKind, number>>;
  /** Whether older entries of these kinds are kept. */
  readonly more: boolean;
}

export interface LogView {
  readonly file: string;
  /** Oldest first, at most 200, around the asked time. */
  readonly lines: readonly LogLine[];
}

export interface LogLine {
  readonly at: number | null;
  readonly level: string;
  readonly event: string;
  /** All other fields, as JSON text on one line. */
  readonly fields: string;
  /** Within a second of the asked time. */
  readonly near: boolean;
}

// ---- queue, data, checkpoints -------------------------------------------------------------------

export interface QueueView {
  /** Null when there is no queue to look at: the run is over, or only its folder is looked at. */
  readonly queue: {
    readonly name: string;
    readonly waiting: number;
    readonly leased: number;
    /** Leased, but the lock has expired. */
    readonly stalled: number;
    /** Slots of the step under way that are computed, and all of its slots. */
    readonly slotsDone: number;
    readonly slots: number;
    /** Age of the oldest lease. */
    readonly oldestLeaseMs: number | null;
  } | null;
  /** Slots committed since the run's start. */
  readonly slotsCommitted: number;
  /** Whether /queues shows Bull Board, and whether it may change anything. */
  readonly board: 'none' | 'readOnly' | 'writable';
}

export interface DataView {
  readonly datasetSha256: string;
  /** Null when the data set's folder is not known or not there; `reason` says which. */
  readonly dataset: {
    readonly articles: number;
    readonly tokens: number;
    readonly vocabSize: number;
    readonly samples: number;
  } | null;
  readonly reason: string | null;
  readonly samplesSeen: number;
  readonly tokensSeen: number;
  /** From 0. Null while `dataset` is. */
  readonly epoch: number | null;
  /** Share of the present epoch that is done, 0 .. 1. */
  readonly epochShare: number | null;
}

export interface CheckpointView {
  readonly step: number;
  /** `complete`: manifest, sizes and headers agree; `verified`: every byte was hashed as well. */
  readonly state: 'complete' | 'verified' | 'invalid';
  /** What is wrong with an invalid one. */
  readonly reason: string | null;
  readonly bytes: number | null;
  readonly weightsSha256: string | null;
  readonly createdAt: number | null;
  readonly files: readonly {
    readonly name: string;
    readonly bytes: number;
    readonly sha256: string | null;
  }[];
}

export interface CheckpointsView {
  /** Newest first. */
  readonly checkpoints: readonly CheckpointView[];
}

// ---- playground ---------------------------------------------------------------------------------

export interface PlaygroundView {
  /** Null when it can answer; else why not. */
  readonly unavailable: string | null;
  /** Steps of the checkpoints that can be asked, newest first. */
  readonly checkpoints: readonly number[];
  readonly layers: number;
  /** Longest input and output, in tokens. */
  readonly lengthMax: number;
  /** Whether tokens can leave before the last layer; if not, the slider has nothing to do. */
  readonly earlyExit: boolean;
  /** Whether each token comes with a confidence. */
  readonly confidence: boolean;
  /** Whether there is an autoregressive twin to compare speeds with. */
  readonly twin: boolean;
}

export const generateRequestSchema = z.strictObject({
  text: z.string().min(1).max(20_000),
  /** Null takes the newest valid one. */
  checkpoint: z.int().min(0).nullable().default(null),
  /** Slots to fill; null takes the run's sequence length. */
  length: z.int().min(1).max(65_536).nullable().default(null),
  /** Confidence from which on a token leaves, 0 .. 1: 1 - H / ln V of its entropy H; null computes every layer. */
  threshold: z.number().min(0).max(1).nullable().default(null),
});
export type GenerateRequest = z.input<typeof generateRequestSchema>;

export interface GeneratedToken {
  /** As it reads in the text, its leading space included. */
  readonly text: string;
  /** The layer it left at, from 1. */
  readonly layer: number;
  /** Probability of the token there, 0 .. 1; null where the model does not tell. */
  readonly confidence: number | null;
}

export interface Generated {
  readonly step: number;
  readonly layers: number;
  readonly tokens: readonly GeneratedToken[];
  readonly text: string;
  /** The input had to be cut to this many tokens; null when it was not. */
  readonly cutTo: number | null;
  readonly sourceTokens: number;
  /** Of the model alone, without loading it. */
  readonly generateMs: number;
  readonly tokensPerSecond: number;
  readonly twin: { readonly generateMs: number; readonly tokensPerSecond: number } | null;
}

/** One row of a micro-batch as the model is taught with it. */
export interface NoisedExample {
  readonly step: number;
  readonly slot: number;
  readonly row: number;
  readonly source: readonly NoisedToken[];
  readonly target: readonly string[];
  /** What the newest checkpoint makes of it; null when there is none. */
  readonly generated: Generated | null;
}

export interface NoisedToken {
  /** Empty for a mask. */
  readonly text: string;
  readonly mask: boolean;
}

// ---- events -------------------------------------------------------------------------------------

/**
 * Server-sent events of GET /api/events, by name; each carries JSON. They are states, not a log: one that
 * a slow reader misses is replaced by the newest, so its buffer stays bounded. Sent when something changed,
 * at most twice a second; a comment line keeps idle connections open.
 */
export interface EventMap {
  /** First on each connection. Other `run` or `version` than before: reload the page. */
  readonly hello: { readonly run: string; readonly version: string };
  readonly overview: Overview;
  readonly workers: WorkersView;
  /** New points, oldest first. `resync`: some are missing, fetch /api/series again. */
  readonly points: { readonly points: readonly SeriesPoint[]; readonly resync: boolean };
  /** New entries, oldest first. `resync`: some are missing, fetch /api/history again. */
  readonly history: { readonly entries: readonly HistoryEntry[]; readonly resync: boolean };
  readonly queue: QueueView;
}

export interface HealthView {
  readonly status: 'ok' | 'unavailable';
  readonly reason: string | null;
}
