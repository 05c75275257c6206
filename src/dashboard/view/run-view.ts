/**
 * What is known of a run: a fold over its telemetry, of bounded size however long the run is. Every answer is
 * a function of the records taken in and of the time it is asked at; there is no clock in here. Pure.
 */
import { unreachable } from '../../base/index.ts';
import type {
  HistoryEntry,
  HistoryView,
  Overview,
  RunState,
  SeriesPoint,
  SeriesView,
  TimelineView,
  WorkerRow,
} from '../contract.ts';
import { History, type HistoryQuery } from './history.ts';
import { overviewOf } from './overview.ts';
import { Pace } from './pace.ts';
import { problemsOf, type Trouble } from './problems.ts';
import type {
  CommittedRecord,
  EndedRecord,
  NotedRecord,
  OpenedRecord,
  SampledRecord,
  Telemetry,
} from './record.ts';
import { Ring } from './ring.ts';
import { anySentenceOf, kindOf } from './sentences.ts';
import { Series } from './series.ts';
import { Timeline } from './timeline.ts';
import { logsOf, WorkerTable } from './workers.ts';

const POINTS_MAX = 256;
/** Entries that one event may bring. */
const ENTRIES_MAX = 200;
const ABORTS_MAX = 100;
/** What a worker says that was told to stop and leaves by itself. */
const LEFT_POLITELY = 'asked to leave';
/** A run that has recorded nothing for so long, and no end, has lost its coordinator. */
const SILENT_MS = 45_000;

export class RunView {
  readonly #series = new Series();
  readonly #history = new History();
  readonly #workers = new WorkerTable();
  readonly #timeline = new Timeline();
  readonly #pace = new Pace();
  readonly #points = new Ring<SeriesPoint>(POINTS_MAX);
  readonly #aborts = new Ring<number>(ABORTS_MAX);
  readonly #troubles = new Map<string, Trouble>();
  #opened: OpenedRecord | null = null;
  #startedAt = 0;
  #updatedAt = 0;
  #committed: CommittedRecord | null = null;
  #sampled: SampledRecord | null = null;
  #ended: EndedRecord | null = null;
  #tokensSeen = 0;
  #slotsCommitted = 0;
  #loss: number | null = null;
  #validationLoss: number | null = null;
  #checkpoint: { step: number; at: number } | null = null;
  #memberlessSince: number | null = null;
  #version = 0;

  /** Grows with every record. */
  get version(): number {
    return this.#version;
  }

  get opened(): OpenedRecord | null {
    return this.#opened;
  }

  /** The newest committed step ever; a rewind does not lower it. */
  get step(): number {
    return this.#committed?.step ?? this.#opened?.fromStep ?? 0;
  }

  get goodput(): number | null {
    return this.#pace.goodput;
  }

  get tokensSeen(): number {
    return this.#tokensSeen;
  }

  get slotsCommitted(): number {
    return this.#slotsCommitted;
  }

  get sampled(): SampledRecord | null {
    return this.#sampled;
  }

  get ended(): EndedRecord | null {
    return this.#ended;
  }

  apply(record: Telemetry): void {
    const { at } = record;
    this.#version += 1;
    this.#updatedAt = Math.max(this.#updatedAt, at);
    switch (record.kind) {
      case 'opened':
        this.#open(record, at);
        return;
      case 'committed':
        this.#commit(record, at);
        return;
      case 'reported':
        this.#timeline.report(record);
        this.#workers.report(record);
        return;
      case 'sampled':
        this.#sample(record, at);
        return;
      case 'noted':
        this.#note(record, at);
        return;
      case 'ended':
        this.#end(record, at);
        return;
      default:
        unreachable(record);
    }
  }

