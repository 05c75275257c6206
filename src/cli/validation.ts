/**
 * Validation while a run trains: each stored checkpoint's loss on what is held out, computed by a process of low
 * priority beside the training, which never waits for it. Where checkpoints come faster than they can be
 * evaluated, the newest is taken and those between are passed over.
 */
import { type Logger, messageOf } from '../base/index.ts';
import type { Playground } from '../playground/index.ts';

export class Validation {
  readonly #playground: Playground;
  readonly #samplesMax: number;
  readonly #logger: Logger;
  #waiting: number | null = null;
  #work: Promise<void> | null = null;

  constructor(playground: Playground, samplesMax: number, logger: Logger) {
    this.#playground = playground;
    this.#samplesMax = samplesMax;
    this.#logger = logger;
  }

  onCheckpoint(step: number): void {
    this.#waiting = step;
    this.#work ??= this.#evaluateAll().finally(() => {
      this.#work = null;
    });
  }

  /** Resolves when the newest checkpoint is evaluated. */
  async settled(): Promise<void> {
    await this.#work;
  }

  /** Idempotent. What is under way is given up. */
  close(): void {
    this.#playground.close();
  }

  async #evaluateAll(): Promise<void> {
    for (let step = this.#waiting; step !== null; step = this.#waiting) {
      this.#waiting = null;
      try {
        const samplesMax = this.#samplesMax;
        const { loss, tokens, samples } = await this.#playground.ask('validate', { step, samplesMax });
        this.#logger.info('validated', { step, loss, tokens, samples });
      } catch (error) {
        this.#logger.warn('validationFailed', { step, reason: messageOf(error) });
      }
    }
  }
}
