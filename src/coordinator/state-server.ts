/**
 * The coordinator's HTTP side: members upload their parts of a checkpoint, joiners download it.
 *
 *   PUT /runs/:run/checkpoints/:step/:section?attempt=K&offset=N  body: little-endian float32
 *   GET /runs/:run/checkpoints/:step/:section?offset=N&length=N   both in floats
 *
 * The run's data set is served beside them: see data-routes.ts.
 * Every request carries the key derived from the cluster's token; an upload carries the CRC-32C of
 * its body. Requests are pieces of at most `STATE_PIECE_BYTES`, so neither side holds a whole state.
 */
import { timingSafeEqual } from 'node:crypto';
import { crc32c } from '@node-rs/crc32';
import Fastify, { type FastifyInstance } from 'fastify';
import { z } from 'zod';
import { InvariantError, LockstepError, messageOf, SECTIONS, systemCodeOf } from '../base/index.ts';
import type { CheckpointReader, CheckpointWriter } from '../checkpoint/index.ts';
import { CRC_HEADER, STATE_PIECE_BYTES } from '../protocol/index.ts';
import { addDataRoutes, type DataBlocks } from './data-routes.ts';

const placeSchema = z.object({
  run: z.string(),
  step: z.coerce.number().int().min(0),
  section: z.enum(SECTIONS),
});
const count = z.coerce.number().int().min(0);
const uploadSchema = z.object({ attempt: count, offset: count });
const downloadSchema = z.object({ offset: count, length: z.coerce.number().int().min(1) });

export interface StateServerSource {
  /** The run's data set, for workers without its files. */
  readonly data: DataBlocks;
  /** What this try at a checkpoint of this step is written to; null when it is over. */
  writerOf(step: number, attempt: number): CheckpointWriter | null;
  /** The stored checkpoint of this step, or null. */
  readerOf(step: number): CheckpointReader | null;
  /** A write to disk failed; the uploader is told, and the run decides. */
  onWriteFailed(step: number, error: unknown): void;
}

export class StateServer {
  readonly port: number;
  readonly #app: FastifyInstance;

  static async listen(
    host: string,
    port: number,
    run: string,
    key: Buffer,
    source: StateServerSource,
  ): Promise<StateServer> {
    const app = Fastify({ bodyLimit: STATE_PIECE_BYTES, forceCloseConnections: true });
    const expected = Buffer.from(`Bearer ${key.toString('hex')}`);
    app.addHook('onRequest', async (request, reply) => {
      const given = Buffer.from(request.headers.authorization ?? '');
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
        await reply.code(401).send({ error: 'the authorization header does not hold this run’s key' });
      }
    });
    app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => {
      done(null, body);
    });
    app.setErrorHandler(async (error, _request, reply) => {
      const status = error instanceof z.ZodError ? 400 : error instanceof LockstepError ? 507 : 500;
      await reply.code(status).send({ error: messageOf(error) });
    });
    addRoutes(app, run, source);
    addDataRoutes(app, run, key, source.data);
    try {
      await app.listen({ host, port });
    } catch (error) {
      if (systemCodeOf(error) !== 'EADDRINUSE' && systemCodeOf(error) !== 'EADDRNOTAVAIL') throw error;
      throw new LockstepError(
        'ADDRESS_IN_USE',
        `cannot serve checkpoints on ${host}:${port}: choose another --http-port`,
        {
          cause: error,
        },
      );
    }
    const address = app.server.address();
    return new StateServer(app, typeof address === 'object' && address !== null ? address.port : port);
  }

  private constructor(app: FastifyInstance, port: number) {
    this.#app = app;
    this.port = port;
  }

  async close(): Promise<void> {
    await this.#app.close();
  }
}

function addRoutes(app: FastifyInstance, run: string, source: StateServerSource): void {
  const path = '/runs/:run/checkpoints/:step/:section';

  app.put(path, async (request, reply) => {
    const { run: named, step, section } = placeSchema.parse(request.params);
    const { attempt, offset } = uploadSchema.parse(request.query);
    const body = request.body;
    if (named !== run) return reply.code(404).send({ error: `this is run ${run}` });
    if (!Buffer.isBuffer(body) || body.length === 0 || body.length % 4 !== 0) {
      return reply.code(400).send({ error: 'the body must be whole float32 values' });
    }
    if (request.headers[CRC_HEADER] !== String(crc32c(body))) {
      return reply.code(400).send({ error: `${CRC_HEADER} does not match the body` });
    }
    const writer = source.writerOf(step, attempt);
    if (writer === null)
      return reply.code(409).send({ error: `no checkpoint of step ${step} is being written` });
    try {
      await writer.write(section, offset, body);
    } catch (error) {
      // A piece that does not fit is its sender's trouble; only the disk's is the run's.
      if (error instanceof InvariantError) return reply.code(409).send({ error: error.message });
      source.onWriteFailed(step, error);
      throw error;
    }
    return reply.code(204).send();
  });

  app.get(path, async (request, reply) => {
    const { run: named, step, section } = placeSchema.parse(request.params);
    const { offset, length } = downloadSchema.parse(request.query);
    if (named !== run) return reply.code(404).send({ error: `this is run ${run}` });
    const reader = source.readerOf(step);
    if (reader === null) return reply.code(404).send({ error: `no checkpoint of step ${step} is served` });
    if (length * 4 > STATE_PIECE_BYTES || offset + length > reader.size) {
      return reply
        .code(416)
        .send({ error: `floats ${offset} to ${offset + length} are not to be had at once` });
    }
    const bytes = Buffer.alloc(length * 4);
    await reader.read(section, offset, bytes);
    return reply
      .header(CRC_HEADER, String(crc32c(bytes)))
      .type('application/octet-stream')
      .send(bytes);
  });
}
