/**
 * The gradient links between workers: one PULL socket for all that comes in, one PUSH socket for
 * each peer that frames go out to. A frame is `[header, seal, payload]`, or `[header, seal]` when its
 * payload lies in the sender's memory (gradient-memory.ts).
 *
 * zeromq sends the caller's memory and tells when it is *queued*, not when it has left (PARTS
 * section 4). A payload therefore must not change until every receiver has voted on the attempt it
 * belongs to; frames of an aborted attempt may arrive torn, and are dropped as stale.
 */
import type * as zmq from 'zeromq';
import { LockstepError, messageOf } from '../base/index.ts';
import {
  type FrameKey,
  type GradientHeader,
  gradientHeaderSchema,
  open,
  payloadBytesOf,
  seal,
} from '../protocol/index.ts';
import { bindOrExplain } from './control.ts';
import { loadZeromq } from './zeromq.ts';

/** Frames zeromq may hold per peer and side: enough to keep the wire busy, few enough for memory. */
const FRAMES_IN_FLIGHT = 4;
/** The largest piece a configuration may ask for. */
const FRAME_BYTES_MAX = 16 * 1024 * 1024;

export interface PeerFrame {
  readonly header: GradientHeader;
  /** The bytes behind the header, whose digest is not checked yet; null when they lie in the sender's memory. */
  readonly payload: Buffer | null;
}

/** A frame to send; `payload` is null when it lies in memory, or for a header that speaks for itself. */
export interface OutgoingFrame {
  readonly header: GradientHeader;
  readonly payload: Uint8Array | null;
}

export class PeerReceiver {
  readonly endpoint: string;
  readonly #socket: zmq.Pull;
  readonly #key: FrameKey;
  #receivedBytes = 0;

  static async bind(address: string, key: FrameKey): Promise<PeerReceiver> {
    const { Pull } = loadZeromq();
    const socket = new Pull({
      linger: 0,
      receiveHighWaterMark: FRAMES_IN_FLIGHT,
      maxMessageSize: FRAME_BYTES_MAX,
    });
    await bindOrExplain(socket, address);
    return new PeerReceiver(socket, key);
  }

  private constructor(socket: zmq.Pull, key: FrameKey) {
    this.#socket = socket;
    this.#key = key;
    this.endpoint = socket.lastEndpoint ?? '';
  }

  /** Payload bytes of all frames taken in, wherever they lie. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /**
   * Frames in order of arrival, read one at a time: while the consumer holds one back, the next
   * ones wait in the senders, which is all the flow control there is.
   */
  async *frames(onRefused: (reason: string) => void): AsyncGenerator<PeerFrame> {
    for await (const [body, sealed, payload] of this.#socket) {
      const opened = open(this.#key, gradientHeaderSchema, body, sealed);
      if (!opened.ok) onRefused(opened.reason);
      else {
        const header = opened.value;
        const bytes = payloadBytesOf(header);
        if ((payload?.length ?? 0) !== (header.memoryAt === null ? bytes : 0)) {
          onRefused('payload has another length than its header says');
          continue;
        }
        if (payload !== undefined || header.type === 'fragment' || header.type === 'reduced') {
          this.#receivedBytes += bytes;
        }
        yield { header, payload: payload ?? null };
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}

/** Sends to one peer, in order, as fast as it takes them. */
export class PeerSender {
  readonly #socket: zmq.Push;
  readonly #key: FrameKey;
  readonly #outbox: (() => OutgoingFrame)[] = [];
  readonly #onFailure: (reason: string) => void;
  #writing = false;
  #closed = false;
  #sentBytes = 0;

  constructor(endpoint: string, key: FrameKey, onFailure: (reason: string) => void) {
    this.#key = key;
    this.#onFailure = onFailure;
    const { Push } = loadZeromq();
    this.#socket = new Push({ linger: 0, sendHighWaterMark: FRAMES_IN_FLIGHT });
    try {
      this.#socket.connect(endpoint);
    } catch (error) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `peer address ${endpoint} cannot be used: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  /** Payload bytes of the frames handed to zeromq. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /**
   * Queues a frame, which is made when its turn comes, so that digests are taken while frames before it
   * travel. The queue is bounded by the attempt that the frames belong to.
   */
  send(makeFrame: () => OutgoingFrame): void {
    if (this.#closed) return;
    this.#outbox.push(makeFrame);
    if (!this.#writing) void this.#write();
  }

  /** Forgets what has not been handed to zeromq yet. */
  clear(): void {
    this.#outbox.length = 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.clear();
    this.#socket.close();
  }

  async #write(): Promise<void> {
    this.#writing = true;
    try {
      for (let next = this.#outbox.shift(); next !== undefined; next = this.#outbox.shift()) {
        const { header, payload } = next();
        const sealed = seal(this.#key, header);
        await this.#socket.send(payload === null ? sealed : [...sealed, payload]);
        this.#sentBytes += payloadBytesOf(header);
      }
    } catch (error) {
      if (!this.#closed) this.#onFailure(messageOf(error));
    } finally {
      this.#writing = false;
    }
  }
}