  overview(options: { readonly name: string; readonly live: boolean }, nowAt: number): Overview | null {
    const opened = this.#opened;
    if (opened === null) return null;
    const state = this.#stateAt(nowAt);
    const rows = this.workers();
    const stepMs = this.#pace.stepMs;
    return overviewOf({
      ...options,
      ...{ opened, state, rows, stepMs, nowAt },
      startedAt: this.#startedAt,
      updatedAt: this.#updatedAt,
      step: this.step,
      committed: this.#committed,
      sampled: this.#sampled,
      loss: this.#loss,
      validationLoss: this.#validationLoss,
      tokensPerSecond: this.#pace.tokensPerSecond,
      goodput: this.#pace.goodput,
      tokensSeen: this.#tokensSeen,
      lastCheckpoint: this.#checkpoint,
      problems: problemsOf(
        {
          ...{ state, rows },
          failure: this.#ended?.reason ?? null,
          updatedAt: this.#updatedAt,
          memberlessSince: this.#memberlessSince,
          queueTrouble: this.#trouble('queueTrouble'),
          checkpointTrouble: this.#trouble('checkpointAbandoned'),
          refusal: this.#trouble('workerRefused'),
          divergence: this.#trouble('workerQuarantined'),
          recordTrouble: this.#trouble('telemetryTrouble'),
          abortsAt: this.#aborts.items,
        },
        nowAt,
      ),
    });
  }

  workers(): WorkerRow[] {
    return this.#workers.rows(this.#pace);
  }

  timeline(): TimelineView {
    return this.#timeline.view();
  }

  series(): SeriesView {
    return this.#series.view();
  }

  history(query: HistoryQuery): HistoryView {
    return this.#history.view(query);
  }

  /** Points of steps after `step`, oldest first; `resync` when some of them are no longer kept. */
  pointsSince(step: number): { readonly points: readonly SeriesPoint[]; readonly resync: boolean } {
    const points = this.#points.items.filter((point) => point.step > step);
    const isWhole = points.length < this.#points.items.length || this.#points.items[0]?.step === step + 1;
    return { points, resync: points.length > 0 && !isWhole };
  }

