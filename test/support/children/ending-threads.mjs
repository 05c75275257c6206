/**
 * A process like a worker's: its main thread knows the room of links as much as a worker's does, and thread after thread
 * sends large frames and ends while some are under way. Arguments: compiled source, endpoint of the receiver, frame as
 * JSON, number of threads.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker } from 'node:worker_threads';

const [source, endpoint, frame, numThreads] = process.argv.slice(2);
const FRAMES = 20;
const SENT_BYTES = 5 * 65_536;

if (isMainThread) {
  await import(`${source}/worker/index.js`);
  for (let thread = 0; thread < Number(numThreads); thread += 1) {
    await new Promise((resolve, reject) => {
      const sender = new Worker(fileURLToPath(import.meta.url), { argv: process.argv.slice(2) });
      sender.once('error', reject);
      sender.once('exit', resolve);
    });
  }
  process.stdout.write('all have ended\n');
} else {
  const { PeerSender } = await import(`${source}/net/index.js`);
  const { deriveKey } = await import(`${source}/protocol/index.js`);
  const header = JSON.parse(frame);
  const sender = new PeerSender(endpoint, deriveKey('token', 'frame'), () => {});
  for (let sent = 0; sent < FRAMES; sent += 1) {
    sender.send(() => ({ header, payload: new Uint8Array(header.length * 4) }));
  }
  while (sender.sentBytes < SENT_BYTES) await new Promise((resolve) => setImmediate(resolve));
  sender.close();
}
