/**
 * The dashboard's HTTP server: one door (security.ts) before everything, JSON under /api, events, Prometheus,
 * Bull Board, and the built page. It reads the view and never waits for training, nor training for it.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import staticFiles from '@fastify/static';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { LockstepError, messageOf, systemCodeOf } from '../../base/index.ts';
import type { ErrorView, HealthView, SessionView } from '../contract.ts';
import { sessionRequestSchema } from '../contract.ts';
import { addActionRoutes } from './action-routes.ts';
import { addBoard, BOARD_PATH } from './board.ts';
import { Checkpoints } from './checkpoints.ts';
import { EventHub } from './event-hub.ts';
import type { DashboardOptions } from './parts.ts';
import { addPlaygroundRoutes, PlaygroundDesk } from './playground-routes.ts';
import { RunMetrics } from './prometheus.ts';
import { requestMessageOf, requestStatusOf } from './request-errors.ts';
import { addRunRoutes } from './run-routes.ts';
import { COMMON_HEADERS, Guard, isLoopback, PAGE_POLICY } from './security.ts';
import { Views } from './views.ts';

/** The page's files, as the build leaves them beside the compiled server. */
const PAGE_FOLDER = fileURLToPath(new URL('../../web', import.meta.url));
/** Larger than any text that the playground takes. */
const BODY_BYTES_MAX = 128 * 1024;
/** Answered without a token: they tell nothing of the run. */
const OPEN_PATHS = new Set(['/healthz', '/readyz', '/api/session']);

export class DashboardServer {
  /** Where a browser on this machine, or on another for a host that is not loopback, finds it. */
  readonly url: string;
  readonly port: number;
  readonly #app: FastifyInstance;
  readonly #hub: EventHub;
  readonly #desk: PlaygroundDesk;

