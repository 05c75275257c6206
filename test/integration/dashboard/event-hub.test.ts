/** Server-sent events over real connections: everyone is told, and who does not read costs nobody anything. */
import { createServer, get, type IncomingMessage, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { Overview, QueueView, WorkersView } from '../../../src/dashboard/contract.ts';
import { EventHub, type EventSource } from '../../../src/dashboard/server/event-hub.ts';
import { committed, opened, overviewOf, START_AT, viewOf } from '../../support/telemetry-fixtures.ts';
import { Recorder } from '../../support/waiting.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

interface Event {
  readonly name: string;
  readonly data: unknown;
}

/** A hub behind a real server, and the run that it tells of. */
async function startHub(padding = '') {
  const view = viewOf(opened(), committed(1));
  const source: EventSource = {
    hello: { run: 'r1', version: '1' },
    get lastStep() {
      return view.step;
    },
    get lastEntry() {
      return view.lastEntry;
    },
    pointsSince: (step) => view.pointsSince(step),
    historySince: (id) => view.historySince(id),
    states: async () => {
      const overview: Overview = { ...overviewOf(view, START_AT), headline: `step ${view.step}${padding}` };
      const workers: WorkersView = { rows: [], actions: { drain: false, evict: false } };
      const queue: QueueView = { queue: null, slotsCommitted: 0, board: 'none' };
      return { overview, workers, queue };
    },
  };
  const hub = new EventHub(source, (error) => expect.fail(String(error)));
  const server: Server = createServer((_request, response) => hub.add(response, {}));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' ? address!.port : 0;
  ends.push(() => {
    void hub.close();
    server.close();
    server.closeAllConnections();
  });
  return { hub, view, port };
}

async function openPage(port: number): Promise<{ events: Recorder<Event>; response: IncomingMessage }> {
  const response = await new Promise<IncomingMessage>((resolve) => get({ port, host: '127.0.0.1' }, resolve));
  const events = new Recorder<Event>();
  let text = '';
  response.setEncoding('utf8');
  response.on('data', (chunk: string) => {
    text += chunk;
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(block) ?? [];
      if (name !== undefined) events.record({ name, data: JSON.parse(data!) });
    }
  });
  ends.push(() => response.destroy());
  return { events, response };
}

async function until(events: Recorder<Event>, wanted: (event: Event) => boolean): Promise<Event> {
  for (;;) {
    const event = await events.next();
    if (wanted(event)) return event;
  }
}

test('a page is greeted, gets the present state, then what changes and nothing else', async () => {
  const { view, port } = await startHub();
  const { events } = await openPage(port);
  const first = [await events.next(), await events.next(), await events.next(), await events.next()];
  expect(first.map(({ name }) => name)).toEqual(['hello', 'overview', 'workers', 'queue']);
  view.apply(committed(2));
  view.apply(committed(3));
  const news = [await events.next(), await events.next(), await events.next()];
  expect(news.map(({ name }) => name)).toEqual(['overview', 'points', 'history']);
  expect(news[1]!.data).toMatchObject({ points: [{ step: 2 }, { step: 3 }], resync: false });
  expect(news[2]!.data).toMatchObject({ entries: [{ step: 2 }, { step: 3 }], resync: false });
});

test('a page that does not read holds one round, and gets the newest state when it reads again', async () => {
  // Larger than what the two kernels hold for a connection, so that it is the hub's to bound.
  const { hub, view, port } = await startHub(' '.repeat(1_000_000));
  const slow = await openRaw(port);
  slow.pause();
  const { events } = await openPage(port);
  await until(events, ({ name }) => name === 'overview');
  for (let step = 2; step <= 12; step += 1) {
    view.apply(committed(step));
    await until(events, ({ name, data }) => name === 'points' && lastStepOf(data) === step);
  }
  expect(hub.numPages).toBe(2);
  let text = '';
  const caughtUp = new Recorder<string>();
  slow.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    if (/"step":12\b/.test(text) && text.includes('event: points')) caughtUp.record(text);
  });
  slow.resume();
  await caughtUp.until(1);
  const rounds = text.match(/^event: overview$/gm)!.length;
  expect(rounds).toBeLessThanOrEqual(8);
  expect(text).toMatch(/"headline":"step 12 /);
});

test('whoever reads is told the last there is to tell before the server goes', async () => {
  const { hub, view, port } = await startHub();
  const { events, response } = await openPage(port);
  await events.until(4);
  view.apply(committed(2));
  const ended = new Promise((resolve) => response.once('end', resolve));
  await hub.close();
  await ended;
  expect(events.all.at(-2)).toMatchObject({ name: 'points', data: { points: [{ step: 2 }] } });
});

test('pages come and go; the last one to go leaves nothing running', async () => {
  const { hub, port } = await startHub();
  const pages = await Promise.all(Array.from({ length: 30 }, () => openPage(port)));
  await Promise.all(pages.map(({ events }) => events.until(4)));
  expect(hub.numPages).toBe(30);
  const closed = pages.map(({ response }) => new Promise((resolve) => response.once('close', resolve)));
  for (const { response } of pages) response.destroy();
  await Promise.all(closed);
  // The server hears of it in its own time; a page that comes then is served alone.
  await until((await openPage(port)).events, ({ name }) => name === 'overview');
  await expect.poll(() => hub.numPages).toBe(1);
});

function lastStepOf(data: unknown): number {
  return (data as { points: { step: number }[] }).points.at(-1)!.step;
}

async function openRaw(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  ends.push(() => socket.destroy());
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  return socket;
}
