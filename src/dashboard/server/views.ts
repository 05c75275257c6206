/** The run's present figures as the contract words them, for answers and for events alike. */
import type { EventMap, HistoryEntry, Overview, QueueView, SeriesPoint, WorkersView } from '../contract.ts';
import type { EventSource } from './event-hub.ts';
import type { DashboardOptions, RunSource } from './parts.ts';

const ROWS_MAX = 200;
/** Redis is asked no more often than this, however many pages are open. */
const QUEUE_AGE_MS = 1000;

export class Views implements EventSource {
  readonly #options: DashboardOptions;
  #queue: { readonly view: QueueView; readonly atMs: number } | null = null;

  constructor(options: DashboardOptions) {
    this.#options = options;
  }

  get source(): RunSource {
    return this.#options.source;
  }

  get hello(): EventMap['hello'] {
    const { source, version } = this.#options;
    return { run: source.view.opened?.run ?? '', version };
  }

  get noQueueReason(): string {
    return this.#options.source.live
      ? 'this dashboard was started without its queue'
      : 'only the dashboard of a running coordinator sees the queue';
  }

  get lastStep(): number {
    return this.#options.source.view.step;
  }

  get lastEntry(): number {
    return this.#options.source.view.lastEntry;
  }

  pointsSince(step: number): { readonly points: readonly SeriesPoint[]; readonly resync: boolean } {
    return this.#options.source.view.pointsSince(step);
  }

  historySince(id: number): { readonly entries: readonly HistoryEntry[]; readonly resync: boolean } {
    return this.#options.source.view.historySince(id);
  }

  async states(): Promise<{ overview: Overview | null; workers: WorkersView; queue: QueueView }> {
    await this.#options.source.refresh();
    return { overview: this.overview(), workers: this.workers(), queue: await this.queue() };
  }

  /** Null while there is no run. */
  overview(): Overview | null {
    const { source } = this.#options;
    return source.view.overview({ name: source.name, live: source.live }, Date.now());
  }

  workers(): WorkersView {
    const { source, actions } = this.#options;
    const canAct = actions !== null && source.view.ended === null;
    return {
      rows: source.view.workers().slice(0, ROWS_MAX),
      actions: { drain: canAct, evict: canAct },
    };
  }

  async queue(): Promise<QueueView> {
    const nowMs = performance.now();
    if (this.#queue === null || nowMs - this.#queue.atMs >= QUEUE_AGE_MS) {
      this.#queue = { view: await this.#lookAtQueue(), atMs: nowMs };
    }
    return this.#queue.view;
  }

  /** Why the run cannot be shown, or null: what a probe asks. */
  async unreadyReason(): Promise<string | null> {
    const { source, queue } = this.#options;
    await source.refresh();
    if (source.view.opened === null) return `${source.name} holds no run yet`;
    if (queue !== null && (await queue.figures()) === null) return 'Redis does not answer';
    return null;
  }

  async #lookAtQueue(): Promise<QueueView> {
    const { queue, source, isBoardWritable } = this.#options;
    const { view } = source;
    const slotsCommitted = view.slotsCommitted;
    const figures = view.ended === null ? ((await queue?.figures()) ?? null) : null;
    if (queue === null || figures === null) return { queue: null, slotsCommitted, board: 'none' };
    const slots = { slotsDone: view.sampled?.slotsDone ?? 0, slots: view.opened?.slots ?? 0 };
    return {
      queue: { name: queue.name, ...figures, ...slots },
      slotsCommitted,
      board: isBoardWritable ? 'writable' : 'readOnly',
    };
  }
}