  /** Throws ADDRESS_IN_USE, and CONFIG_INVALID for a host beyond loopback without a token. */
  static async start(options: DashboardOptions): Promise<DashboardServer> {
    const { host, port, token, onTrouble } = options;
    if (token === null && !isLoopback(host)) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `the dashboard on ${host} needs a token: whoever reaches it could look and act`,
      );
    }
    const app = Fastify({ bodyLimit: BODY_BYTES_MAX, forceCloseConnections: true });
    const views = new Views(options);
    const desk = new PlaygroundDesk(options);
    const hub = new EventHub(views, (error) => onTrouble(messageOf(error)));
    const guard = new Guard(token, String(port));
    addDoor(app, guard);
    addSession(app, guard, options.version);
    addRunRoutes(app, views, new Checkpoints(options.source.dir), desk);
    addPlaygroundRoutes(app, desk);
    addActionRoutes(app, options.actions, options.source);
    addWatchers(app, views, hub, options);
    if (options.queue !== null) await addBoard(app, options.queue, options.isBoardWritable);
    else app.get(BOARD_PATH, (_request, reply) => reply.code(503).send({ error: views.noQueueReason }));
    if (existsSync(PAGE_FOLDER)) {
      // Names stay the same from build to build, so a browser asks whether its copy is the newest.
      const setHeaders = (reply: FastifyReply) => reply.header('cache-control', 'no-cache');
      await app.register(staticFiles, { root: PAGE_FOLDER, preCompressed: true, setHeaders });
    }
    try {
      await app.listen({ host, port });
    } catch (error) {
      await app.close();
      if (systemCodeOf(error) !== 'EADDRINUSE' && systemCodeOf(error) !== 'EADDRNOTAVAIL') throw error;
      const reason = `cannot serve the dashboard on ${host}:${port}: choose another --dashboard-port`;
      throw new LockstepError('ADDRESS_IN_USE', reason, { cause: error });
    }
    return new DashboardServer(app, hub, desk, host);
  }

  private constructor(app: FastifyInstance, hub: EventHub, desk: PlaygroundDesk, host: string) {
    this.#app = app;
    this.#hub = hub;
    this.#desk = desk;
    const address = app.server.address();
    this.port = typeof address === 'object' && address !== null ? address.port : 0;
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${this.port}/`;
  }

  /** Tells the pages goodbye. Idempotent. */
  async close(): Promise<void> {
    this.#desk.close();
    await this.#hub.close();
    await this.#app.close();
  }
}

/** What every request meets first, and how every failure leaves. */
function addDoor(app: FastifyInstance, guard: Guard): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({ ...COMMON_HEADERS, 'content-security-policy': PAGE_POLICY });
    const path = pathOf(request);
    if (!guard.isExpectedHost(request.headers)) {
      return refuse(reply, 421, 'this dashboard is reached as localhost only');
    }
    if (isData(path) && !guard.isAuthorized(request.headers)) return refuse(reply, 401, 'unauthorized');
    if (request.method === 'GET' || request.method === 'HEAD') return;
    if (!guard.isSameOrigin(request.headers))
      return refuse(reply, 403, 'asked for by a page of another site');
    // Bull Board's page knows nothing of our header; its own origin must do.
    const isExempt = path === '/api/session' || path.startsWith(`${BOARD_PATH}/`);
    if (!isExempt && !guard.carriesCsrf(request.headers)) {
      return refuse(reply, 403, 'the page is older than the server: reload it');
    }
  });
  app.addHook('onSend', async (request, reply, payload) => {
    if (isData(pathOf(request)) && reply.getHeader('cache-control') === undefined) {
      reply.header('cache-control', 'no-store');
    }
    return payload;
  });
  app.setNotFoundHandler((request, reply) => refuse(reply, 404, `there is nothing at ${pathOf(request)}`));
  app.setErrorHandler((error, _request, reply) => refuse(reply, statusOf(error), requestMessageOf(error)));
}

/** Everything but the page's own files, which hold nothing of the run. */
function isData(path: string): boolean {
  const isOurs = path.startsWith('/api/') || path === '/metrics' || path.startsWith(BOARD_PATH);
  return isOurs && !OPEN_PATHS.has(path);
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0]!;
}

function refuse(reply: FastifyReply, status: number, error: string): FastifyReply {
  const body: ErrorView = { error };
  return reply.code(status).type('application/json').send(JSON.stringify(body));
}

function statusOf(error: unknown): number {
  if (error instanceof LockstepError) return error.code === 'ENGINE_UNAVAILABLE' ? 503 : 409;
  return requestStatusOf(error);
}

function addSession(app: FastifyInstance, guard: Guard, version: string): void {
  app.get('/api/session', async (request): Promise<SessionView> => {
    const authorized = guard.isAuthorized(request.headers);
    return { needsToken: guard.needsToken, authorized, csrf: authorized ? guard.csrf : null, version };
  });
  app.post('/api/session', async (request, reply) => {
    const { token } = sessionRequestSchema.parse(request.body);
    if (!guard.isToken(token)) return refuse(reply, 401, 'unauthorized');
    return reply.header('set-cookie', guard.cookie()).code(204).send();
  });
}

function addWatchers(app: FastifyInstance, views: Views, hub: EventHub, options: DashboardOptions): void {
  const metrics = new RunMetrics();
  app.get('/api/events', (request, reply) => {
    const accepted = hub.numPages < hub.maxPages;
    if (!accepted) return refuse(reply, 503, 'too many pages are open');
    reply.hijack();
    request.raw.socket.setNoDelay(true);
    hub.add(reply.raw, headersOf(reply));
  });
  app.get('/metrics', async (_request, reply) => {
    await options.source.refresh();
    const queue = (await options.queue?.prometheus()) ?? null;
    const text = await metrics.text({ view: options.source.view, overview: views.overview() }, queue);
    return reply.type(metrics.contentType).send(text);
  });
  app.get('/healthz', async (): Promise<HealthView> => ({ status: 'ok', reason: null }));
  app.get('/readyz', async (_request, reply) => {
    const reason = await views.unreadyReason();
    const health: HealthView = { status: reason === null ? 'ok' : 'unavailable', reason };
    return reply.code(reason === null ? 200 : 503).send(health);
  });
}

function headersOf(reply: FastifyReply): Record<string, string> {
  return Object.fromEntries(Object.entries(reply.getHeaders()).map(([name, value]) => [name, String(value)]));
}
