/**
 * The proxy through which chaos cuts links, between real sockets: held bytes wait and arrive when the cut
 * heals, one direction leaves the other alone, a reset breaks what there is and what is tried meanwhile,
 * and a cut that names one dialler leaves the others alone.
 */
import { spawn } from 'node:child_process';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { LinkProxy } from '../../src/cli/chaos/link-proxy.ts';
import { ownerOf } from '../../src/cli/chaos/socket-owner.ts';
import { Recorder, within } from '../support/waiting.ts';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

/** A server that records what each connection says; its connections in order. */
async function listenForLinks(): Promise<{ port: number; links: Recorder<End> }> {
  const links = new Recorder<End>();
  const server: Server = createServer((socket) => links.record(endOf(socket)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push({ close: () => server.close() });
  const address = server.address();
  return { port: typeof address === 'object' && address !== null ? address.port : 0, links };
}

interface End {
  readonly socket: Socket;
  readonly heard: Recorder<string>;
  readonly closed: Promise<'ended' | 'broken'>;
}

function endOf(socket: Socket): End {
  const heard = new Recorder<string>();
  socket.on('data', (chunk: Buffer) => heard.record(chunk.toString()));
  const closed = new Promise<'ended' | 'broken'>((resolve) => {
    socket.once('close', (hadError) => resolve(hadError ? 'broken' : 'ended'));
  });
  socket.on('error', () => {});
  open.push({ close: () => socket.destroy() });
  return { socket, heard, closed };
}

const dial = (port: number) => endOf(connect(port, '127.0.0.1'));

async function proxied() {
  const { port, links } = await listenForLinks();
  const proxy = await LinkProxy.listen(port);
  open.push(proxy);
  const near = dial(proxy.port);
  const far = await links.next();
  return { proxy, near, far, links };
}

describe('a link', () => {
  test('that is free passes bytes and the end on', async () => {
    const { near, far } = await proxied();
    near.socket.write('there');
    expect(await far.heard.next()).toBe('there');
    far.socket.write('back');
    expect(await near.heard.next()).toBe('back');
    near.socket.end('last');
    expect(await far.heard.next()).toBe('last');
    expect(await within('the far end closes', far.closed)).toBe('ended');
    expect(await within('the near end closes', near.closed)).toBe('ended');
  });

  test('that is held in silence delivers when it heals, an end included', async () => {
    const { proxy, near, far } = await proxied();
    const heal = proxy.cut('silent', 'near');
    near.socket.write('one ');
    near.socket.end('two');
    far.socket.write('three');
    // A second link, cut as well, is dialled on only when both are healed.
    const other = dial(proxy.port);
    other.socket.write('four');
    heal();
    await far.heard.until(1);
    await within('the far end closes', far.closed);
    expect(far.heard.all.join('')).toBe('one two');
    expect(await near.heard.next()).toBe('three');
  });

  test.each([
    ['outward', 'near'],
    ['inward', 'far'],
  ] as const)('cut %s at its %s end holds what is dialled with, not the answers', async (mode, victim) => {
    const { proxy, near, far } = await proxied();
    const heal = proxy.cut(mode, victim);
    near.socket.write('held');
    far.socket.write('passed');
    expect(await near.heard.next()).toBe('passed');
    expect(far.heard.all).toEqual([]);
    heal();
    expect(await far.heard.next()).toBe('held');
  });

  test('that is cut twice is free when both cuts are healed', async () => {
    const { proxy, near, far } = await proxied();
    const heals = [proxy.cut('silent', 'near'), proxy.cut('outward', 'near')];
    near.socket.write('held');
    heals[0]!();
    far.socket.write('passed');
    expect(await near.heard.next()).toBe('passed');
    expect(far.heard.all).toEqual([]);
    heals[1]!();
    expect(await far.heard.next()).toBe('held');
  });

  test('that is reset breaks at both ends, and so does each new one until it heals', async () => {
    const { proxy, near, far, links } = await proxied();
    const heal = proxy.cut('reset', 'far');
    expect(await within('the near end breaks', near.closed)).toBe('broken');
    expect(await within('the far end breaks', far.closed)).toBe('broken');
    expect(await within('a new one breaks', dial(proxy.port).closed)).toBe('broken');
    heal();
    const again = dial(proxy.port);
    const answer = await links.next();
    again.socket.write('through');
    expect(await answer.heard.next()).toBe('through');
  });

  test('to where nothing listens breaks', async () => {
    const { port, links } = await listenForLinks();
    expect(links.all).toEqual([]);
    const proxy = await LinkProxy.listen(port);
    open.push(proxy);
    await open.shift()!.close();
    expect(await within('it breaks', dial(proxy.port).closed)).toBe('broken');
  });

  test('is cut for one process and not for another', async () => {
    const { port, links } = await listenForLinks();
    const children = [0, 1].map(() =>
      spawn(process.execPath, ['-e', DIALLER], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    open.push({ close: () => children.map((child) => child.kill('SIGKILL')) });
    const pids = children.map(({ pid }) => pid ?? 0);
    const proxy = await LinkProxy.listen(port, async (own, remote) => {
      const pid = await ownerOf(own, remote, pids);
      return pid === null ? null : pids.indexOf(pid);
    });
    open.push(proxy);
    const heal = proxy.cut('silent', 'near', 1);
    children[1]!.stdin.write(`${proxy.port}\n`);
    children[0]!.stdin.write(`${proxy.port}\n`);
    const free = await links.next();
    expect(await free.heard.next()).toBe(String(pids[0]));
    expect(links.all).toHaveLength(1);
    heal();
    const freed = await links.next();
    expect(await freed.heard.next()).toBe(String(pids[1]));
  });
});

/** A program that dials the port it is told and says who it is. */
const DIALLER = `
  process.stdin.once('data', (text) => {
    const socket = require('node:net').connect(Number(text), '127.0.0.1');
    socket.on('error', () => {});
    socket.write(String(process.pid));
  });`;
