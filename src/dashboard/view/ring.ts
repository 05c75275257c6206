/** The newest N of something, oldest first; adding one costs constant time. */
export class Ring<T> {
  readonly #capacity: number;
  #items: T[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get items(): readonly T[] {
    return this.#items.length <= this.#capacity ? this.#items : this.#items.slice(-this.#capacity);
  }

  get last(): T | undefined {
    return this.#items.at(-1);
  }

  push(item: T): void {
    this.#items.push(item);
    // Cut when twice as long, so that the copy is paid for by as many additions.
    if (this.#items.length >= 2 * this.#capacity) this.#items = this.#items.slice(-this.#capacity);
  }
}
