/** The links over real ZeroMQ sockets: what gets through, what is refused at the door, who is missed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import * as zmq from 'zeromq';
import {
  ControlClient,
  ControlServer,
  type PeerFrame,
  PeerReceiver,
  PeerSender,
} from '../../src/net/index.ts';
import {
  BODY_BYTES_MAX,
  type CoordinatorMessage,
  coordinatorMessageSchema,
  deriveKey,
  type Envelope,
  type GradientHeader,
  PROTOCOL_VERSION,
  seal,
  type WorkerMessage,
  workerMessageSchema,
} from '../../src/protocol/index.ts';
import { BUILT } from '../support/in-process.ts';
import { Recorder } from '../support/waiting.ts';

const KEY = deriveKey('token', 'frame');
const HEARTBEAT_LIMIT_MS = 500;
const CHILDREN = join(import.meta.dirname, '..', 'support', 'children');
const CONTROL_CLIENT = join(CHILDREN, 'control-client.mjs');
const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const envelope = (incarnation: string): Envelope => ({
  protocol: PROTOCOL_VERSION,
  run: 'run',
  incarnation,
  generation: 1,
  step: 2,
  attempt: 3,
});
const leaving = (incarnation: string, reason = 'r'): WorkerMessage => ({
  ...envelope(incarnation),
  type: 'leaving',
  reason,
});
const stop = (reason: string): CoordinatorMessage => ({ ...envelope('server'), type: 'stop', reason });

async function startServer() {
  const messages = new Recorder<WorkerMessage>();
  const refused = new Recorder<string>();
  const unreachable = new Recorder<string>();
  const disconnects = new Recorder<void>();
  const lost = new Recorder<string>();
  const server = await ControlServer.bind('tcp://127.0.0.1:*', KEY, workerMessageSchema, HEARTBEAT_LIMIT_MS, {
    onMessage: messages.record,
    onRefused: refused.record,
    onUnreachable: unreachable.record,
    onMessagesLost: lost.record,
    onDisconnect: disconnects.record,
  });
  closing.push(() => server.close());
  return { server, messages, refused, unreachable, disconnects, lost };
}

function startClient(endpoint: string, incarnation: string, key = KEY) {
  const messages = new Recorder<CoordinatorMessage>();
  const refused = new Recorder<string>();
  const lost = new Recorder<void>();
  const client = new ControlClient(endpoint, incarnation, key, coordinatorMessageSchema, {
    onMessage: messages.record,
    onRefused: refused.record,
    onMessagesLost: lost.record,
  });
  closing.push(() => client.close());
  return { client, messages, refused, lost };
}

/** A worker's end of a control link, made by hand: its messages have whatever numbers it likes. */
function startDealer(endpoint: string, incarnation: string) {
  const dealer = new zmq.Dealer({ routingId: incarnation, linger: 0 });
  closing.push(() => dealer.close());
  dealer.connect(endpoint);
  const say = (seq: unknown, message: object = leaving(incarnation, `${seq}`)) =>
    dealer.send(seal(KEY, { seq, message }));
  return { dealer, say };
}

/** The server still takes a message and answers it. */
async function expectServing({ server, messages }: Awaited<ReturnType<typeof startServer>>): Promise<void> {
  const incarnation = `probe-${messages.all.length}`;
  const probe = startClient(server.endpoint, incarnation);
  probe.client.send(leaving(incarnation));
  while ((await messages.next()).incarnation !== incarnation);
  server.send(incarnation, stop('still here'));
  expect(await probe.messages.next()).toMatchObject({ reason: 'still here' });
}

/** Bytes straight into the TCP port, and the end of that connection. */
async function throwBytes(endpoint: string, bytes: Uint8Array): Promise<void> {
  const { hostname, port } = new URL(endpoint);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {
    // Being thrown out is an answer too.
  });
  await once(socket, 'connect');
  socket.end(bytes);
  socket.resume();
  // Not `once` of node:events, which takes a reset for a failure.
  await new Promise((resolve) => socket.once('close', resolve));
}

