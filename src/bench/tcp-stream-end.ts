/**
 * The sending end of the raw stream, a process of its own: `tcp-stream-end.js PORT BYTES` connects to a
 * loopback port and writes so many bytes as fast as they are taken.
 */
import { once } from 'node:events';
import { connect } from 'node:net';

/** As large as the gain goes. */
const CHUNK_BYTES = 256 * 1024;

const [port, bytes] = process.argv.slice(2).map(Number);
const socket = connect({ port: port ?? 0, host: '127.0.0.1', noDelay: true });
await once(socket, 'connect');
const chunk = new Uint8Array(CHUNK_BYTES);
for (let sent = 0; sent < (bytes ?? 0); sent += CHUNK_BYTES) {
  if (!socket.write(chunk)) await once(socket, 'drain');
}
socket.end();