  /** Entries after `id`, oldest first; `resync` when some of them are no longer kept. */
  historySince(id: number): { readonly entries: readonly HistoryEntry[]; readonly resync: boolean } {
    const entries = this.#history.since(id).slice(-ENTRIES_MAX);
    return { entries, resync: entries.length !== this.#history.lastId - id };
  }

  get lastEntry(): number {
    return this.#history.lastId;
  }

  #open(record: OpenedRecord, at: number): void {
    const isFirst = this.#opened === null;
    this.#opened = record;
    this.#ended = null;
    this.#sampled = null;
    this.#memberlessSince = at;
    if (isFirst) this.#startedAt = at;
    if (this.#committed === null) {
      this.#tokensSeen = record.tokensSeen;
      this.#slotsCommitted = record.fromStep * record.slots;
    }
    this.#workers.allGone('the coordinator was started anew', at);
    // The commit log and the metrics both tell of a start; it was one.
    if (!isFirst && this.#committed === null && record.fromStep === 0) return;
    const text =
      record.fromStep === 0 ? 'the run was started' : `the run goes on from step ${record.fromStep}`;
    this.#tell({ at, kind: 'run', level: 'info', step: record.fromStep, worker: null, text });
  }

  #commit(record: CommittedRecord, at: number): void {
    // Taken from the commit log already, before its line in the metrics was there.
    if (!record.repeated && record.step <= (this.#committed?.step ?? 0)) return;
    this.#pace.add(record);
    this.#timeline.commit(record);
    this.#loss = record.loss;
    this.#memberlessSince = null;
    // What the sample says of the step under way is over; the next one tells anew.
    const idle = { phase: 'gathering', slotsDone: 0, stateStep: record.step } as const;
    if (this.#sampled !== null) this.#sampled = { ...this.#sampled, ...idle };
    const { step, loss, learningRate, tokens, stepMs, attempt, workers } = record;
    const again = record.repeated ? ' again, as recorded' : '';
    const tries = attempt > 1 ? `, attempt ${attempt}` : '';
    const hands = workers.length === 1 ? '1 worker' : `${workers.length} workers`;
    this.#tell({
      ...{ at, kind: 'commit', level: 'info', step, worker: null },
      text: `step ${step} committed${again}: loss ${loss.toFixed(4)}, ${hands}${tries}`,
    });
    if (step <= (this.#committed?.step ?? 0)) return;
    this.#committed = record;
    this.#tokensSeen += tokens;
    this.#slotsCommitted += workers.reduce((sum, { slots }) => sum + slots, 0);
    const tokensPerSecond = stepMs === null || stepMs === 0 ? null : (tokens * 1000) / stepMs;
    const point = { step, loss, learningRate, tokensPerSecond, stepMs, goodput: this.#pace.goodput, at };
    this.#series.add(point);
    this.#points.push(point);
  }

  #sample(record: SampledRecord, at: number): void {
    this.#sampled = record;
    this.#workers.sample(record, at);
    const hasMember = record.workers.some(({ phase }) => phase === 'member');
    this.#memberlessSince = hasMember ? null : (this.#memberlessSince ?? at);
  }

  #note({ event, fields, level }: NotedRecord, at: number): void {
    const worker = typeof fields.worker === 'string' ? fields.worker : null;
    const step = typeof fields.step === 'number' ? fields.step : null;
    const reason = String(fields.reason ?? '');
    if (event === 'validated' && step !== null && typeof fields.loss === 'number') {
      this.#validationLoss = fields.loss;
      this.#series.addValidation(step, fields.loss);
      return;
    }
    if (worker !== null) this.#noteWorker(worker, event, fields, reason, at);
    if (event === 'attemptAborted') this.#aborts.push(at);
    if (event === 'checkpointStored' && step !== null) {
      this.#checkpoint = { step, at };
      this.#troubles.delete('checkpointAbandoned');
    }
    const text = anySentenceOf(event, fields);
    if (level !== 'info') this.#troubles.set(event, { at, text });
    this.#tell({ at, kind: kindOf(event, fields), level, step, worker, text });
  }

  #noteWorker(
    worker: string,
    event: string,
    fields: NotedRecord['fields'],
    reason: string,
    at: number,
  ): void {
    if (event === 'workerJoined') {
      this.#workers.joined(worker, String(fields.host ?? ''), Number(fields.pid ?? 0), at);
    } else if (event === 'workerEntered') {
      const generation = typeof fields.generation === 'number' ? fields.generation : null;
      this.#workers.entered(worker, generation, String(fields.device ?? ''));
      this.#memberlessSince = null;
    } else if (event === 'workerLost') {
      this.#workers.ended(worker, reason === LEFT_POLITELY ? 'left' : 'lost', reason, at);
    } else if (event === 'workerDraining') {
      this.#workers.draining(worker);
    } else if (event === 'workerLeft') {
      this.#workers.ended(worker, 'left', reason, at);
    }
  }

  #end(record: EndedRecord, at: number): void {
    this.#ended = record;
    this.#workers.allGone('the run has ended', at);
    const { outcome, step, reason } = record;
    const failed = outcome === 'failed';
    const text = failed
      ? `the run failed at step ${step}: ${reason}`
      : `the run ${outcome === 'stopped' ? 'was stopped' : 'is complete'} at step ${step}`;
    this.#tell({ at, kind: 'run', level: failed ? 'error' : 'info', step, worker: null, text });
  }

  #tell(entry: Omit<HistoryEntry, 'id' | 'logs'>): void {
    this.#history.add({ ...entry, logs: logsOf(entry.worker) });
  }

  #trouble(event: string): Trouble | null {
    return this.#troubles.get(event) ?? null;
  }

  #stateAt(nowAt: number): RunState {
    if (this.#ended !== null) return this.#ended.outcome;
    if (nowAt - this.#updatedAt > SILENT_MS) return 'silent';
    const phase = this.#sampled?.phase;
    if (phase === 'closing' || phase === 'finished') return 'closing';
    return this.#memberlessSince === null ? 'training' : 'waiting';
  }
}
