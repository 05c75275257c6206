/**
 * A simulated worker's gradient links, by the rules of src/worker/gradient-links.ts: frames of the
 * attempt under way go to its exchange, those of one that is over are dropped, and one that is ahead is
 * held, with nothing read behind it. An attempt that no frame reaches for too long is given up.
 */
import { assert } from '../base/index.ts';
import type { ReduceOrder } from '../worker/index.ts';
import { Exchange, type Frame } from './exchange.ts';
import { type Oracle, SIZE } from './oracle.ts';
import type { Parts } from './parts.ts';

export interface ReaderContext {
  readonly oracle: Oracle;
  readonly reduce: Parts['reduce'];
  send(to: string, frame: Frame): void;
  onFinished(position: Attempt, gradientDigest: string): void;
  onFailed(position: Attempt, reason: string): void;
}

interface Attempt {
  readonly generation: number;
  readonly attempt: number;
}

export class GradientReader {
  /** The summed gradient, as the newest finished attempt left it. */
  readonly reduced = new Float32Array(SIZE);
  /** The next frame read arrives damaged. */
  damagesNext = false;
  readonly #name: string;
  readonly #limitMs: number;
  readonly #context: ReaderContext;
  #exchange: Exchange | null = null;
  #held: { readonly frame: Frame; readonly deadlineMs: number } | null = null;
  #doneStep = 0;
  #nowMs = 0;
  #watched: { exchange: Exchange | null; numFrames: number; sinceMs: number } = {
    exchange: null,
    numFrames: 0,
    sinceMs: 0,
  };

  constructor(name: string, limitMs: number, context: ReaderContext) {
    this.#name = name;
    this.#limitMs = limitMs;
    this.#context = context;
  }

  get canRead(): boolean {
    return this.#held === null;
  }

  begin(order: ReduceOrder, fragments: ReadonlyMap<number, Float32Array>): void {
    const { oracle, reduce, send, onFinished, onFailed } = this.#context;
    const rank = order.members.findIndex(({ incarnation }) => incarnation === this.#name);
    assert(rank !== -1, `${this.#name} is a member of what it is to reduce`);
    const { kernels } = oracle;
    const position = { generation: order.generation, attempt: order.attempt };
    this.#exchange = new Exchange(
      {
        ...{ order, rank, kernels, fragments, reduced: this.reduced, send },
        onFinished: () => onFinished(position, oracle.digest(this.reduced)),
        onFailed: (reason) => onFailed(position, reason),
      },
      reduce,
    );
    this.#exchange.start();
    this.#lookAgain();
  }

  abort(): void {
    this.#exchange = null;
  }

  standAt(step: number): void {
    this.#doneStep = step;
    this.#lookAgain();
  }

  commit(step: number): void {
    this.#doneStep = step;
    this.#exchange = null;
    this.#lookAgain();
  }

  tick(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#lookAgain();
    this.#watch();
  }

  read(frame: Frame): void {
    const { order } = this.#exchange ?? {};
    const behind = order === undefined ? -1 : comparePositions(order, frame.order);
    if (behind > 0 || frame.order.step <= this.#doneStep) return;
    if (behind < 0) {
      this.#held = { frame, deadlineMs: this.#nowMs + this.#limitMs };
      return;
    }
    const sender = frame.order.members[frame.rank]!.incarnation;
    if (order!.members[frame.rank]?.incarnation !== sender) return;
    const isDamaged = this.damagesNext;
    this.damagesNext = false;
    this.#exchange!.accept(frame, isDamaged);
  }

  #lookAgain(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    if (this.#nowMs > held.deadlineMs) return;
    this.read(held.frame);
    // Still ahead: it goes on waiting for as long as it was to.
    if (!this.canRead) this.#held = held;
  }

  #watch(): void {
    const exchange = this.#exchange;
    if (exchange === null || !exchange.isWaiting) return;
    const { numFrames, order } = exchange;
    if (exchange !== this.#watched.exchange || numFrames !== this.#watched.numFrames) {
      this.#watched = { exchange, numFrames, sinceMs: this.#nowMs };
      return;
    }
    const silenceMs = this.#nowMs - this.#watched.sinceMs;
    if (silenceMs <= this.#limitMs) return;
    this.#watched = { exchange: null, numFrames: 0, sinceMs: 0 };
    const position = { generation: order.generation, attempt: order.attempt };
    this.#context.onFailed(position, `no gradient frame for ${silenceMs} ms`);
  }
}

/** Negative when `a` is an earlier attempt than `b`, 0 for the same one. */
function comparePositions(a: ReduceOrder, b: ReduceOrder): number {
  return a.step - b.step || a.generation - b.generation || a.attempt - b.attempt;
}
