/** What can be read of a run: GET /api/..., and the checkpoints' files. */
import { open } from 'node:fs/promises';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { systemCodeOf } from '../../base/index.ts';
import { HISTORY_KINDS, type HistoryKind } from '../contract.ts';
import { HISTORY_LIMIT_MAX } from '../view/history.ts';
import { CHECKPOINT_FILES, type Checkpoints } from './checkpoints.ts';
import { isLogName, logLinesAround } from './log-lines.ts';
import type { PlaygroundDesk } from './playground-routes.ts';
import type { Views } from './views.ts';

const historyQuerySchema = z.object({
  kinds: z
    .string()
    .optional()
    .transform((text) => text?.split(',') ?? [...HISTORY_KINDS])
    .pipe(z.array(z.enum(HISTORY_KINDS))),
  before: z.coerce.number().int().min(0).nullable().default(null),
  limit: z.coerce.number().int().min(1).max(HISTORY_LIMIT_MAX).default(100),
});
const logsQuerySchema = z.object({
  file: z.string().refine(isLogName, 'expected the name of a log file'),
  at: z.coerce.number().nullable().default(null),
});
const stepSchema = z.object({ step: z.coerce.number().int().min(0) });
const fileSchema = stepSchema.extend({ file: z.enum(CHECKPOINT_FILES) });

export function addRunRoutes(
  app: FastifyInstance,
  views: Views,
  checkpoints: Checkpoints,
  desk: PlaygroundDesk,
): void {
  const { source } = views;

  app.get('/api/overview', async (_request, reply) => {
    await source.refresh();
    const overview = views.overview();
    return overview ?? reply.code(404).send({ error: `${source.name} holds no run yet` });
  });
  app.get('/api/workers', async () => {
    await source.refresh();
    return views.workers();
  });
  app.get('/api/timeline', async () => {
    await source.refresh();
    return source.view.timeline();
  });
  app.get('/api/series', async () => {
    await source.refresh();
    return source.view.series();
  });
  app.get('/api/history', async (request) => {
    const { kinds, before, limit } = historyQuerySchema.parse(request.query);
    await source.refresh();
    // Parsed from the very list of kinds.
    return source.view.history({ kinds: kinds as readonly HistoryKind[], before, limit });
  });
  app.get('/api/logs', async (request, reply) => {
    const { file, at } = logsQuerySchema.parse(request.query);
    const view = await logLinesAround(source.dir, file, at);
    return view ?? reply.code(404).send({ error: `${source.name} has no log ${file} on this machine` });
  });
  app.get('/api/queue', () => views.queue());
  app.get('/api/data', async () => {
    await source.refresh();
    return desk.data();
  });
  addCheckpointRoutes(app, checkpoints);
}

function addCheckpointRoutes(app: FastifyInstance, checkpoints: Checkpoints): void {
  app.get('/api/checkpoints', () => checkpoints.list());
  app.post('/api/checkpoints/:step/verify', async (request, reply) => {
    const { step } = stepSchema.parse(request.params);
    const view = await checkpoints.verify(step);
    return view ?? reply.code(404).send({ error: `there is no checkpoint of step ${step}` });
  });
  app.get('/api/checkpoints/:step/:file', async (request, reply) => {
    const { step, file } = fileSchema.parse(request.params);
    // Opened once: a checkpoint that is removed meanwhile is still sent whole.
    const handle = await open(checkpoints.pathOf(step, file), 'r').catch((error: unknown) => {
      if (systemCodeOf(error) === 'ENOENT') return null;
      throw error;
    });
    if (handle === null) {
      return reply.code(404).send({ error: `there is no ${file} of a checkpoint of step ${step}` });
    }
    const { size } = await handle.stat();
    return reply
      .header('content-length', size)
      .header('content-disposition', `attachment; filename="step-${step}-${file}"`)
      .type(file.endsWith('.json') ? 'application/json' : 'application/octet-stream')
      .send(handle.createReadStream());
  });
}
