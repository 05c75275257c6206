/**
 * Turns what a coordinator does into telemetry: into the live view at once, into `metrics.jsonl` and the
 * TensorBoard files without waiting for the disk. Listens only; nothing here can hold up or fail a run.
 */
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import type { LogFields } from '../base/index.ts';
import {
  type CommittedStep,
  type CoordinatorListener,
  type CoordinatorState,
  type Outcome,
  type RunFolder,
  snapshotOf,
} from '../coordinator/index.ts';
import type { PhaseTimes } from './contract.ts';
import { METRICS_FILE, MetricsWriter } from './metrics-file.ts';
import { RunFollower, sharesOf } from './run-follower.ts';
import { TENSORBOARD_FOLDER, TensorBoardFile } from './tensorboard/event-file.ts';
import type { CommittedRecord, SampledRecord, Telemetry } from './view/record.ts';
import type { RunView } from './view/run-view.ts';

/** The view is sampled this often; the file keeps one sample in ten. */
const SAMPLE_INTERVAL_MS = 1000;
const SAMPLES_PER_KEPT = 10;

export interface RecorderOptions {
  readonly run: RunFolder;
  /** As given to the coordinator's start; told to whoever looks at the run later. */
  readonly dataDir: string;
  /** Hears once when the disk takes no more telemetry. */
  readonly onTrouble: (reason: string) => void;
}

export class RunRecorder implements CoordinatorListener {
  /** The run's past and present. */
  readonly view: RunView;
  readonly name: string;
  readonly #metrics: MetricsWriter;
  readonly #tensorBoard: TensorBoardFile;
  #lastCommitMs: number | null = null;
  #reported = new Map<string, unknown>();
  #numSamples = 0;
  #timer: NodeJS.Timeout | null = null;

  /** Takes in what earlier processes recorded of the run, then goes on recording. Throws DISK_FULL. */
  static async open(options: RecorderOptions): Promise<RunRecorder> {
    const { run, dataDir, onTrouble } = options;
    const follower = new RunFollower(run.dir);
    await follower.refresh();
    const metrics = await MetricsWriter.open(join(run.dir, METRICS_FILE), onTrouble);
    const folder = join(run.dir, TENSORBOARD_FOLDER);
    const tensorBoard = await TensorBoardFile.create(folder, hostname(), onTrouble);
    const recorder = new RunRecorder(follower, metrics, tensorBoard);
    recorder.#open(run, dataDir);
    return recorder;
  }

  private constructor(follower: RunFollower, metrics: MetricsWriter, tensorBoard: TensorBoardFile) {
    this.view = follower.view;
    this.name = follower.name;
    this.#metrics = metrics;
    this.#tensorBoard = tensorBoard;
  }

  /** Samples the coordinator's state until `end` or `close`. */
  watch(coordinator: { readonly state: CoordinatorState }): void {
    this.#timer = setInterval(() => this.#sample(coordinator.state), SAMPLE_INTERVAL_MS);
    this.#timer.unref();
  }

  onCommitted(record: CommittedStep, state: CoordinatorState, repeated: boolean): void {
    const nowMs = performance.now();
    const stepMs = this.#lastCommitMs === null ? null : nowMs - this.#lastCommitMs;
    this.#lastCommitMs = nowMs;
    this.#report(record.step - 1, state);
    const { step, generation, attempt, tokens, learningRate } = record;
    const committed: CommittedRecord = {
      kind: 'committed',
      ...{ at: Date.now(), step, generation, attempt, repeated, tokens, learningRate, stepMs },
      loss: record.lossSum / tokens,
      workers: sharesOf(record.slots),
    };
    this.#take(committed);
    this.#take(sampleOf(state), { keep: false });
    if (!repeated) this.#tensorBoard.addCommit(committed, this.view.goodput);
  }

  /** What the coordinator and its parts say in their logs. */
  hear(level: 'info' | 'warn' | 'error', event: string, fields: LogFields): void {
    // By way of JSON, so that the live view holds what a reader of the file gets.
    const plain = JSON.parse(JSON.stringify(fields)) as Record<string, unknown>;
    this.#take({ kind: 'noted', at: Date.now(), level, event, fields: plain });
    const { step, loss } = plain;
    if (event === 'validated' && typeof step === 'number' && typeof loss === 'number') {
      this.#tensorBoard.addValidation(step, loss);
    }
  }

  /** The first end counts. */
  end(outcome: Outcome): void {
    if (this.view.ended !== null) return;
    this.#stopWatching();
    const reason = outcome.kind === 'failed' ? `${outcome.failure.code}: ${outcome.failure.message}` : null;
    this.#take({ kind: 'ended', at: Date.now(), outcome: outcome.kind, step: outcome.step, reason });
  }

  /** Waits for what is being written. Idempotent. */
  async close(): Promise<void> {
    this.#stopWatching();
    await this.#metrics.close();
    await this.#tensorBoard.close();
  }

  #open(run: RunFolder, dataDir: string): void {
    const { config } = run;
    this.#take({
      kind: 'opened',
      ...{ at: Date.now(), run: run.id, preset: config.preset, engine: config.engine },
      ...{ totalSteps: config.steps, slots: config.step.microBatches },
      sequencesPerSlot: config.step.microBatchSize,
      sequenceLength: config.data.sequenceLength,
      decoderLayers: config.model.decoderLayers,
      objective: config.objective.kind,
      ...{ datasetSha256: run.datasetSha256, dataDir: resolve(dataDir), fromStep: run.startStep },
      tokensSeen: run.checkpoint?.manifest.tokensSeen ?? 0,
    });
    this.#tensorBoard.addText('configuration', run.startStep, JSON.stringify(config, null, 2));
  }

  /** Votes on a step bring the times of the step before it, once for each worker. */
  #report(step: number, { workers }: CoordinatorState): void {
    const reported = new Map<string, unknown>();
    for (const { incarnation, worker, times } of workers.values()) {
      if (times === null) continue;
      reported.set(incarnation, times);
      if (this.#reported.get(incarnation) === times) continue;
      this.#take({ kind: 'reported', at: Date.now(), step, worker, times: rounded(times) });
    }
    this.#reported = reported;
  }

  #sample(state: CoordinatorState): void {
    this.#numSamples += 1;
    this.#take(sampleOf(state), { keep: this.#numSamples % SAMPLES_PER_KEPT === 0 });
  }

  #take(record: Telemetry, { keep } = { keep: true }): void {
    this.view.apply(record);
    if (keep) this.#metrics.append(record);
  }

  #stopWatching(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}

/** To hundredths: what a clock's noise is larger than need not be stored. */
function rounded(times: PhaseTimes): PhaseTimes {
  const round = (milliseconds: number) => Math.round(milliseconds * 100) / 100;
  return {
    data: round(times.data),
    compute: round(times.compute),
    wait: round(times.wait),
    reduce: round(times.reduce),
    commit: round(times.commit),
    optimizer: round(times.optimizer),
  };
}

function sampleOf(state: CoordinatorState): SampledRecord {
  const { workers, ...snapshot } = snapshotOf(state);
  return { kind: 'sampled', at: Date.now(), ...snapshot, workers: workers.map((worker) => ({ ...worker })) };
}
