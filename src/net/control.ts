/**
 * The control links: a ROUTER at the coordinator, a DEALER at each worker, sealed messages between.
 *
 * zeromq allows one pending send per socket, hence one writer loop each. ROUTER sends with
 * `mandatory`, so that a peer which is gone is an answer (EHOSTUNREACH) and not silence: after any
 * disconnect the server probes everyone and names who is lost within milliseconds.
 *
 * A connection that breaks and comes back takes messages along that neither end hears of. Each message
 * therefore carries its number in its direction of its link, and a gap is reported as lost messages:
 * the link is given up and begun anew, since every later message may rest on a lost one.
 */

import type * as zmq from 'zeromq';
import { z } from 'zod';
import { LockstepError, messageOf, systemCodeOf } from '../base/index.ts';
import { BODY_BYTES_MAX, type FrameKey, open, seal } from '../protocol/index.ts';
import { loadZeromq } from './zeromq.ts';

/** Messages that may wait for one socket; beyond it the process is broken, not slow. */
const OUTBOX_MAX = 100_000;
/** Messages zeromq itself may hold per peer. */
const HIGH_WATER_MARK = 1000;

function numbered<Message>(message: z.ZodType<Message>) {
  return z.object({ seq: z.int().min(1), message });
}

export interface LinkHandlers<Message> {
  onMessage(message: Message): void;
  /** A frame was dropped at the door: wrong seal, size, encoding or schema. */
  onRefused(reason: string): void;
}

export interface ControlServerHandlers<Message> extends LinkHandlers<Message> {
  /** No connection to this incarnation is left. */
  onUnreachable(incarnation: string): void;
  /** Messages of this incarnation were lost on the way. */
  onMessagesLost(incarnation: string): void;
  /** Some connection closed; the next sends tell whose. */
  onDisconnect(): void;
}

interface Incoming {
  readonly incarnation: string;
}

export class ControlServer<Message extends Incoming> {
  readonly endpoint: string;
  readonly #socket: zmq.Router;
  readonly #key: FrameKey;
  readonly #handlers: ControlServerHandlers<Message>;
  readonly #outbox: [string, Buffer, Buffer][] = [];
  /** Numbers of the newest message to and from each incarnation; none is kept of one that broke. */
  readonly #numSent = new Map<string, number>();
  readonly #numReceived = new Map<string, number>();
  #writing = false;
  #closed = false;

  /** `address` is a zeromq endpoint; port `*` takes a free one. Throws ADDRESS_IN_USE. */
  static async bind<Message extends Incoming>(
    address: string,
    key: FrameKey,
    schema: z.ZodType<Message>,
    heartbeatLimitMs: number,
    handlers: ControlServerHandlers<Message>,
  ): Promise<ControlServer<Message>> {
    const { Router } = loadZeromq();
    const socket = new Router({
      mandatory: true,
      sendTimeout: 0,
      linger: 0,
      maxMessageSize: BODY_BYTES_MAX,
      sendHighWaterMark: HIGH_WATER_MARK,
      heartbeatInterval: Math.round(heartbeatLimitMs / 4),
      heartbeatTimeout: heartbeatLimitMs,
    });
    await bindOrExplain(socket, address);
    const server = new ControlServer<Message>(socket, key, handlers);
    socket.events.on('disconnect', () => handlers.onDisconnect());
    void server.#read(schema);
    return server;
  }

  private constructor(socket: zmq.Router, key: FrameKey, handlers: ControlServerHandlers<Message>) {
    this.#socket = socket;
    this.#key = key;
    this.#handlers = handlers;
    this.endpoint = socket.lastEndpoint ?? '';
  }

