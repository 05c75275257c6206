/**
 * What a bare socket carries here: one TCP stream over loopback from one Node.js process to another,
 * in one direction, nothing looking at the bytes. Context for the all-reduce, not a peer of it.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { type Summary, summarize } from './statistics.ts';

const SENDER_PROGRAM = fileURLToPath(new URL('./tcp-stream-end.js', import.meta.url));

/** GB/s (10^9 bytes) of each of `rounds` streams of `bytes` bytes. */
export async function measureStream(bytes: number, rounds: number): Promise<Summary> {
  const rates: number[] = [];
  for (let round = 0; round < rounds; round += 1) rates.push(await streamOnce(bytes));
  return summarize(rates);
}

async function streamOnce(bytes: number): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const sender = fork(SENDER_PROGRAM, [String(port), String(bytes)]);
  try {
    const connected = once(server, 'connection') as Promise<[Socket]>;
    const [socket] = await Promise.race([connected, endedEarly(sender)]);
    const startMs = performance.now();
    let received = 0;
    for await (const chunk of socket) received += (chunk as Buffer).length;
    return received / 1e6 / (performance.now() - startMs);
  } finally {
    sender.kill();
    server.close();
  }
}

async function endedEarly(sender: ReturnType<typeof fork>): Promise<never> {
  const [code] = await once(sender, 'exit');
  throw new Error(`the sender of the raw stream ended with code ${code}`);
}
