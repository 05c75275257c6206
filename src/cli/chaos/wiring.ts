/**
 * Every connection between the processes of a disturbed run, each through a proxy that can cut it: a
 * worker's to the coordinator (control and HTTP), to Redis and from its peers, and the coordinator's to
 * Redis. Nothing here is privileged, and no process knows of it: addresses are what they are told.
 */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { assert, systemCodeOf } from '../../base/index.ts';
import type { CutMode, Fault } from '../../chaos/index.ts';
import { LinkProxy } from './link-proxy.ts';
import { ownerOf } from './socket-owner.ts';

/** The links of one worker. */
interface WorkerLinks {
  readonly control: LinkProxy;
  readonly http: LinkProxy;
  readonly redis: LinkProxy;
  /** Where peers reach it, and where it listens itself. */
  readonly gradients: LinkProxy;
  readonly gradientPort: number;
}

type Heal = () => void;

export class Wiring {
  /** Where the processes themselves listen. */
  readonly controlPort: number;
  readonly httpPort: number;
  readonly redisPort: number;
  readonly #coordinatorRedis: LinkProxy;
  readonly #workers: readonly WorkerLinks[];

  /** `pidOf` tells the process of a worker, null while it has none. */
  static async open(numWorkers: number, pidOf: (worker: number) => number | null): Promise<Wiring> {
    const [controlPort, httpPort, redisPort] = [await quietPort(), await quietPort(), await quietPort()];
    const identify = async (ownPort: number, remotePort: number) => {
      const pids = Array.from({ length: numWorkers }, (_, worker) => pidOf(worker) ?? 0);
      const owner = await ownerOf(ownPort, remotePort, pids);
      return owner === null ? null : pids.indexOf(owner);
    };
    const workers: WorkerLinks[] = [];
    for (let worker = 0; worker < numWorkers; worker += 1) {
      const gradientPort = await quietPort();
      workers.push({
        control: await LinkProxy.listen(controlPort),
        http: await LinkProxy.listen(httpPort),
        redis: await LinkProxy.listen(redisPort),
        gradients: await LinkProxy.listen(gradientPort, identify),
        gradientPort,
      });
    }
    const coordinatorRedis = await LinkProxy.listen(redisPort);
    return new Wiring({ controlPort, httpPort, redisPort }, coordinatorRedis, workers);
  }

  private constructor(
    ports: { controlPort: number; httpPort: number; redisPort: number },
    coordinatorRedis: LinkProxy,
    workers: readonly WorkerLinks[],
  ) {
    this.controlPort = ports.controlPort;
    this.httpPort = ports.httpPort;
    this.redisPort = ports.redisPort;
    this.#coordinatorRedis = coordinatorRedis;
    this.#workers = workers;
  }

  /** Redis as the coordinator reaches it. */
  get coordinatorRedisPort(): number {
    return this.#coordinatorRedis.port;
  }

  /** The flags of `lockstep worker` that lead all its links through here. */
  workerFlags(worker: number): string[] {
    const { control, http, redis, gradients, gradientPort } = this.#workers[worker]!;
    return [
      ...['--coordinator', `tcp://127.0.0.1:${control.port}`],
      ...['--port', String(gradientPort), '--advertise', `127.0.0.1:${gradients.port}`],
      ...['--redis-via', `127.0.0.1:${redis.port}`, '--http-via', `127.0.0.1:${http.port}`],
    ];
  }

  /** Carries out a fault of a `cut` kind; returns what heals it. */
  cut({ kind, worker, cut: mode, peer }: Fault): Heal {
    assert(mode !== null, `${kind} says how to cut`);
    const heals = this.#cuts(kind, mode, worker ?? 0, peer ?? 0);
    return () => {
      for (const heal of heals) heal();
    };
  }

  #cuts(kind: Fault['kind'], mode: CutMode, victim: number, peer: number): Heal[] {
    const own = this.#workers[victim]!;
    const others = this.#workers.filter((_, worker) => worker !== victim);
    const fromCoordinator = () => [own.control, own.http].map((link) => link.cut(mode, 'near'));
    const fromRedis = () => own.redis.cut(mode, 'near');
    switch (kind) {
      case 'cut-worker':
        return [
          ...fromCoordinator(),
          fromRedis(),
          own.gradients.cut(mode, 'far'),
          ...others.map(({ gradients }) => gradients.cut(mode, 'near', victim)),
        ];
      case 'cut-worker-coordinator':
        return fromCoordinator();
      case 'cut-worker-redis':
        return [fromRedis()];
      case 'cut-worker-peer': {
        const other = others[peer];
        assert(other !== undefined, 'a worker that is alone has no peer');
        return [
          own.gradients.cut(mode, 'far', this.#workers.indexOf(other)),
          other.gradients.cut(mode, 'near', victim),
        ];
      }
      case 'cut-coordinator':
        return [
          ...this.#workers.flatMap(({ control, http }) => [control.cut(mode, 'far'), http.cut(mode, 'far')]),
          this.#coordinatorRedis.cut(mode, 'near'),
        ];
      case 'cut-redis':
        return [this.#coordinatorRedis, ...this.#workers.map(({ redis }) => redis)].map((link) =>
          link.cut(mode, 'far'),
        );
      default:
        throw new RangeError(`${kind} is no cut`);
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    const links = this.#workers.flatMap(({ control, http, redis, gradients }) => [
      control,
      http,
      redis,
      gradients,
    ]);
    await Promise.all([this.#coordinatorRedis, ...links].map((link) => link.close()));
  }
}

/** Ports for processes that are started again in their place: below those that the kernel gives to diallers. */
const QUIET_PORT_MIN = 12_000;
const QUIET_PORT_MAX = 32_000;

/** A port that was free a moment ago, and that no outgoing connection will be given. */
async function quietPort(): Promise<number> {
  for (;;) {
    const port = randomInt(QUIET_PORT_MIN, QUIET_PORT_MAX);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => {
      if (systemCodeOf(error) === 'EADDRINUSE') resolve(false);
      else reject(error);
    });
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
