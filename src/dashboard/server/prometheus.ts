/**
 * The run's figures for Prometheus, read from the view at each scrape, so that nothing is counted twice and
 * nothing is kept up to date while nobody asks. Names and base units follow Prometheus' conventions: seconds,
 * bytes, `_total` for what only grows. BullMQ's own figures and the process's stand beside them.
 */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { HISTORY_KINDS, type Overview, PHASES, WORKER_STATES, type WorkerRow } from '../contract.ts';
import type { RunView } from '../view/run-view.ts';

export interface Scraped {
  readonly view: RunView;
  readonly overview: Overview | null;
}

export class RunMetrics {
  readonly #registry = new Registry();
  readonly #gauges = new Map<string, Gauge>();
  readonly #counters = new Map<string, Counter>();

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** @param queue BullMQ's own text, or null when there is none */
  async text({ view, overview }: Scraped, queue: string | null): Promise<string> {
    for (const metric of [...this.#gauges.values(), ...this.#counters.values()]) metric.reset();
    if (overview !== null) {
      this.#run(overview, view);
      for (const row of view.workers()) this.#worker(row);
    }
    const own = await this.#registry.metrics();
    return queue === null ? own : `${own}\n${queue}\n`;
  }

  #run(overview: Overview, view: RunView): void {
    const { run, state, step, totalSteps, generation, lastCheckpoint, workers } = overview;
    const info = { run: run.id, name: run.name, preset: run.preset, engine: run.engine };
    this.#gauge('lockstep_run_info', 'The run; the value is always 1', info, 1);
    const isTraining = state === 'training' ? 1 : 0;
    this.#gauge('lockstep_training', 'Whether steps are being computed', {}, isTraining);
    this.#gauge('lockstep_step', 'Newest committed step', {}, step);
    this.#gauge('lockstep_steps_planned', 'Steps of the whole run', {}, totalSteps);
    this.#gauge('lockstep_generation', 'Version of the membership', {}, generation);
    this.#gauge('lockstep_loss', 'Loss of the newest step, nats per token', {}, overview.loss);
    this.#gauge(
      'lockstep_validation_loss',
      'Newest loss on held-out text, nats per token',
      {},
      overview.validationLoss,
    );
    this.#gauge('lockstep_learning_rate', 'Learning rate of the newest step', {}, overview.learningRate);
    this.#gauge(
      'lockstep_tokens_per_second',
      'Training speed over the newest steps',
      {},
      overview.tokensPerSecond,
    );
    this.#gauge('lockstep_step_seconds', 'Mean time of the newest steps', {}, seconds(overview.stepMs));
    this.#gauge(
      'lockstep_goodput_ratio',
      'Share of time a smooth run would have needed',
      {},
      overview.goodput,
    );
    this.#gauge('lockstep_time_left_seconds', 'Time left at the present speed', {}, seconds(overview.leftMs));
    this.#gauge(
      'lockstep_checkpoint_step',
      'Step of the newest checkpoint',
      {},
      lastCheckpoint?.step ?? null,
    );
    const checkpointAt = seconds(lastCheckpoint?.at ?? null);
    this.#gauge(
      'lockstep_checkpoint_timestamp_seconds',
      'When the newest checkpoint was stored',
      {},
      checkpointAt,
    );
    this.#gauge('lockstep_problems', 'Problems that the dashboard shows', {}, overview.problems.length);
    this.#counter(
      'lockstep_tokens_total',
      'Real target tokens of all committed steps',
      {},
      overview.tokensSeen,
    );
    this.#counter(
      'lockstep_slots_committed_total',
      'Micro-batches of all committed steps',
      {},
      view.slotsCommitted,
    );
    for (const membership of ['training', 'joining', 'draining', 'lost'] as const) {
      this.#gauge('lockstep_workers', 'Workers by state', { state: membership }, workers[membership]);
    }
    const { counts } = view.history({ kinds: [], before: null, limit: 0 });
    for (const kind of HISTORY_KINDS) {
      this.#counter('lockstep_events_total', 'What happened, by kind', { kind }, counts[kind]);
    }
  }

  #worker(row: WorkerRow): void {
    const { name: worker } = row;
    const { state } = row;
    for (const known of WORKER_STATES) {
      this.#gauge(
        'lockstep_worker_state',
        'The state a worker is in is 1',
        { worker, state: known },
        known === state ? 1 : 0,
      );
    }
    if (row.endedAt !== null) return;
    this.#gauge('lockstep_worker_slots_per_second', 'Computing speed', { worker }, row.slotsPerSecond);
    this.#gauge('lockstep_worker_tokens_per_second', 'Tokens contributed', { worker }, row.tokensPerSecond);
    this.#gauge(
      'lockstep_worker_straggler',
      'Whether it is far slower than the others',
      { worker },
      row.straggler ? 1 : 0,
    );
    this.#gauge('lockstep_worker_resident_bytes', 'Resident memory', { worker }, row.residentBytes);
    this.#gauge('lockstep_worker_engine_bytes', "Held by the engine's tensors", { worker }, row.engineBytes);
    this.#counter('lockstep_worker_sent_bytes_total', 'Gradients sent to peers', { worker }, row.sentBytes);
    this.#counter(
      'lockstep_worker_received_bytes_total',
      'Gradients received',
      { worker },
      row.receivedBytes,
    );
    for (const phase of PHASES) {
      const value = seconds(row.phases?.[phase] ?? null);
      this.#gauge(
        'lockstep_worker_phase_seconds',
        'Time of its newest step, by phase',
        { worker, phase },
        value,
      );
    }
  }

  /** A figure that is not known is left out rather than told as 0. */
  #gauge(name: string, help: string, labels: Readonly<Record<string, string>>, value: number | null): void {
    if (value === null) return;
    let gauge = this.#gauges.get(name);
    if (gauge === undefined) {
      gauge = new Gauge({ name, help, labelNames: Object.keys(labels), registers: [this.#registry] });
      this.#gauges.set(name, gauge);
    }
    gauge.set(labels, value);
  }

  #counter(name: string, help: string, labels: Readonly<Record<string, string>>, value: number | null): void {
    if (value === null) return;
    let counter = this.#counters.get(name);
    if (counter === undefined) {
      counter = new Counter({ name, help, labelNames: Object.keys(labels), registers: [this.#registry] });
      this.#counters.set(name, counter);
    }
    // Reset before each scrape: this sets it.
    counter.inc(labels, value);
  }
}

function seconds(milliseconds: number | null): number | null {
  return milliseconds === null ? null : milliseconds / 1000;
}
