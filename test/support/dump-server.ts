/** An HTTP server on loopback that serves files with ranges and ETags, and misbehaves as it is told. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** A list, not a dump. */
const SMALL_BYTES = 1000;

export class DumpServer {
  readonly url: string;
  /** By path, `/a/b`. */
  readonly files: Map<string, Buffer>;
  /** `METHOD path range` of every request, in order. */
  readonly requests: string[] = [];
  /** So many answers break off in the middle of what they should send, or before it is 1000 bytes; small files do not. */
  cuts = 0;
  /** Answers a range with the whole file. */
  ignoresRanges = false;

  /** Stopped when the test ends. */
  static async start(files: Readonly<Record<string, Buffer | string>>): Promise<DumpServer> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const dumps = new DumpServer(`http://127.0.0.1:${port}`, files);
    server.on('request', (request, response) => dumps.#answer(request, response));
    onTestFinished(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    return dumps;
  }

  private constructor(url: string, files: Readonly<Record<string, Buffer | string>>) {
    this.url = url;
    this.files = new Map(Object.entries(files).map(([path, content]) => [path, Buffer.from(content)]));
  }

  #answer({ method, url = '', headers }: IncomingMessage, response: ServerResponse): void {
    this.requests.push(`${method} ${url} ${headers.range ?? ''}`.trim());
    const content = this.files.get(url);
    if (content === undefined) {
      response.writeHead(404).end('not here');
      return;
    }
    const etag = `"${createHash('md5').update(content).digest('hex')}"`;
    const asked = /^bytes=(\d+)-$/.exec(headers.range ?? '');
    const isCurrent = headers['if-range'] === undefined || headers['if-range'] === etag;
    const start = asked === null || this.ignoresRanges || !isCurrent ? 0 : Number(asked[1]);
    const partial =
      start > 0 ? { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` } : {};
    const body = content.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, { etag, 'content-length': body.length, ...partial });
    if (method === 'HEAD') response.end();
    else if (this.cuts === 0 || content.length < SMALL_BYTES) response.end(body);
    else {
      this.cuts -= 1;
      const some = body.length < SMALL_BYTES ? 0 : body.length >> 1;
      response.flushHeaders();
      // An end, not a reset, which could overtake the data.
      if (some === 0) response.socket?.end();
      else response.write(body.subarray(0, some), () => response.socket?.end());
    }
  }
}
