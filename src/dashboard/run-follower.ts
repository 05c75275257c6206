/**
 * A run as its folder tells it: `metrics.jsonl` folded into a view and followed as it grows; steps that the
 * metrics lack are taken from the commit log, which alone is the truth. Reads only, and needs no hold on the
 * run.
 */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { COMMIT_LOG_FILE } from '../coordinator/index.ts';
import { type HistoryRecord, readHistory } from '../history/index.ts';
import { METRICS_FILE, MetricsReader } from './metrics-file.ts';
import type { Telemetry } from './view/record.ts';
import { RunView } from './view/run-view.ts';

/** Of a run's configuration, what is shown; whatever else another version has in it does not matter. */
const shownConfigSchema = z.object({
  preset: z.string().catch('?'),
  engine: z.string().catch('?'),
  steps: z.int(),
  step: z.object({ microBatches: z.int(), microBatchSize: z.int() }),
  data: z.object({ sequenceLength: z.int() }),
  model: z.object({ decoderLayers: z.int() }),
  objective: z.object({ kind: z.string().catch('lplm') }),
});

export class RunFollower {
  readonly dir: string;
  /** The coordinator, if there is one, is another process. */
  readonly live = false;
  readonly #metrics: MetricsReader;
  #view = new RunView();
  #isBackfilled = false;
  #refreshing: Promise<void> | null = null;

  constructor(dir: string) {
    this.dir = dir;
    this.#metrics = new MetricsReader(join(dir, METRICS_FILE));
  }

  /** The folder's own name: what people call the run. */
  get name(): string {
    return basename(resolve(this.dir));
  }

  /** Empty while the folder holds no run. A new object when another run has taken the folder. */
  get view(): RunView {
    return this.#view;
  }

  /**
   * Takes in what was recorded since; who asks while that is under way waits for the same.
   * Throws HISTORY_CORRUPT when the commit log is damaged.
   */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #refresh(): Promise<void> {
    const isSameRun = await this.#metrics.readNew((record) => this.#view.apply(record));
    if (!isSameRun) {
      this.#view = new RunView();
      this.#isBackfilled = false;
    }
    if (this.#isBackfilled || !existsSync(join(this.dir, COMMIT_LOG_FILE))) return;
    this.#isBackfilled = await this.#backfill();
  }

  /** Steps that no metrics tell of; all of the run where there are no metrics. False for a log without a run. */
  async #backfill(): Promise<boolean> {
    const isWhole = this.#view.opened !== null;
    let previousAt: number | null = null;
    for await (const record of readHistory(join(this.dir, COMMIT_LOG_FILE))) {
      const at = Date.parse(record.time);
      const stepMs = previousAt === null ? null : at - previousAt;
      if (record.kind === 'committed') previousAt = at;
      else if (record.kind === 'resumed') previousAt = null;
      const isKnown = isWhole && (record.kind !== 'committed' || record.step <= this.#view.step);
      const telemetry = isKnown ? null : telemetryOf(record, stepMs, this.#view);
      if (telemetry !== null) this.#view.apply(telemetry);
    }
    return this.#view.opened !== null;
  }
}

function telemetryOf(record: HistoryRecord, stepMs: number | null, view: RunView): Telemetry | null {
  const at = Date.parse(record.time);
  switch (record.kind) {
    case 'opened': {
      const config = shownConfigSchema.parse(record.config);
      return {
        ...{ kind: 'opened', at, run: record.runId, preset: config.preset, engine: config.engine },
        ...{ totalSteps: config.steps, slots: config.step.microBatches },
        sequencesPerSlot: config.step.microBatchSize,
        sequenceLength: config.data.sequenceLength,
        decoderLayers: config.model.decoderLayers,
        objective: config.objective.kind,
        ...{ datasetSha256: record.datasetSha256, dataDir: null, fromStep: 0, tokensSeen: 0 },
      };
    }
    case 'resumed':
      return view.opened === null ? null : { ...view.opened, at, fromStep: record.fromStep };
    case 'committed': {
      const { step, generation, attempt, tokens, lossSum, learningRate } = record;
      const common = { at, step, generation, attempt, repeated: false, learningRate, tokens, stepMs };
      return { kind: 'committed', ...common, loss: lossSum / tokens, workers: sharesOf(record.slots) };
    }
    case 'skipped': {
      const { step, slot, worker, reason } = record;
      return {
        kind: 'noted',
        at,
        level: 'warn',
        event: 'stepSkipped',
        fields: { step, slot, worker, reason },
      };
    }
    case 'checkpointed':
      return { kind: 'noted', at, level: 'info', event: 'checkpointStored', fields: { step: record.step } };
    case 'finished': {
      const isComplete = record.step >= (view.opened?.totalSteps ?? 0);
      return {
        kind: 'ended',
        at,
        outcome: isComplete ? 'completed' : 'stopped',
        step: record.step,
        reason: null,
      };
    }
  }
}

/** What each worker contributed to a step, by name. */
export function sharesOf(
  slots: readonly { readonly worker: string; readonly tokens: number }[],
): { worker: string; slots: number; tokens: number }[] {
  const shares = new Map<string, { worker: string; slots: number; tokens: number }>();
  for (const { worker, tokens } of slots) {
    const share = shares.get(worker) ?? { worker, slots: 0, tokens: 0 };
    share.slots += 1;
    share.tokens += tokens;
    shares.set(worker, share);
  }
  return [...shares.values()];
}
