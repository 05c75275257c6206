/**
 * One direction of one connection, as TCP and zeromq give it: what arrives does so in order, each
 * message once. Delay is the scheduler's: it may leave a link alone as long as it likes, so that links
 * are reordered among each other at will. Nothing in between is dropped in silence, since TCP repeats;
 * what can happen is that a connection is cut (all waits until it heals) or reset (what was under way
 * on it is gone, and what its sender still held goes over the next one).
 */
import type { PhiloxRng } from '../base/index.ts';

/** A control message with its number on its link, as src/net/control.ts gives it. */
export interface Numbered<Message> {
  readonly seq: number;
  readonly message: Message;
}

export class Link<Message> {
  #waiting: Message[] = [];
  /** Nothing passes before this time. */
  #healsAtMs = 0;

  send(message: Message): void {
    this.#waiting.push(message);
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** What arrives next; null when nothing can now. */
  peek(nowMs: number): Message | null {
    return this.isCut(nowMs) ? null : (this.#waiting[0] ?? null);
  }

  /** Removes and returns what `peek` showed. */
  take(): Message {
    return this.#waiting.shift()!;
  }

  isCut(nowMs: number): boolean {
    return nowMs < this.#healsAtMs;
  }

  cut(untilMs: number): void {
    this.#healsAtMs = untilMs;
  }

  /** The connection breaks: some of the oldest were on the wire, the rest waits for the next connection. */
  loseOldest(rng: PhiloxRng): void {
    this.#waiting.splice(0, rng.nextInt(this.#waiting.length + 1));
  }

  /** The sender is killed: some of the newest had not left its process. */
  loseNewest(rng: PhiloxRng): void {
    this.#waiting.length = rng.nextInt(this.#waiting.length + 1);
  }

  clear(): void {
    this.#waiting = [];
  }
}
