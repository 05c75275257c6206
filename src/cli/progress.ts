/**
 * Showing a run's progress: a live line on a terminal with notable events above it, JSON lines
 * otherwise.
 */
import type { LogFields, Logger } from '../base/index.ts';
import {
  type CommittedStep,
  type CoordinatorListener,
  type CoordinatorState,
  members,
} from '../coordinator/index.ts';
import { sentenceOf } from '../dashboard/index.ts';
import { formatCount, formatDuration, isTerminal } from './terminal.ts';

/** Weight of the newest step in the smoothed speed. */
const SMOOTHING = 0.2;
const ERASE_LINE = '\r\u001b[2K';

export class ProgressDisplay implements CoordinatorListener {
  readonly #totalSteps: number;
  readonly #lines: Logger;
  #lastCommitMs: number | null = null;
  #msPerStep: number | null = null;
  #tokensPerSecond: number | null = null;
  #live = '';

  /** `lines` takes what a person need not see at once. */
  constructor(totalSteps: number, lines: Logger) {
    this.#totalSteps = totalSteps;
    this.#lines = lines;
  }

  onCommitted(record: CommittedStep, state: CoordinatorState, repeated: boolean): void {
    this.#measure(record);
    const loss = record.lossSum / record.tokens;
    const workers = members(state).length;
    this.#lines.info('committed', {
      step: record.step,
      loss: Number(loss.toFixed(4)),
      learningRate: record.learningRate,
      tokens: record.tokens,
      tokensPerSecond: this.#tokensPerSecond === null ? null : Math.round(this.#tokensPerSecond),
      workers,
      ...(repeated ? { repeated } : {}),
    });
    if (!isTerminal) return;
    this.#live = [
      `step ${record.step}/${this.#totalSteps}`,
      `loss ${loss.toFixed(3)}`,
      `lr ${record.learningRate.toExponential(1)}`,
      ...(this.#tokensPerSecond === null ? [] : [`${formatCount(this.#tokensPerSecond)} tokens/s`]),
      `${workers} ${workers === 1 ? 'worker' : 'workers'}`,
      ...(this.#msPerStep === null
        ? []
        : [`${formatDuration((this.#totalSteps - record.step) * this.#msPerStep)} left`]),
      ...(repeated ? ['(repeating)'] : []),
    ].join('  ');
    this.#redraw();
  }

  /** A logger that also tells a watching person what is worth a line. */
  logger(): Logger {
    return teeLogger(this.#lines, (level, event, fields) => {
      const text = sentenceOf(event, fields);
      if (isTerminal && text !== null) this.note(level === 'info' ? text : `${level}: ${text}`);
    });
  }

  /** A line above the live one. */
  note(text: string): void {
    process.stdout.write(`${isTerminal ? ERASE_LINE : ''}${text}\n`);
    this.#redraw();
  }

  /** Leaves the cursor on a fresh line. */
  end(): void {
    if (isTerminal && this.#live !== '') process.stdout.write('\n');
    this.#live = '';
  }

  #redraw(): void {
    if (!isTerminal || this.#live === '') return;
    const width = process.stdout.columns ?? 80;
    process.stdout.write(`${ERASE_LINE}${this.#live.slice(0, width - 1)}`);
  }

  #measure(record: CommittedStep): void {
    const nowMs = performance.now();
    if (this.#lastCommitMs !== null) {
      const milliseconds = nowMs - this.#lastCommitMs;
      const smooth = (before: number | null, value: number) =>
        before === null ? value : before + SMOOTHING * (value - before);
      this.#msPerStep = smooth(this.#msPerStep, milliseconds);
      this.#tokensPerSecond = smooth(this.#tokensPerSecond, (record.tokens * 1000) / milliseconds);
    }
    this.#lastCommitMs = nowMs;
  }
}

/** A logger that also lets `hear` know. */
export function teeLogger(
  to: Logger,
  hear: (level: 'info' | 'warn' | 'error', event: string, fields: LogFields) => void,
): Logger {
  const on =
    (level: 'info' | 'warn' | 'error') =>
    (event: string, fields: LogFields = {}) => {
      to[level](event, fields);
      hear(level, event, fields);
    };
  return {
    debug: (event, fields) => to.debug(event, fields),
    info: on('info'),
    warn: on('warn'),
    error: on('error'),
    child: (fields) => teeLogger(to.child(fields), hear),
  };
}
