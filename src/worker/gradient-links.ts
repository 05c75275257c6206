/**
 * The comm thread's links to its peers: frames of the attempt under way go to its `Reduction`, frames
 * of one that is over are dropped, and a frame of one that has not begun here yet is held.
 */
import { assert } from '../base/index.ts';
import { type PeerFrame, PeerMemories, PeerReceiver, PeerSender } from '../net/index.ts';
import type { Envelope, FrameKey, GradientHeader, MemoryAddress } from '../protocol/index.ts';
import type { Reduction } from './reduction.ts';

export interface GradientLinkHandlers {
  onRefused(reason: string): void;
  /** A frame could not be sent, or none has come for too long: the attempt under way cannot end. */
  onStalled(reason: string): void;
  /** Something went wrong that nobody foresaw. */
  onBroken(error: unknown): void;
}

export class GradientLinks {
  readonly #receiver: PeerReceiver;
  readonly peerMemories: PeerMemories;
  readonly #key: FrameKey;
  readonly #handlers: GradientLinkHandlers;
  readonly #senders = new Map<string, PeerSender>();
  #run = '';
  /** How long a frame may be held, and how long none may come, on the clock that `tick` tells. */
  #limitMs = 0;
  #nowMs = 0;
  /** Frames up to this step are of attempts that are over. */
  #doneStep = 0;
  #reduction: Reduction | null = null;
  #watched: { reduction: Reduction | null; numFrames: number; sinceMs: number } = {
    reduction: null,
    numFrames: 0,
    sinceMs: 0,
  };
  /** Wakes the reader, which holds a frame. */
  #look: (() => void) | null = null;
  /** Sent over links that are closed by now. */
  #sentBefore = 0;
  #closed = false;

  /** Listens on `port` of `host`; 0 takes a free one. `memory` is this worker's own. Throws ADDRESS_IN_USE. */
  static async bind(
    { host, port, memory }: { host: string; port: number; memory: MemoryAddress | null },
    key: FrameKey,
    handlers: GradientLinkHandlers,
  ): Promise<GradientLinks> {
    const address = `tcp://${host}:${port === 0 ? '*' : port}`;
    return new GradientLinks(await PeerReceiver.bind(address, key), memory, key, handlers);
  }

  private constructor(
    receiver: PeerReceiver,
    memory: MemoryAddress | null,
    key: FrameKey,
    handlers: GradientLinkHandlers,
  ) {
    this.#receiver = receiver;
    this.#key = key;
    this.#handlers = handlers;
    this.peerMemories = new PeerMemories(memory, (reason) => handlers.onRefused(reason));
    this.#read().catch((error: unknown) => handlers.onBroken(error));
  }

  get port(): string {
    return this.#receiver.endpoint.slice(this.#receiver.endpoint.lastIndexOf(':') + 1);
  }

  /** Payload bytes since the socket was bound. */
  get receivedBytes(): number {
    return this.#receiver.receivedBytes;
  }

  get sentBytes(): number {
    return [...this.#senders.values()].reduce((sum, sender) => sum + sender.sentBytes, this.#sentBefore);
  }

  /** Frames of other runs are dropped from here on. */
  join(run: string, limitMs: number): void {
    this.#run = run;
    this.#limitMs = limitMs;
  }

  /** Begins an attempt: links to whoever left are closed, and what was held for it is let in. */
  begin(reduction: Reduction): void {
    // Whatever it still holds may lie in memory that is let go of.
    this.#reduction?.abort();
    this.peerMemories.keep(reduction.order.members);
    const kept = new Set(reduction.order.members.map((member) => member.peerEndpoint));
    for (const [endpoint, sender] of this.#senders) {
      if (kept.has(endpoint)) continue;
      this.#sentBefore += sender.sentBytes;
      sender.close();
      this.#senders.delete(endpoint);
    }
    this.#reduction = reduction;
    reduction.start().catch((error: unknown) => this.#handlers.onBroken(error));
    this.#look?.();
  }

  /** Ends the attempt under way without a result. */
  abort(): void {
    this.#reduction?.abort();
    this.#reduction = null;
    for (const sender of this.#senders.values()) sender.clear();
  }

  /** The run stands at this step, wherever it was before: frames of later ones are wanted. */
  standAt(step: number): void {
    this.#doneStep = step;
    this.#look?.();
  }

  /** The step has committed: late frames of it are void. */
  commit(step: number): void {
    this.#doneStep = step;
    this.#reduction = null;
    this.#look?.();
  }

  /** Time passes, on a clock that stands still while this process is frozen. */
  tick(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#look?.();
    this.#watch();
  }

  /** A connection that broke loses frames without a word: an attempt that nothing reaches is given up. */
  #watch(): void {
    const reduction = this.#reduction;
    const awaited = reduction?.awaited ?? null;
    if (reduction === null || awaited === null) return;
    if (reduction !== this.#watched.reduction || reduction.numFrames !== this.#watched.numFrames) {
      this.#watched = { reduction, numFrames: reduction.numFrames, sinceMs: this.#nowMs };
      return;
    }
    const silenceMs = this.#nowMs - this.#watched.sinceMs;
    if (silenceMs <= this.#limitMs) return;
    this.#watched = { reduction: null, numFrames: 0, sinceMs: 0 };
    this.#handlers.onStalled(`no gradient frame for ${Math.round(silenceMs)} ms: ${awaited}`);
  }

  senderTo(endpoint: string): PeerSender {
    assert(!this.#closed, 'links are open while a reduction runs');
    const known = this.#senders.get(endpoint);
    if (known !== undefined) return known;
    const sender = new PeerSender(endpoint, this.#key, (reason) =>
      this.#handlers.onStalled(`cannot send to ${endpoint}: ${reason}`),
    );
    this.#senders.set(endpoint, sender);
    return sender;
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reduction?.abort();
    this.#look?.();
    this.#receiver.close();
    for (const sender of this.#senders.values()) sender.close();
    this.peerMemories.close();
  }

  async #read(): Promise<void> {
    for await (const frame of this.#receiver.frames((reason) => this.#handlers.onRefused(reason))) {
      if (this.#closed) return;
      const reduction = await this.#attemptOf(frame);
      if (reduction === null)
        this.#handlers.onRefused('a gradient frame of an attempt that is over or foreign');
      else reduction.accept(frame).catch((error: unknown) => this.#handlers.onBroken(error));
    }
  }

  /**
   * The attempt a frame belongs to; null when that is over. A peer may be ahead: its frame is held,
   * and no other read, until the coordinator's order has come here too, so that what waits stays in
   * the senders. Only sealed frames of this run can wait, and not beyond the limit.
   */
  async #attemptOf({ header }: PeerFrame): Promise<Reduction | null> {
    const deadline = this.#nowMs + this.#limitMs;
    while (!this.#closed && header.run === this.#run && this.#nowMs <= deadline) {
      const order = this.#reduction?.order;
      const behind = order === undefined ? -1 : comparePositions(order, header);
      if (behind === 0) return this.#reduction;
      if (behind > 0 || header.step <= this.#doneStep) return null;
      await new Promise<void>((resolve) => {
        this.#look = resolve;
      });
      this.#look = null;
    }
    return null;
  }
}

/** Negative when `a` is an earlier attempt than `b`, 0 for the same one. */
function comparePositions(
  a: Pick<Envelope, 'generation' | 'step' | 'attempt'>,
  b: Pick<GradientHeader, 'generation' | 'step' | 'attempt'>,
): number {
  return a.step - b.step || a.generation - b.generation || a.attempt - b.attempt;
}
