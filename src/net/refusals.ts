/**
 * Counts what is refused at the door, by reason. The first of a kind is logged at once; those after it are
 * told together when `tell` is called, since a flood of bad frames must not become a flood of lines. The
 * counts of all lines add up to what was refused.
 */
import type { Logger } from '../base/index.ts';

export class Refusals {
  readonly #logger: Logger;
  readonly #counts = new Map<string, { total: number; told: number }>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get counts(): ReadonlyMap<string, number> {
    return new Map([...this.#counts].map(([reason, { total }]) => [reason, total]));
  }

  add(reason: string): void {
    const count = this.#counts.get(reason);
    if (count !== undefined) {
      count.total += 1;
      return;
    }
    this.#counts.set(reason, { total: 1, told: 1 });
    this.#logger.warn('frameRefused', { reason, count: 1 });
  }

  /** Logs what has come since the last line of each kind; called at each tick and at the end. */
  tell(): void {
    for (const [reason, count] of this.#counts) {
      if (count.told === count.total) continue;
      this.#logger.warn('frameRefused', { reason, count: count.total - count.told });
      count.told = count.total;
    }
  }
}
