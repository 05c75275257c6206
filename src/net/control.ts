/**
 * The control links: a ROUTER at the coordinator, a DEALER at each worker, sealed messages between.
 *
 * zeromq allows one pending send per socket, hence one writer loop each. ROUTER sends with
 * `mandatory`, so that a peer which is gone is an answer (EHOSTUNREACH) and not silence: after any
 * disconnect the server probes everyone and names who is lost within milliseconds.
 */

import * as zmq from 'zeromq';
import type { z } from 'zod';
import { LockstepError, messageOf, systemCodeOf } from '../base/index.ts';
import { BODY_BYTES_MAX, type FrameKey, open, seal } from '../protocol/index.ts';

/** Messages that may wait for one socket; beyond it the process is broken, not slow. */
const OUTBOX_MAX = 100_000;
/** Messages zeromq itself may hold per peer. */
const HIGH_WATER_MARK = 1000;

export interface LinkHandlers<Message> {
  onMessage(message: Message): void;
  /** A frame was dropped at the door: wrong seal, size, encoding or schema. */
  onRefused(reason: string): void;
}

export interface ControlServerHandlers<Message> extends LinkHandlers<Message> {
  /** No connection to this incarnation is left. */
  onUnreachable(incarnation: string): void;
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
    const socket = new zmq.Router({
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
    this.#outbox.push([incarnation, ...seal(this.#key, message)]);
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
    for await (const [identity, body, sealed] of this.#socket) {
      const opened = open(this.#key, schema, body, sealed);
      if (!opened.ok) this.#handlers.onRefused(opened.reason);
      else if (opened.value.incarnation !== identity?.toString()) {
        this.#handlers.onRefused('the sender speaks for another incarnation');
      } else this.#handlers.onMessage(opened.value);
    }
  }
}

export class ControlClient<Message> {
  readonly #socket: zmq.Dealer;
  readonly #key: FrameKey;
  readonly #outbox: [Buffer, Buffer][] = [];
  #writing = false;
  #closed = false;

  constructor(
    endpoint: string,
    incarnation: string,
    key: FrameKey,
    schema: z.ZodType<Message>,
    handlers: LinkHandlers<Message>,
  ) {
    this.#key = key;
    this.#socket = new zmq.Dealer({
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
    this.#outbox.push(seal(this.#key, message));
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

  async #read(schema: z.ZodType<Message>, handlers: LinkHandlers<Message>): Promise<void> {
    for await (const [body, sealed] of this.#socket) {
      const opened = open(this.#key, schema, body, sealed);
      if (opened.ok) handlers.onMessage(opened.value);
      else handlers.onRefused(opened.reason);
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
