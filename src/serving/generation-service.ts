/**
 * Generation beside an event loop: the model is in a thread of its own, requests wait in line for it, one at a
 * time, in order. The line is bounded; who comes to a full one is turned away at once.
 */
import { SHARE_ENV, Worker as Thread } from 'node:worker_threads';
import { type ErrorCode, LockstepError } from '../base/index.ts';
import type {
  GeneratedText,
  GenerationOptions,
  GeneratorFacts,
  OpenGeneratorOptions,
} from '../generation/index.ts';
import type { FromThread, ThreadData, ToThread } from './messages.ts';

export interface ServiceOptions {
  readonly place: string;
  readonly open: OpenGeneratorOptions;
  /** Requests that may wait behind the one under way. */
  readonly waitingMax: number;
}

interface Request {
  readonly texts: readonly string[];
  readonly options: GenerationOptions;
  resolve(results: readonly GeneratedText[]): void;
  reject(error: Error): void;
}

/** Every place in the line is taken; the request was not begun. */
export class LineFullError extends Error {
  override readonly name = 'LineFullError';
}

export class GenerationService {
  readonly facts: GeneratorFacts;
  readonly #thread: Thread;
  readonly #waitingMax: number;
  readonly #waiting: Request[] = [];
  #current: Request | null = null;
  #ended: Error | null = null;
  readonly #exited: Promise<void>;

  /** Throws what opening the model throws (TextGenerator.open). */
  static async start({ place, open, waitingMax }: ServiceOptions): Promise<GenerationService> {
    const data: ThreadData = { place, open };
    // The engine's library reads its settings from the process's own environment, not from a thread's copy.
    const thread = new Thread(new URL('./generation-thread.js', import.meta.url), {
      ...{ workerData: data, env: SHARE_ENV },
    });
    const exited = new Promise<void>((resolve) => {
      thread.once('exit', () => resolve());
    });
    const first = await new Promise<FromThread>((resolve, reject) => {
      thread.once('message', resolve);
      thread.once('error', reject);
      void exited.then(() => reject(new Error('the thread that generates ended before it was ready')));
    });
    if (first.type !== 'ready') {
      await exited;
      throw first.type === 'failed' ? errorOf(first.code, first.reason) : new Error(first.type);
    }
    return new GenerationService(thread, exited, first.facts, waitingMax);
  }

  private constructor(thread: Thread, exited: Promise<void>, facts: GeneratorFacts, waitingMax: number) {
    this.facts = facts;
    this.#thread = thread;
    this.#exited = exited;
    this.#waitingMax = waitingMax;
    thread.on('message', (message: FromThread) => this.#answer(message));
    thread.on('error', (error) => this.#end(error));
    void exited.then(() => this.#end(new Error('the thread that generates has ended')));
  }

  /** Why it cannot answer any more; null while it can. */
  get trouble(): string | null {
    return this.#ended?.message ?? null;
  }

  /** Throws LineFullError, and what TextGenerator.generate throws. */
  generate(texts: readonly string[], options: GenerationOptions): Promise<readonly GeneratedText[]> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    if (this.#waiting.length >= this.#waitingMax) {
      return Promise.reject(new LineFullError(`${this.#waitingMax} requests are waiting already`));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ texts, options, resolve, reject });
      this.#next();
    });
  }

  /** Ends the thread once what it is at is done; whoever still waits is turned away. Idempotent. */
  async close(): Promise<void> {
    this.#end(new Error('the server is stopping'), { sparesCurrent: true });
    this.#tell({ type: 'close' });
    await this.#exited;
  }

  #next(): void {
    if (this.#current !== null) return;
    const request = this.#waiting.shift();
    if (request === undefined) return;
    this.#current = request;
    this.#tell({ type: 'generate', texts: request.texts, options: request.options });
  }

  #answer(message: FromThread): void {
    const request = this.#current;
    this.#current = null;
    if (message.type === 'generated') request?.resolve(message.results);
    else if (message.type === 'failed') request?.reject(errorOf(message.code, message.reason));
    this.#next();
  }

  #end(why: Error, { sparesCurrent = false } = {}): void {
    this.#ended ??= why;
    const turnedAway = this.#waiting.splice(0);
    if (!sparesCurrent && this.#current !== null) turnedAway.push(this.#current);
    if (!sparesCurrent) this.#current = null;
    for (const request of turnedAway) request.reject(this.#ended);
  }

  #tell(message: ToThread): void {
    this.#thread.postMessage(message);
  }
}

function errorOf(code: ErrorCode | null, reason: string): Error {
  return code === null ? new Error(reason) : new LockstepError(code, reason);
}
