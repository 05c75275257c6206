/** Counts what is refused at the door, by reason; logs each kind once, since a flood of bad frames must not become a flood of lines. */
import type { Logger } from '../base/index.ts';

export class Refusals {
  readonly #logger: Logger;
  readonly #counts = new Map<string, number>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  add(reason: string): void {
    const count = (this.#counts.get(reason) ?? 0) + 1;
    this.#counts.set(reason, count);
    if (count === 1) this.#logger.warn('frameRefused', { reason });
  }
}
