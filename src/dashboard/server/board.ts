/**
 * Bull Board under /queues. It has no login and knows no read-only pages of its own: the guard stands before it,
 * its page loses the link to a font host, and unless it may write, anything but reading is refused.
 */
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import type { FastifyInstance, FastifyPluginAsync } from 'fastify';
import type { QueueInspector } from '../../queue/index.ts';
import { BOARD_POLICY } from './security.ts';

export const BOARD_PATH = '/queues';

export async function addBoard(
  app: FastifyInstance,
  queue: QueueInspector,
  isWritable: boolean,
): Promise<void> {
  const serverAdapter = new FastifyAdapter();
  serverAdapter.setBasePath(BOARD_PATH);
  createBullBoard({
    queues: [new BullMQAdapter(queue.queue, { readOnlyMode: !isWritable })],
    serverAdapter,
    options: { uiConfig: { boardTitle: 'Lockstep', hideRedisDetails: true } },
  });
  const guarded: FastifyPluginAsync = async (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      reply.header('content-security-policy', BOARD_POLICY);
      if (!isWritable && request.method !== 'GET' && request.method !== 'HEAD') {
        await reply.code(405).send({ error: 'the queue can be looked at only' });
      }
    });
    scope.addHook('onSend', async (_request, reply, payload) => {
      const isPage = String(reply.getHeader('content-type') ?? '').startsWith('text/html');
      return isPage && typeof payload === 'string' ? withoutForeignLinks(payload) : payload;
    });
    await scope.register(serverAdapter.registerPlugin(), { prefix: BOARD_PATH });
  };
  await app.register(guarded);
}

/** The policy would stop such a request too, but with an error in the browser's console. */
export function withoutForeignLinks(html: string): string {
  return html.replace(/<link\b[^>]*\bhref="https?:[^>]*>/g, '');
}
