/**
 * Generation over HTTP:
 *
 *   POST /generate   {"texts": ["…"], "options": {…}}; {"results": [GeneratedText, …]}, in order
 *   GET  /healthz    {"status": "ok"}, or 503
 *
 * Options not given are the model's defaults. 400 for a request that cannot be followed, 401 without the token,
 * 413 for one too large, 503 with Retry-After when the line is full. The dashboard's guard stands before it.
 */
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { z } from 'zod';
import { LockstepError, systemCodeOf } from '../base/index.ts';
import { Guard, isLoopback, requestMessageOf, requestStatusOf } from '../dashboard/index.ts';
import { generationDefaults, generationOptionsSchema } from '../generation/index.ts';
import { GenerationService, LineFullError, type ServiceOptions } from './generation-service.ts';

const BODY_BYTES_MAX = 1024 * 1024;
const TEXTS_MAX = 64;

const requestSchema = z.strictObject({
  texts: z.array(z.string().regex(/\S/, 'must not be empty')).min(1).max(TEXTS_MAX),
  options: generationOptionsSchema.partial().default({}),
});

export interface GenerationServerOptions extends ServiceOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Bearer of every request but that for health; null asks for none, on loopback only. */
  readonly token: string | null;
}

export class GenerationServer {
  readonly url: string;
  readonly service: GenerationService;
  readonly #app: FastifyInstance;

  /** Throws ADDRESS_IN_USE, CONFIG_INVALID for a host beyond loopback without a token, and what opening the model throws. */
  static async start(options: GenerationServerOptions): Promise<GenerationServer> {
    const { host, port, token } = options;
    if (token === null && !isLoopback(host)) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `--host ${host} is beyond loopback: whoever reaches it could use the model; set a token`,
      );
    }
    const service = await GenerationService.start(options);
    const app = Fastify({ bodyLimit: BODY_BYTES_MAX, forceCloseConnections: 'idle' });
    addRoutes(app, service, new Guard(token, String(port)));
    try {
      await app.listen({ host, port });
    } catch (error) {
      await Promise.all([app.close(), service.close()]);
      if (systemCodeOf(error) !== 'EADDRINUSE' && systemCodeOf(error) !== 'EADDRNOTAVAIL') throw error;
      const reason = `cannot serve on ${host}:${port}: choose another --port or --host`;
      throw new LockstepError('ADDRESS_IN_USE', reason, { cause: error });
    }
    return new GenerationServer(app, service, host);
  }

  private constructor(app: FastifyInstance, service: GenerationService, host: string) {
    this.#app = app;
    this.service = service;
    const address = app.server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${port}/`;
  }

  /** Takes no more requests, answers the one under way, turns those in line away. */
  async close(): Promise<void> {
    await Promise.all([this.#app.close(), this.service.close()]);
  }
}

function addRoutes(app: FastifyInstance, service: GenerationService, guard: Guard): void {
  app.addHook('onRequest', async (request, reply) => {
    if (!guard.isExpectedHost(request.headers)) {
      return refuse(reply, 421, 'without a token this server is reached as localhost only');
    }
    if (request.url === '/healthz') return;
    if (!guard.isAuthorized(request.headers)) return refuse(reply, 401, 'unauthorized');
    if (!guard.isSameOrigin(request.headers))
      return refuse(reply, 403, 'asked for by a page of another site');
  });
  app.setNotFoundHandler((_request, reply) => refuse(reply, 404, 'there is POST /generate and GET /healthz'));
  app.setErrorHandler((error, _request, reply) => {
    if (error instanceof LineFullError) reply.header('retry-after', '1');
    return refuse(reply, statusOf(error, service), requestMessageOf(error));
  });
  app.get('/healthz', (_request, reply) => {
    const { trouble } = service;
    return trouble === null ? { status: 'ok' } : refuse(reply, 503, trouble);
  });
  app.post('/generate', async (request) => {
    const { texts, options } = requestSchema.parse(request.body);
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const all = { ...generationDefaults(service.facts.kind), ...Object.fromEntries(given) };
    return { results: await service.generate(texts, all) };
  });
}

function refuse(reply: FastifyReply, status: number, error: string): FastifyReply {
  return reply.code(status).send({ error });
}

function statusOf(error: unknown, service: GenerationService): number {
  if (error instanceof z.ZodError) return requestStatusOf(error);
  if (error instanceof LineFullError || service.trouble !== null) return 503;
  if (error instanceof LockstepError) return error.code === 'CONFIG_INVALID' ? 400 : 500;
  return requestStatusOf(error);
}
