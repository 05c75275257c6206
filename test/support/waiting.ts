/** Waiting for what must happen, with a limit that only a test that fails ever reaches. */

/** Collects what a callback is called with; `next` gives the calls one by one, in order. */
export class Recorder<T> {
  readonly all: T[] = [];
  #taken = 0;
  #wake: (() => void) | null = null;

  readonly record = (value: T): void => {
    this.all.push(value);
    this.#wake?.();
  };

  /** The next value not taken yet. */
  async next(limitMs = 10_000): Promise<T> {
    await this.until(this.#taken + 1, limitMs);
    this.#taken += 1;
    return this.all[this.#taken - 1]!;
  }

  /** Resolves when at least `count` values have come since the beginning. */
  async until(count: number, limitMs = 10_000): Promise<void> {
    const deadline = performance.now() + limitMs;
    while (this.all.length < count) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) {
        throw new Error(
          `${this.all.length} of ${count} came within ${limitMs} ms: ${JSON.stringify(this.all)}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = null;
    }
  }
}

/** The promise's value, or a failure that names what was waited for. */
export async function within<T>(what: string, promise: Promise<T>, limitMs = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within ${limitMs} ms`)), limitMs);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}
