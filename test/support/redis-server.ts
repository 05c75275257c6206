/** A Redis of the tests' own on a port that stays the same, so that it can be killed and come back empty. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { checkRedis, findRedisServer, freePort } from '../../src/queue/index.ts';
import { within } from './waiting.ts';

export class RestartableRedis {
  readonly url: string;
  readonly #port: number;
  #child: ChildProcess | null = null;

  static async start(): Promise<RestartableRedis> {
    const redis = new RestartableRedis(await freePort());
    await redis.start();
    return redis;
  }

  private constructor(port: number) {
    this.#port = port;
    this.url = `redis://127.0.0.1:${port}`;
  }

  async start(): Promise<void> {
    const binary = findRedisServer();
    if (binary === null) throw new Error('no redis-server on the PATH: run `npm run setup`');
    const settings = [
      '--port',
      String(this.#port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
    ];
    this.#child = spawn(binary, settings, { stdio: ['ignore', 'pipe', 'inherit'] });
    const { stdout } = this.#child;
    const isUp = new Promise<void>((resolve) => {
      let output = '';
      stdout!.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('Ready to accept connections')) resolve();
      });
    });
    await within('the start of redis-server', isUp);
    await checkRedis(this.url, 2000);
  }

  /** Ends it without a goodbye; what it held is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
}
