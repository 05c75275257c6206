/** What an operator can do: POST /api/workers/:worker/drain and /evict. The door has checked who asks. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { LockstepError } from '../../base/index.ts';
import type { ActionAnswer } from '../contract.ts';
import type { ClusterActions, RunSource } from './parts.ts';

const workerSchema = z.object({ worker: z.string().min(1).max(128) });
/** Nothing is asked for but what the path says. */
const bodySchema = z.strictObject({});

export function addActionRoutes(
  app: FastifyInstance,
  actions: ClusterActions | null,
  source: RunSource,
): void {
  const add = (
    name: 'drain' | 'evict',
    answer: (worker: string) => string,
    act: ((worker: string) => void) | null,
  ) => {
    app.post(`/api/workers/:worker/${name}`, async (request): Promise<ActionAnswer> => {
      const { worker } = workerSchema.parse(request.params);
      bodySchema.parse(request.body ?? {});
      if (act === null) {
        const reason = `a worker cannot be asked to ${name} here: open the dashboard of the running coordinator`;
        throw new LockstepError('CONFIG_INVALID', reason);
      }
      if (!source.view.workers().some((row) => row.name === worker && row.endedAt === null)) {
        throw new LockstepError('CONFIG_INVALID', `no worker named ${worker} takes part in the run`);
      }
      act(worker);
      return { text: answer(worker) };
    });
  };
  add('drain', (worker) => `${worker} finishes what it computes, then leaves.`, actions?.drain ?? null);
  add('evict', (worker) => `${worker} is out; its slots go to the others.`, actions?.evict ?? null);
}
