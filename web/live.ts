/**
 * The run as the page knows it at this moment: the newest state of each kind, fed by server-sent events. Drives the connection
 * machine with a real EventSource, and tells listeners at most once per frame, however fast events come.
 */
import { ApiError, get, openSession } from './api.ts';
import { type Connection, type ConnectionEvent, transition } from './connection.ts';
import {
  type EventMap,
  HISTORY_KINDS,
  type HistoryEntry,
  type HistoryKind,
  type HistoryView,
  type Overview,
  type QueueView,
  type SeriesView,
  type WorkersView,
} from './contract.ts';
import { appendPoints, EMPTY_SERIES } from './series.ts';

/** How many of the newest entries stay at hand for the overview and for views that follow along. */
const RECENT_MAX = 200;
const RARE_KINDS: readonly HistoryKind[] = HISTORY_KINDS.filter(
  (kind) => kind !== 'commit' && kind !== 'checkpoint',
);

export class LiveRun {
  connection: Connection = { phase: 'connecting', sinceMs: Date.now(), failures: 0 };
  /** False when the server answers, and has no run to show yet. */
  hasRun = true;
  overview: Overview | null = null;
  workers: WorkersView | null = null;
  queue: QueueView | null = null;
  series: SeriesView = EMPTY_SERIES;
  /** Newest first: what is out of the ordinary, so neither commits nor checkpoints. */
  recent: readonly HistoryEntry[] = [];

  readonly #onChange: () => void;
  readonly #historyListeners = new Set<(entries: readonly HistoryEntry[]) => void>();
  #source: EventSource | null = null;
  #identity: string | null = null;
  #frame = 0;
  #fetchingSeries = false;

  /** `onChange` runs in an animation frame after something changed. */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  start(): void {
    this.#step('started');
    setInterval(() => this.#step('tick'), 500);
    addEventListener('online', () => this.#step('retryRequested'));
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#step('retryRequested');
    });
  }

  /** Connects again after the server has accepted a token. */
  unlock(): void {
    this.#step('started');
  }

  retry(): void {
    this.#step('retryRequested');
  }

  /** Calls back with new history entries, oldest first, until the returned function is called; an empty list says: ask again. */
  onHistory(listener: (entries: readonly HistoryEntry[]) => void): () => void {
    this.#historyListeners.add(listener);
    return () => this.#historyListeners.delete(listener);
  }

  #step(type: ConnectionEvent['type']): void {
    const before = this.connection;
    const { state, effect } = transition(before, { type, nowMs: Date.now() });
    this.connection = state;
    if (effect === 'connect') void this.#connect();
    if (effect === 'check') void this.#check();
    if (effect === 'close') this.#close();
    if (state !== before) this.#changed();
  }

  #changed(): void {
    if (this.#frame !== 0) return;
    // A hidden page draws no frames; it is brought up to date when it is seen again.
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#onChange();
    });
  }

  #close(): void {
    this.#source?.close();
    this.#source = null;
  }

  /** Asks for the session first: an EventSource cannot tell a missing token from a missing server. */
  async #connect(): Promise<void> {
    this.#close();
    try {
      const session = await openSession();
      if (session.needsToken && !session.authorized) {
        this.#step('locked');
        return;
      }
    } catch (error) {
      this.#step(error instanceof ApiError && error.status === 401 ? 'locked' : 'failed');
      return;
    }
    if (this.connection.phase !== 'connecting') return;
    const source = new EventSource('/api/events');
    this.#source = source;
    source.addEventListener('error', () => {
      if (this.#source === source) this.#step('failed');
    });
    this.#listen(source, 'hello', (hello) => this.#greet(hello));
    this.#listen(source, 'overview', (overview) => {
      // Losses on held-out text come with no event of their own.
      const isValidated = this.overview !== null && this.overview.validationLoss !== overview.validationLoss;
      this.overview = overview;
      this.hasRun = true;
      if (isValidated) void this.#fetchSeries();
    });
    this.#listen(source, 'workers', (workers) => {
      this.workers = workers;
    });
    this.#listen(source, 'queue', (queue) => {
      this.queue = queue;
    });
    this.#listen(source, 'points', ({ points, resync }) => {
      const series = resync ? null : appendPoints(this.series, points);
      if (series === null) void this.#fetchSeries();
      else this.series = series;
    });
    this.#listen(source, 'history', ({ entries, resync }) => {
      if (resync) void this.#fetchRecent();
      else this.#addHistory(entries);
    });
  }

  #listen<Name extends keyof EventMap & string>(
    source: EventSource,
    name: Name,
    take: (data: EventMap[Name]) => void,
  ): void {
    source.addEventListener(name, (event) => {
      if (this.#source !== source) return;
      take(JSON.parse((event as MessageEvent<string>).data) as EventMap[Name]);
      this.#step('heard');
      this.#changed();
    });
  }

  #greet({ run, version }: EventMap['hello']): void {
    const identity = `${run} ${version}`;
    if (this.#identity !== null && this.#identity !== identity) {
      location.reload();
      return;
    }
    this.#identity = identity;
    this.hasRun = run !== '';
    void this.#fetchSeries();
    void this.#fetchRecent();
  }

  async #check(): Promise<void> {
    try {
      await openSession();
      this.#step('answered');
    } catch {
      this.#step('failed');
    }
  }

  /** Without an answer, or without the right to one, the connection is opened anew, and its hello fetches again. */
  #fetchFailed(error: unknown): void {
    if (error instanceof ApiError && (error.status === 0 || error.status === 401)) this.#step('failed');
  }

  async #fetchSeries(): Promise<void> {
    if (this.#fetchingSeries) return;
    this.#fetchingSeries = true;
    try {
      this.series = await get<SeriesView>('/api/series');
      this.#changed();
    } catch (error) {
      this.#fetchFailed(error);
    } finally {
      this.#fetchingSeries = false;
    }
  }

  async #fetchRecent(): Promise<void> {
    try {
      this.recent = (await get<HistoryView>(`/api/history?kinds=${RARE_KINDS.join(',')}&limit=50`)).entries;
      for (const listener of this.#historyListeners) listener([]);
      this.#changed();
    } catch (error) {
      this.#fetchFailed(error);
    }
  }

  #addHistory(entries: readonly HistoryEntry[]): void {
    const known = new Set(this.recent.map(({ id }) => id));
    const fresh = entries.filter(({ id, kind }) => RARE_KINDS.includes(kind) && !known.has(id));
    if (fresh.length > 0) this.recent = [...fresh.toReversed(), ...this.recent].slice(0, RECENT_MAX);
    for (const listener of this.#historyListeners) listener(entries);
  }
}