  send(incarnation: string, message: object): void {
    if (this.#closed) return;
    if (this.#outbox.length >= OUTBOX_MAX) {
      this.#handlers.onUnreachable(incarnation);
      return;
    }
    const seq = (this.#numSent.get(incarnation) ?? 0) + 1;
    this.#numSent.set(incarnation, seq);
    this.#outbox.push([incarnation, ...seal(this.#key, { seq, message })]);
    if (!this.#writing) void this.#write();
  }

  /** Sends what waits, then closes. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    while (this.#writing) await new Promise((resolve) => setImmediate(resolve));
    // Queued frames leave through the socket's own thread; a short linger lets a last `stop` out.
    this.#socket.linger = 500;
    this.#socket.close();
  }

  async #write(): Promise<void> {
    this.#writing = true;
    for (let next = this.#outbox.shift(); next !== undefined; next = this.#outbox.shift()) {
      try {
        await this.#socket.send(next);
      } catch (error) {
        const code = systemCodeOf(error);
        if (code !== 'EHOSTUNREACH' && code !== 'EAGAIN') throw error;
        this.#handlers.onUnreachable(next[0]);
      }
    }
    this.#writing = false;
  }

  async #read(schema: z.ZodType<Message>): Promise<void> {
    const framed = numbered(schema);
    for await (const [identity, body, sealed] of this.#socket) {
      const opened = open(this.#key, framed, body, sealed);
      if (!opened.ok) this.#handlers.onRefused(opened.reason);
      else if (opened.value.message.incarnation !== identity?.toString()) {
        this.#handlers.onRefused('the sender speaks for another incarnation');
      } else this.#take(opened.value.seq, opened.value.message);
    }
  }

  /** The first message heard of an incarnation may be any: it may have talked to a process before this one. */
  #take(seq: number, message: Message): void {
    const { incarnation } = message;
    const before = this.#numReceived.get(incarnation);
    this.#numReceived.set(incarnation, seq);
    if (before !== undefined && seq !== before + 1) this.#handlers.onMessagesLost(incarnation);
    this.#handlers.onMessage(message);
  }
}

export interface ControlClientHandlers<Message> extends LinkHandlers<Message> {
  /** Messages of the server were lost on the way. */
  onMessagesLost(): void;
}

export class ControlClient<Message extends Incoming> {
  readonly #socket: zmq.Dealer;
  readonly #key: FrameKey;
  readonly #outbox: [Buffer, Buffer][] = [];
  #numSent = 0;
  /** The server process that was heard last, and the number of its newest message. */
  #heard = { incarnation: '', seq: 0 };
  #writing = false;
  #closed = false;

  constructor(
    endpoint: string,
    incarnation: string,
    key: FrameKey,
    schema: z.ZodType<Message>,
    handlers: ControlClientHandlers<Message>,
  ) {
    this.#key = key;
    const { Dealer } = loadZeromq();
    this.#socket = new Dealer({
      routingId: incarnation,
      linger: 0,
      maxMessageSize: BODY_BYTES_MAX,
      sendHighWaterMark: HIGH_WATER_MARK,
    });
    try {
      this.#socket.connect(endpoint);
    } catch (error) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `coordinator address ${endpoint} cannot be used (${messageOf(error)}): expected tcp://HOST:PORT`,
        { cause: error },
      );
    }
    void this.#read(schema, handlers);
  }

  send(message: object): void {
    if (this.#closed || this.#outbox.length >= OUTBOX_MAX) return;
    this.#numSent += 1;
    this.#outbox.push(seal(this.#key, { seq: this.#numSent, message }));
    if (!this.#writing) void this.#write();
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.linger = 200;
    this.#socket.close();
  }

  async #write(): Promise<void> {
    this.#writing = true;
    try {
      for (let next = this.#outbox.shift(); next !== undefined; next = this.#outbox.shift()) {
        await this.#socket.send(next);
      }
    } catch (error) {
      // Closing rejects the send that waits for a coordinator which never came.
      if (!this.#closed) throw error;
    } finally {
      this.#writing = false;
    }
  }

  async #read(schema: z.ZodType<Message>, handlers: ControlClientHandlers<Message>): Promise<void> {
    const framed = numbered(schema);
    for await (const [body, sealed] of this.#socket) {
      const opened = open(this.#key, framed, body, sealed);
      if (!opened.ok) {
        handlers.onRefused(opened.reason);
        continue;
      }
      const { seq, message } = opened.value;
      const { incarnation } = message;
      const before = incarnation === this.#heard.incarnation ? this.#heard.seq : 0;
      this.#heard = { incarnation, seq };
      if (seq !== before + 1) handlers.onMessagesLost();
      handlers.onMessage(message);
    }
  }
}

export async function bindOrExplain(socket: zmq.Socket, address: string): Promise<void> {
  try {
    await socket.bind(address);
  } catch (error) {
    const remedy =
      systemCodeOf(error) === 'EADDRINUSE'
        ? 'the port is taken: choose another, or * for a free one'
        : `${messageOf(error)}: expected tcp://ADDRESS:PORT of this machine`;
    throw new LockstepError('ADDRESS_IN_USE', `cannot listen on ${address}: ${remedy}`, { cause: error });
  }
}
