/**
 * The run's data set over HTTP, for workers that do not have its files:
 *
 *   GET /runs/:run/data/:file/digests        the SHA-256 of each block, end to end, sealed under the cluster's key
 *   GET /runs/:run/data/:file/blocks/:index  one block
 *
 * Blocks need no seal, for whoever asks compares them with their digests. A file is read through before its digests
 * are known; until then the answer is 202, so that nobody's deadline depends on the size of a data set.
 */
import { createHmac } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { z } from 'zod';
import { LockstepError } from '../base/index.ts';
import { SEAL_HEADER, sealedDigests } from '../protocol/index.ts';

const ANSWER_WITHIN_MS = 1000;

const fileSchema = z.object({ run: z.string(), file: z.string().max(256) });
const blockSchema = fileSchema.extend({ index: z.coerce.number().int().min(0) });

/** What holds the files; its errors are LockstepErrors. */
export interface DataBlocks {
  /** The SHA-256 of each block of the file, end to end. */
  digests(file: string): Promise<Uint8Array>;
  block(file: string, index: number): Promise<Uint8Array>;
}

export function addDataRoutes(app: FastifyInstance, run: string, key: Buffer, data: DataBlocks): void {
  app.get('/runs/:run/data/:file/digests', async (request, reply) => {
    const { run: named, file } = fileSchema.parse(request.params);
    if (named !== run) return reply.code(404).send({ error: `this is run ${run}` });
    const timer = new AbortController();
    const waiting = delay(ANSWER_WITHIN_MS, null, { signal: timer.signal }).catch(() => null);
    try {
      const digests = await Promise.race([data.digests(file), waiting]);
      if (digests === null) return reply.code(202).send({ error: `${file} is still being read` });
      const seal = createHmac('sha256', key).update(sealedDigests(run, file)).update(digests).digest('hex');
      return reply.header(SEAL_HEADER, seal).type('application/octet-stream').send(Buffer.from(digests));
    } catch (error) {
      return refuse(reply, error);
    } finally {
      timer.abort();
    }
  });

  app.get('/runs/:run/data/:file/blocks/:index', async (request, reply) => {
    const { run: named, file, index } = blockSchema.parse(request.params);
    if (named !== run) return reply.code(404).send({ error: `this is run ${run}` });
    try {
      const block = await data.block(file, index);
      return reply.type('application/octet-stream').send(Buffer.from(block));
    } catch (error) {
      return refuse(reply, error);
    }
  });
}

/** Whoever asked says to a person what is wrong with the files, so it needs the code as well. */
function refuse(reply: FastifyReply, error: unknown): FastifyReply {
  if (!(error instanceof LockstepError)) throw error;
  return reply
    .code(error.code === 'DATA_MISSING' ? 404 : 500)
    .send({ code: error.code, error: error.message });
}
