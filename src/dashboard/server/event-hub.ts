/**
 * Server-sent events for any number of pages (WHATWG HTML, "Server-sent events"). Twice a second each topic that
 * changed is put into words once, and the same bytes go to every page. A page that reads slowly is passed over
 * until it has taken what it was sent, and then gets the newest state only: its buffer holds one round at most,
 * and nobody waits for it.
 */
import type { ServerResponse } from 'node:http';
import type { EventMap, HistoryEntry, SeriesPoint } from '../contract.ts';

const ROUND_MS = 500;
/** Rounds after which an idle connection is shown to be alive: a comment every 15 s. */
const ROUNDS_PER_COMMENT = 30;
/** Rounds that a page may leave unread before its connection is given up: two minutes. */
const ROUNDS_BEHIND_MAX = 240;
const PAGES_MAX = 1000;

/** What the pages are told of. Asked once per round at most, and not at all while nobody looks. */
export interface EventSource {
  readonly hello: EventMap['hello'];
  /** Takes in what is new; null states are not sent. */
  states(): Promise<{
    readonly overview: EventMap['overview'] | null;
    readonly workers: EventMap['workers'] | null;
    readonly queue: EventMap['queue'] | null;
  }>;
  readonly lastStep: number;
  readonly lastEntry: number;
  pointsSince(step: number): { readonly points: readonly SeriesPoint[]; readonly resync: boolean };
  historySince(id: number): { readonly entries: readonly HistoryEntry[]; readonly resync: boolean };
}

const TOPICS = ['overview', 'workers', 'queue'] as const;
type Topic = (typeof TOPICS)[number];

interface Page {
  readonly response: ServerResponse;
  /** Version of each topic that was sent last. */
  readonly sent: Record<Topic, number>;
  step: number;
  entry: number;
  roundsBehind: number;
}

export class EventHub {
  readonly #source: EventSource;
  readonly #onTrouble: (error: unknown) => void;
  readonly #pages = new Set<Page>();
  readonly #topics: Record<Topic, { text: string; version: number }> = {
    overview: { text: '', version: 0 },
    workers: { text: '', version: 0 },
    queue: { text: '', version: 0 },
  };
  #timer: NodeJS.Timeout | null = null;
  #round = 0;
  #isRunning = false;

  constructor(source: EventSource, onTrouble: (error: unknown) => void) {
    this.#source = source;
    this.#onTrouble = onTrouble;
  }

  readonly maxPages = PAGES_MAX;

  get numPages(): number {
    return this.#pages.size;
  }

  /** Takes over a response whose headers are not sent yet. False when there are too many pages. */
  add(response: ServerResponse, headers: Readonly<Record<string, string>>): boolean {
    if (this.#pages.size >= PAGES_MAX) return false;
    response.writeHead(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    response.write(`retry: 1000\n\n${eventText('hello', this.#source.hello)}`);
    const { lastStep: step, lastEntry: entry } = this.#source;
    const page: Page = {
      ...{ response, step, entry, roundsBehind: 0 },
      sent: { overview: 0, workers: 0, queue: 0 },
    };
    this.#pages.add(page);
    response.once('close', () => this.#drop(page));
    response.once('error', () => this.#drop(page));
    this.#timer ??= setInterval(() => void this.#tick(), ROUND_MS);
    void this.#tick();
    return true;
  }

  /** Tells the last there is to tell, then goodbye. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    if (this.#pages.size > 0) await this.#tick();
    for (const { response } of this.#pages) response.end();
  }

  async #tick(): Promise<void> {
    // A look at the queue may take longer than a round.
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      const states = await this.#source.states();
      for (const topic of TOPICS) this.#renew(topic, states[topic]);
      this.#send();
    } catch (error) {
      this.#onTrouble(error);
    } finally {
      this.#isRunning = false;
    }
  }

  #renew(topic: Topic, state: unknown): void {
    if (state === null) return;
    const text = eventText(topic, state);
    const known = this.#topics[topic];
    if (known.text !== text) this.#topics[topic] = { text, version: known.version + 1 };
  }

  #send(): void {
    this.#round += 1;
    // Pages that have kept up are all owed the same, so that it is put into words once.
    const texts = new Map<string, string>();
    for (const page of this.#pages) {
      if (page.response.writableNeedDrain) {
        page.roundsBehind += 1;
        if (page.roundsBehind > ROUNDS_BEHIND_MAX) page.response.destroy();
        continue;
      }
      page.roundsBehind = 0;
      const key = `${page.step} ${page.entry} ${TOPICS.map((topic) => page.sent[topic]).join(' ')}`;
      const text = texts.get(key) ?? this.#owed(page);
      texts.set(key, text);
      this.#markSent(page);
      if (text !== '') page.response.write(text);
      else if (this.#round % ROUNDS_PER_COMMENT === 0) page.response.write(':\n\n');
    }
  }

  #owed(page: Page): string {
    const topics = TOPICS.filter((topic) => this.#topics[topic].version > page.sent[topic]);
    const points = this.#source.pointsSince(page.step);
    const history = this.#source.historySince(page.entry);
    return [
      ...topics.map((topic) => this.#topics[topic].text),
      ...(points.points.length > 0 ? [eventText('points', points)] : []),
      ...(history.entries.length > 0 ? [eventText('history', history)] : []),
    ].join('');
  }

  #markSent(page: Page): void {
    for (const topic of TOPICS) page.sent[topic] = this.#topics[topic].version;
    page.step = this.#source.lastStep;
    page.entry = this.#source.lastEntry;
  }

  #drop(page: Page): void {
    this.#pages.delete(page);
    if (this.#pages.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}

/** JSON has no line breaks of its own, so one data line holds it. */
function eventText(name: keyof EventMap, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
