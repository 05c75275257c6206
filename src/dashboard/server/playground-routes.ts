/**
 * The playground's and the data set's answers. Both come from a process of their own, started when somebody
 * asks: indexing a large data set or loading a model would hold up this one.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { LockstepError, messageOf } from '../../base/index.ts';
import type { DatasetFacts, Generation, Playground } from '../../playground/index.ts';
import {
  type DataView as DatasetView,
  type Generated,
  generateRequestSchema,
  type NoisedExample,
  type PlaygroundView,
} from '../contract.ts';
import { Checkpoints } from './checkpoints.ts';
import type { DashboardOptions } from './parts.ts';

const whole = z.coerce.number().int();
const placeSchema = z.object({ step: whole.min(1), slot: whole.min(0), row: whole.min(0) });

export class PlaygroundDesk {
  readonly #options: DashboardOptions;
  readonly #checkpoints: Checkpoints;
  #playground: Playground | null = null;
  #facts: Promise<DatasetFacts> | null = null;

  constructor(options: DashboardOptions) {
    this.#options = options;
    this.#checkpoints = new Checkpoints(options.source.dir);
  }

  async view(): Promise<PlaygroundView> {
    const { source } = this.#options;
    await source.refresh();
    const { opened } = source.view;
    const { checkpoints } = await this.#checkpoints.list();
    const steps = checkpoints.filter(({ state }) => state !== 'invalid').map(({ step }) => step);
    const unavailable = this.#unavailable ?? (steps.length === 0 ? 'There is no checkpoint yet.' : null);
    return {
      unavailable,
      checkpoints: steps,
      layers: opened?.decoderLayers ?? 0,
      lengthMax: opened?.sequenceLength ?? 0,
      // Only a model that has learned to predict from every layer can leave early.
      earlyExit: opened?.objective === 'lplm',
      ...{ confidence: true, twin: false },
    };
  }

  async generate(body: unknown): Promise<Generated> {
    return generated(await this.#ask().ask('generate', generateRequestSchema.parse(body)));
  }

  async example(query: unknown): Promise<NoisedExample> {
    const place = placeSchema.parse(query);
    const { source, target, generated: guess } = await this.#ask().ask('example', place);
    return { ...place, source, target, generated: guess === null ? null : generated(guess) };
  }

  async data(): Promise<DatasetView> {
    const { view } = this.#options.source;
    const { opened, step, tokensSeen } = view;
    if (opened === null) throw new LockstepError('DATA_MISSING', 'there is no run yet');
    const samplesSeen = step * opened.slots * opened.sequencesPerSlot;
    const common = { datasetSha256: opened.datasetSha256, samplesSeen, tokensSeen };
    try {
      const dataset = await this.#describe();
      const passes = samplesSeen / dataset.samples;
      const epoch = Math.floor(passes);
      return { ...common, dataset, reason: null, epoch, epochShare: passes - epoch };
    } catch (error) {
      return { ...common, dataset: null, reason: messageOf(error), epoch: null, epochShare: null };
    }
  }

  close(): void {
    this.#playground?.close();
  }

  /** The data set does not change under a run, so it is described once. */
  #describe(): Promise<DatasetFacts> {
    this.#facts ??= this.#ask()
      .ask('describe', null)
      .catch((error: unknown) => {
        this.#facts = null;
        throw error;
      });
    return this.#facts;
  }

  get #dataDir(): string | null {
    return this.#options.dataDir ?? this.#options.source.view.opened?.dataDir ?? null;
  }

  get #unavailable(): string | null {
    if (this.#options.source.view.opened === null) return 'There is no run yet.';
    return this.#dataDir === null ? 'The data set is not known here: name it with --data.' : null;
  }

  #ask(): Playground {
    const dataDir = this.#dataDir;
    if (dataDir === null) {
      throw new LockstepError('ENGINE_UNAVAILABLE', this.#unavailable ?? 'There is no data set.');
    }
    this.#playground ??= this.#options.startPlayground(dataDir);
    return this.#playground;
  }
}

export function addPlaygroundRoutes(app: FastifyInstance, desk: PlaygroundDesk): void {
  app.get('/api/playground', () => desk.view());
  app.post('/api/playground/generate', (request) => desk.generate(request.body));
  app.get('/api/playground/example', (request) => desk.example(request.query));
}

function generated(generation: Generation): Generated {
  const { tokens, generateMs } = generation;
  const tokensPerSecond = generateMs === 0 ? 0 : (tokens.length * 1000) / generateMs;
  return { ...generation, tokensPerSecond, twin: null };
}