/** Things that are no greeting of ZMTP, and one that is, followed by nonsense. */
const GARBAGE: readonly [string, Uint8Array][] = [
  ['nothing', Buffer.alloc(0)],
  ['zeros', Buffer.alloc(4096)],
  ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
  ['ones', Buffer.alloc(100_000, 0xff)],
  [
    'a greeting and then nonsense',
    Buffer.concat([
      Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0]),
      Buffer.from('NULL'.padEnd(20, '\0')),
      Buffer.alloc(32, 0xee),
      Buffer.alloc(1000, 0x07),
    ]),
  ],
];

describe('the control link', () => {
  test('carries messages both ways, in order', async () => {
    const { server, messages, lost } = await startServer();
    const a = startClient(server.endpoint, 'a');
    const b = startClient(server.endpoint, 'b');
    for (let count = 0; count < 200; count += 1) {
      a.client.send(leaving('a', `${count}`));
      b.client.send(leaving('b', `${count}`));
    }
    await messages.until(400);
    for (const name of ['a', 'b']) {
      const said = messages.all.filter(({ incarnation }) => incarnation === name);
      expect(said).toEqual(Array.from({ length: 200 }, (_, count) => leaving(name, `${count}`)));
      for (let count = 0; count < 200; count += 1) server.send(name, stop(`${name} ${count}`));
    }
    for (const [name, { messages: heard }] of Object.entries({ a, b })) {
      await heard.until(200);
      expect(heard.all).toEqual(Array.from({ length: 200 }, (_, count) => stop(`${name} ${count}`)));
    }
    expect([...lost.all, ...a.lost.all, ...b.lost.all]).toEqual([]);
  });

  test('tells of messages that a worker has sent and that never came', async () => {
    const { server, messages, lost } = await startServer();
    const gappy = startDealer(server.endpoint, 'gappy');
    const whole = startDealer(server.endpoint, 'whole');
    for (const seq of [1, 2, 4, 5]) await gappy.say(seq);
    // What comes after the gap is handed on: the news of the gap is ahead of it.
    for (const seq of [1, 2, 3, 4]) await whole.say(seq);
    await messages.until(8);
    expect(lost.all).toEqual(['gappy']);
    // A number that comes again is no better than one that does not come.
    await gappy.say(5);
    await messages.until(9);
    expect(lost.all).toEqual(['gappy', 'gappy']);
  });

  test('takes the first number of a worker as it is: the ones before went to another process', async () => {
    const { server, messages, lost } = await startServer();
    const { say } = startDealer(server.endpoint, 'veteran');
    for (const seq of [71, 72]) await say(seq);
    await messages.until(2);
    expect(lost.all).toEqual([]);
  });

  describe('at a worker', () => {
    /** A coordinator's end, made by hand. */
    async function startRouter(incarnation: string) {
      const router = new zmq.Router({ linger: 0, mandatory: true });
      closing.push(() => router.close());
      await router.bind('tcp://127.0.0.1:*');
      const worker = startClient(router.lastEndpoint!, incarnation);
      worker.client.send(leaving(incarnation));
      await router.receive();
      const say = (seq: number, from = 'server') =>
        router.send([
          incarnation,
          ...seal(KEY, { seq, message: { ...stop(`${from} ${seq}`), incarnation: from } }),
        ]);
      return { ...worker, say };
    }

    test('tells of messages of the coordinator that never came', async () => {
      const { say, messages, lost } = await startRouter('a');
      for (const seq of [1, 2, 4, 5]) await say(seq);
      await messages.until(4);
      expect(lost.all).toHaveLength(1);
    });

    test('misses the first as well', async () => {
      const { say, messages, lost } = await startRouter('a');
      await say(2);
      await messages.until(1);
      expect(lost.all).toHaveLength(1);
    });

    test('takes the numbers of another coordinator process from the beginning', async () => {
      const { say, messages, lost } = await startRouter('a');
      for (const seq of [1, 2]) await say(seq);
      for (const seq of [1, 2]) await say(seq, 'successor');
      await messages.until(4);
      expect(lost.all).toEqual([]);
      await say(4, 'successor');
      await messages.until(5);
      expect(lost.all).toHaveLength(1);
    });
  });

  test('refuses another token at both ends, and counts it', async () => {
    const cluster = await startServer();
    const { server, refused, messages } = cluster;
    const stranger = startClient(server.endpoint, 'stranger', deriveKey('wrong', 'frame'));
    for (let count = 0; count < 3; count += 1) stranger.client.send(leaving('stranger'));
    await refused.until(3);
    expect(new Set(refused.all)).toEqual(new Set(['seal is wrong: the sender has another token']));
    expect(messages.all).toEqual([]);
    server.send('stranger', stop('secret'));
    expect(await stranger.refused.next()).toMatch(/^seal is wrong/);
    expect(stranger.messages.all).toEqual([]);
    await expectServing(cluster);
  });

  test('refuses who speaks for another', async () => {
    const cluster = await startServer();
    const mallory = startClient(cluster.server.endpoint, 'mallory');
    mallory.client.send(leaving('alice'));
    expect(await cluster.refused.next()).toBe('the sender speaks for another incarnation');
    expect(cluster.messages.all).toEqual([]);
  });

  test('refuses frames with too few or useless parts, sealed nonsense, and serves on', async () => {
    const cluster = await startServer();
    const { dealer, say } = startDealer(cluster.server.endpoint, 'odd');
    await dealer.send(['alone']);
    await dealer.send([Buffer.alloc(100, 1), Buffer.alloc(16, 2)]);
    await dealer.send([Buffer.alloc(0), Buffer.alloc(0), Buffer.alloc(0), Buffer.alloc(0)]);
    await say(1, { ...leaving('odd'), type: 'no such type' });
    await dealer.send(seal(KEY, [1, 2, 3]));
    // A message without its number, and with one that is none.
    await dealer.send(seal(KEY, leaving('odd')));
    for (const seq of [0, -1, 1.5, '1', null]) await say(seq);
    await cluster.refused.until(11);
    expect(cluster.messages.all).toEqual([]);
    await expectServing(cluster);
  });

  test('throws out a sender of oversized frames, and serves on', async () => {
    const cluster = await startServer();
    const { dealer, say } = startDealer(cluster.server.endpoint, 'big');
    await say(1);
    expect(await cluster.messages.next()).toMatchObject({ incarnation: 'big' });
    const body = Buffer.alloc(BODY_BYTES_MAX + 1, 1);
    await dealer.send([body, Buffer.alloc(16)]);
    // libzmq cuts the connection before it takes the frame in.
    await cluster.disconnects.next();
    expect(cluster.messages.all).toHaveLength(1);
    await expectServing(cluster);
  });

  test.each(GARBAGE)('takes %s on its port without harm', async (_, bytes) => {
    const cluster = await startServer();
    await throwBytes(cluster.server.endpoint, bytes);
    await expectServing(cluster);
    expect(cluster.messages.all).toHaveLength(1);
  });

  test('names who cannot be reached', async () => {
    const { server, unreachable } = await startServer();
    server.send('nobody', stop('x'));
    expect(await unreachable.next()).toBe('nobody');
  });

  test('says plainly that a port is taken or an address is none', async () => {
    const { server } = await startServer();
    const bind = (address: string) =>
      ControlServer.bind(address, KEY, workerMessageSchema, HEARTBEAT_LIMIT_MS, {
        onMessage() {},
        onRefused() {},
        onUnreachable() {},
        onMessagesLost() {},
        onDisconnect() {},
      });
    await expect(bind(server.endpoint)).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
      message: expect.stringContaining('the port is taken'),
    });
    await expect(bind('tcp://256.0.0.1:*')).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' });
    expect(() => startClient('nonsense', 'a')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  test('lets a last message out when it is closed at once', async () => {
    const { server, messages } = await startServer();
    const { client, messages: heard } = startClient(server.endpoint, 'a');
    client.send(leaving('a'));
    await messages.next();
    server.send('a', stop('the end'));
    await server.close();
    await server.close();
    expect(await heard.next()).toMatchObject({ reason: 'the end' });
  });
});

describe('a killed process', () => {
  test('is noticed, and the sends after it tell whose connection it was', async () => {
    const { server, messages, disconnects, unreachable } = await startServer();
    const child = spawn(process.execPath, [CONTROL_CLIENT, BUILT, server.endpoint, 'token', 'victim'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    expect(await messages.next(30_000)).toMatchObject({ incarnation: 'victim' });
    server.send('victim', stop('hello'));
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await disconnects.next();
    // The news of the end may be ahead of the socket's own tables: one send more, as with every heartbeat.
    const probing = setInterval(() => server.send('victim', stop('are you there')), 50);
    closing.push(() => clearInterval(probing));
    expect(await unreachable.next()).toBe('victim');
  });

  test('that is only stopped is noticed too', async () => {
    const { server, messages, disconnects } = await startServer();
    const child = spawn(process.execPath, [CONTROL_CLIENT, BUILT, server.endpoint, 'token', 'sleeper'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    closing.push(() => child.kill('SIGKILL'));
    await messages.next(30_000);
    child.kill('SIGSTOP');
    await disconnects.next();
  });
});

describe('the gradient link', () => {
  const header = (length: number, change: Partial<GradientHeader> = {}): GradientHeader => ({
    ...envelope('peer'),
    type: 'fragment',
    rank: 0,
    first: 0,
    count: 1,
    offset: 0,
    length,
    precision: 'float32',
    digest: null,
    memoryAt: null,
    ...change,
  });
  const frame = (length: number, change: Partial<GradientHeader> = {}) => ({
    header: header(length, change),
    payload: new Uint8Array(length * 4),
  });

  async function startReceiver() {
    const receiver = await PeerReceiver.bind('tcp://127.0.0.1:*', KEY);
    const frames = new Recorder<PeerFrame>();
    const refused = new Recorder<string>();
    const reading = (async () => {
      for await (const frame of receiver.frames(refused.record)) frames.record(frame);
    })();
    closing.push(async () => {
      receiver.close();
      await reading;
    });
    return { receiver, frames, refused };
  }

  function startSender(endpoint: string, key = KEY) {
    const failures = new Recorder<string>();
    const sender = new PeerSender(endpoint, key, failures.record);
    closing.push(() => sender.close());
    return { sender, failures };
  }

  test('carries pieces as they are, in order, with their headers', async () => {
    const { receiver, frames } = await startReceiver();
    const { sender } = startSender(receiver.endpoint);
    const pieces = Array.from({ length: 40 }, (_, index) =>
      Float32Array.from({ length: 1 + index * 500 }, (__, at) => Math.sin(index + at)),
    );
    for (const [index, piece] of pieces.entries()) {
      const payload = new Uint8Array(piece.buffer);
      sender.send(() => ({ header: header(piece.length, { offset: index }), payload }));
    }
    await frames.until(40);
    for (const [index, { header: received, payload }] of frames.all.entries()) {
      expect(received).toMatchObject({ offset: index, length: pieces[index]!.length });
      expect(payload!.equals(new Uint8Array(pieces[index]!.buffer))).toBe(true);
    }
  });

  test('a thread may end with frames under way, and its process goes on', { timeout: 60_000 }, async () => {
    const { receiver } = await startReceiver();
    const [child, threads] = [join(CHILDREN, 'ending-threads.mjs'), '30'];
    const frame = JSON.stringify(header(16_384));
    const sending = spawn(process.execPath, [child, BUILT, receiver.endpoint, frame, threads], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const said = new Recorder<string>();
    for (const stream of [sending.stdout, sending.stderr]) {
      stream.on('data', (chunk: Buffer) => said.record(chunk.toString()));
    }
    const [code, signal] = (await once(sending, 'exit')) as [number | null, string | null];
    expect({ code, signal }, said.all.join('')).toEqual({ code: 0, signal: null });
    expect(said.all.join('')).toBe('all have ended\n');
  });

  test('counts the bytes that travel, at both ends', async () => {
    const { receiver, frames } = await startReceiver();
    const { sender } = startSender(receiver.endpoint);
    sender.send(() => frame(10));
    sender.send(() => ({ header: header(10, { precision: 'bfloat16' }), payload: new Uint8Array(20) }));
    await frames.until(2);
    expect([sender.sentBytes, receiver.receivedBytes]).toEqual([60, 60]);
  });

  test('makes a frame when its turn has come, and forgets what was cleared', async () => {
    const { receiver, frames } = await startReceiver();
    const { sender } = startSender(receiver.endpoint);
    const asked: number[] = [];
    const send = (offset: number) => {
      sender.send(() => {
        asked.push(offset);
        return frame(1, { offset });
      });
    };
    send(0);
    send(1);
    // The first is on its way; the others have not been looked at.
    expect(asked).toEqual([0]);
    sender.clear();
    send(2);
    await frames.until(2);
    expect(frames.all.map(({ header: { offset } }) => offset)).toEqual([0, 2]);
    expect(asked).toEqual([0, 2]);
  });

  test('refuses other tokens, wrong lengths and bare payloads, and takes the next good frame', async () => {
    const { receiver, frames, refused } = await startReceiver();
    const { sender: stranger } = startSender(receiver.endpoint, deriveKey('wrong', 'frame'));
    stranger.send(() => frame(1));
    expect(await refused.next()).toMatch(/^seal is wrong/);
    const { sender } = startSender(receiver.endpoint);
    sender.send(() => frame(1, { length: 2 }));
    expect(await refused.next()).toBe('payload has another length than its header says');
    sender.send(() => frame(1, { rank: -1 }));
    expect(await refused.next()).toMatch(/^field rank/);
    const push = new zmq.Push({ linger: 0 });
    closing.push(() => push.close());
    push.connect(receiver.endpoint);
    await push.send(Buffer.alloc(4));
    expect(await refused.next()).toBe('frame has too few parts');
    await push.send(seal(KEY, header(1)));
    expect(await refused.next()).toBe('payload has another length than its header says');
    // Of halves there are half as many bytes.
    sender.send(() => frame(1, { precision: 'bfloat16' }));
    expect(await refused.next()).toBe('payload has another length than its header says');
    // What lies in memory has no payload beside it.
    sender.send(() => frame(1, { memoryAt: 0 }));
    expect(await refused.next()).toBe('payload has another length than its header says');
    sender.send(() => frame(1));
    await frames.next();
  });

  test.each(GARBAGE)('takes %s on its port without harm', async (_, bytes) => {
    const { receiver, frames } = await startReceiver();
    await throwBytes(receiver.endpoint, bytes);
    const { sender } = startSender(receiver.endpoint);
    sender.send(() => frame(1));
    await frames.next();
    expect(frames.all).toHaveLength(1);
  });

  test('closing with frames under way is no failure', async () => {
    const { sender, failures } = startSender('tcp://127.0.0.1:1');
    for (let count = 0; count < 20; count += 1) sender.send(() => frame(1));
    sender.close();
    sender.close();
    sender.send(() => frame(1));
    await new Promise((resolve) => setImmediate(resolve));
    expect(failures.all).toEqual([]);
  });
});
