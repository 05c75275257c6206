/**
 * Where a thread posts a kernel's call and helper threads find it: shared memory and one word that parts are
 * claimed by, so that whoever is awake does the next part. The caller does parts too and waits only for those
 * that others have begun; a helper that sleeps, or wakes late, holds up nobody.
 *
 *   claim word   high 32 bits: the call's number; low 32 bits: the next part, CLOSED while a call is written
 *
 * A helper copies the call, then claims a part of that number: if it succeeds, no other call was written
 * meanwhile, and none will be before the part is finished. One call at a time: a thread that finds the board
 * taken works alone.
 */
import { existsSync, readlinkSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { messageOf } from '../base/index.ts';
import type { KernelCall } from './kernel-call.ts';

/** Many claims cost nothing beside the work, and the last parts end together. A block begins where a part does. */
export const PART_FLOATS = 65_536;
/** Without a sign of the helpers for so long, the caller looks whether they live. */
const LOOK_AFTER_MS = 100;
/** A call of some hundred operands; a longer one is done by its caller alone. */
const CALL_BYTES_MAX = 65_536;
const FAILURE_BYTES_MAX = 512;
export const HELPERS_MAX = 63;

/** Words of the header, in 32 bits. */
const TAKEN = 0;
const POSTED = 1;
const NUM_PARTS = 2;
const FINISHED = 3;
const NOT_FINITE = 4;
const FAILURE_BYTES = 5;
const CALL_BYTES = 6;
const ENDED = 7;
/** Of each helper the id that Linux gives its thread, 0 until it serves. */
const THREAD_IDS = 8;
/** Of each helper 1 while it may have claimed a part that is not finished. */
const AT_WORK = THREAD_IDS + HELPERS_MAX;
const NUM_WORDS = AT_WORK + HELPERS_MAX;
/** Bytes. */
const CLAIM_AT = Math.ceil(NUM_WORDS / 2) * 8;
const FAILURE_AT = CLAIM_AT + 8;
const CALL_AT = FAILURE_AT + FAILURE_BYTES_MAX;

const CLOSED = 2 ** 32 - 1;

/** Does the part of a call from `begin` to `end`, in floats; false if it holds what is not finite. */
export type DoPart = (call: KernelCall, begin: number, end: number) => boolean;

export class CallBoard {
  /** For other threads, to make a board of. */
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #claim: BigInt64Array;
  readonly #failure: Uint8Array;
  readonly #call: Uint8Array;

  static create(): CallBoard {
    return new CallBoard(new SharedArrayBuffer(CALL_AT + CALL_BYTES_MAX));
  }

  constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#words = new Int32Array(shared, 0, NUM_WORDS);
    this.#claim = new BigInt64Array(shared, CLAIM_AT, 1);
    this.#failure = new Uint8Array(shared, FAILURE_AT, FAILURE_BYTES_MAX);
    this.#call = new Uint8Array(shared, CALL_AT, CALL_BYTES_MAX);
  }

  /**
   * Carries a call out, together with the helpers that are awake by then. Returns whether all was finite; null if the
   * board is taken or the call too long, and nothing was done. Throws when a part failed or a helper died at it.
   */
  carryOut(call: KernelCall, doPart: DoPart): boolean | null {
    const bytes = serialize(call);
    if (bytes.length > CALL_BYTES_MAX) return null;
    if (Atomics.compareExchange(this.#words, TAKEN, 0, 1) !== 0) return null;
    const numParts = Math.ceil(call.length / PART_FLOATS);
    const number = this.#post(bytes, numParts);
    this.#doParts(number, numParts, call, doPart);
    this.#waitForHelpers(numParts);
    const allFinite = Atomics.load(this.#words, NOT_FINITE) === 0;
    const failure = this.#failureText();
    Atomics.store(this.#words, TAKEN, 0);
    if (failure !== null) throw new Error(failure);
    return allFinite;
  }

  /** A helper's life: does parts of whatever is posted, and sleeps in between, until `end`. */
  serve(helper: number, doPart: DoPart): void {
    Atomics.store(this.#words, THREAD_IDS + helper, ownThreadId());
    for (;;) {
      const posted = Atomics.load(this.#words, POSTED);
      if (Atomics.load(this.#words, ENDED) === 1) return;
      Atomics.store(this.#words, AT_WORK + helper, 1);
      this.#help(doPart);
      Atomics.store(this.#words, AT_WORK + helper, 0);
      Atomics.wait(this.#words, POSTED, posted);
    }
  }

  /** Helpers end when they have finished the part that they are at; calls are their callers' alone from then on. */
  end(): void {
    Atomics.store(this.#words, ENDED, 1);
    Atomics.add(this.#words, POSTED, 1);
    Atomics.notify(this.#words, POSTED);
  }

  #post(bytes: Uint8Array, numParts: number): number {
    const number = (unpack(Atomics.load(this.#claim, 0)).number + 1) % 2 ** 31;
    Atomics.store(this.#claim, 0, pack(number, CLOSED));
    this.#call.set(bytes);
    Atomics.store(this.#words, CALL_BYTES, bytes.length);
    Atomics.store(this.#words, NUM_PARTS, numParts);
    for (const word of [FINISHED, NOT_FINITE, FAILURE_BYTES]) Atomics.store(this.#words, word, 0);
    Atomics.store(this.#claim, 0, pack(number, 0));
    Atomics.add(this.#words, POSTED, 1);
    Atomics.notify(this.#words, POSTED, numParts - 1);
    return number;
  }

  #help(doPart: DoPart): void {
    const { number } = unpack(Atomics.load(this.#claim, 0));
    const numParts = Atomics.load(this.#words, NUM_PARTS);
    const bytes = Buffer.from(this.#call.subarray(0, Atomics.load(this.#words, CALL_BYTES)));
    const part = this.#claimPart(number, numParts);
    if (part === null) return;
    // Only now is it known that the bytes are of one call.
    let call: KernelCall;
    try {
      call = deserialize(bytes) as KernelCall;
    } catch (error) {
      this.#finish(numParts, error);
      return;
    }
    this.#doPart(part, numParts, call, doPart);
    this.#doParts(number, numParts, call, doPart);
  }

  #doParts(number: number, numParts: number, call: KernelCall, doPart: DoPart): void {
    for (;;) {
      const part = this.#claimPart(number, numParts);
      if (part === null) return;
      this.#doPart(part, numParts, call, doPart);
    }
  }

  /** The next part of this call; null when all are claimed, or the call is over. */
  #claimPart(number: number, numParts: number): number | null {
    for (;;) {
      const seen = Atomics.load(this.#claim, 0);
      const next = unpack(seen);
      if (next.number !== number || next.part >= numParts) return null;
      const claimed = pack(number, next.part + 1);
      if (Atomics.compareExchange(this.#claim, 0, seen, claimed) === seen) return next.part;
    }
  }

  #doPart(part: number, numParts: number, call: KernelCall, doPart: DoPart): void {
    const begin = part * PART_FLOATS;
    try {
      if (!doPart(call, begin, Math.min(begin + PART_FLOATS, call.length))) {
        Atomics.store(this.#words, NOT_FINITE, 1);
      }
      this.#finish(numParts, null);
    } catch (error) {
      this.#finish(numParts, error);
    }
  }

  /** Whatever became of it: the caller must not go on, nor wait for ever, because a part failed. */
  #finish(numParts: number, failure: unknown): void {
    if (failure !== null) {
      const { written } = new TextEncoder().encodeInto(messageOf(failure), this.#failure);
      Atomics.store(this.#words, FAILURE_BYTES, written);
    }
    const finished = Atomics.add(this.#words, FINISHED, 1) + 1;
    if (finished === numParts) Atomics.notify(this.#words, FINISHED);
  }

  #waitForHelpers(numParts: number): void {
    for (;;) {
      const finished = Atomics.load(this.#words, FINISHED);
      if (finished === numParts) return;
      if (Atomics.wait(this.#words, FINISHED, finished, LOOK_AFTER_MS) !== 'timed-out') continue;
      const dead = this.#deadHelper();
      // The board stays taken: what the dead one has left undone cannot be told.
      if (dead !== null && Atomics.load(this.#words, FINISHED) === finished) {
        throw new Error(`helper thread ${dead} of the host's arithmetic ended in the middle of a call`);
      }
    }
  }

  /** A helper that was at work and whose thread is no more. */
  #deadHelper(): number | null {
    const ids = [...this.#words.subarray(THREAD_IDS, AT_WORK)];
    const dead = ids.findIndex(
      (id, helper) => this.#words[AT_WORK + helper] === 1 && !existsSync(`/proc/self/task/${id}`),
    );
    return dead === -1 ? null : dead;
  }

  #failureText(): string | null {
    const bytes = Atomics.load(this.#words, FAILURE_BYTES);
    return bytes === 0 ? null : Buffer.from(this.#failure.subarray(0, bytes)).toString();
  }
}

/** As in /proc/PID/task (proc(5)), where a thread is found as long as it lives. */
function ownThreadId(): number {
  return Number(readlinkSync('/proc/thread-self').split('/').at(-1));
}

function pack(number: number, part: number): bigint {
  return (BigInt(number) << 32n) | BigInt(part);
}

function unpack(word: bigint): { readonly number: number; readonly part: number } {
  return { number: Number(word >> 32n), part: Number(word & 0xffff_ffffn) };
}
