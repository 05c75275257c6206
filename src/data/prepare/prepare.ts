/**
 * `lockstep prepare`: inputs to data set, in phases that each leave their parts on disk: plan, clean, train,
 * encode, write. Who runs the jobs is the caller's choice; equal inputs and options give equal bytes, whoever ran
 * them and however often it was interrupted. Begun again, it goes on from the parts that are there.
 */
import { createHash, randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import { z } from 'zod';
import { assert, LockstepError } from '../../base/index.ts';
import { ArticleSamples } from '../article-samples.ts';
import { KEEPABLE } from '../clean/index.ts';
import { type FinishedDataset, finishDataset } from '../finish-dataset.ts';
import { planInput } from '../input/index.ts';
import { ARTICLE_SAMPLES_FILE, MANIFEST_FILE, type Manifest } from '../manifest.ts';
import { removeUnfinished, StagedFolder } from '../staged-folder.ts';
import { TokenShardWriter } from '../token-shard.ts';
import {
  type BpeTokenizer,
  loadTokenizer,
  tokenizerFromJson,
  tokenizerToJson,
  trainBpe,
} from '../tokenizer/index.ts';
import { Assembly, unitsOf } from './assemble.ts';
import { batchJobs } from './batches.ts';
import type { EncodedDocument } from './encoded-part.ts';
import { JobSite, type PrepareJob, TOKENIZER_PART } from './jobs.ts';
import { checkOptions, type PrepareOptions, type PreparePhase, type PrepareProgress } from './options.ts';
import { canResume, type Plan, sampleRateOf } from './plan.ts';
import { sumWords } from './word-parts.ts';
import { WorkFolder } from './work-folder.ts';

const UNIT_BYTES = 8 * 1024 * 1024;
const SAMPLE_BYTES = 1_000_000_000;

export interface PreparedDataset extends FinishedDataset {
  /** How long each phase took in this attempt. */
  readonly phaseMs: Readonly<Record<PreparePhase, number>>;
}

/** Beside the tokenizer that was trained: what share of the articles its sample was. */
const SAMPLING_PART = 'sampling.json';
const samplingSchema = z.object({ samplingFactor: z.number() });

/** Does jobs, in any order; asks for the next one when it can be done soon, and tells each one's documents. */
export type RunJobs = (
  site: JobSite,
  jobs: AsyncIterable<PrepareJob>,
  onDone: (job: PrepareJob, documents: number) => void,
) => Promise<void>;

/** One job after another, in this process. */
export const runHere: RunJobs = async (site, jobs, onDone) => {
  for await (const job of jobs) onDone(job, await site.run(job));
};

/**
 * Writes a data set into `outDir`. Throws CONFIG_INVALID for options that cannot be used, DATA_MISSING and
 * DATA_CORRUPT about inputs, DISK_FULL about outputs; until all is written `outDir` holds what it held before.
 */
export async function prepareDataset(
  options: PrepareOptions,
  runJobs: RunJobs = runHere,
): Promise<PreparedDataset> {
  checkOptions(options);
  // A bad tokenizer or input path is told before an hour of reading, not after.
  const given = options.tokenizerPath === undefined ? null : loadTokenizer(options.tokenizerPath);
  const watch = new PhaseWatch(options.onProgress ?? (() => {}));
  const site = await openSite(options, given, watch);
  await clean(site, runJobs, watch);
  const warnings: string[] = [];
  const tokenizer = trainOnce(site, given, options, watch, warnings);
  await encode(site, runJobs, watch);
  const prepared = await write(site, tokenizer, options, watch, warnings);
  site.work.remove();
  return { ...prepared, phaseMs: watch.end() };
}

/** Plans the work, or finds it begun with the same inputs and options. */
async function openSite(
  options: PrepareOptions,
  given: BpeTokenizer | null,
  watch: PhaseWatch,
): Promise<JobSite> {
  watch.start('scan', 0);
  const unitBytes = options.unitBytes ?? UNIT_BYTES;
  const inputs = [];
  for (const file of options.inputs) {
    inputs.push(await planInput(file, options.format, unitBytes, (bytes) => watch.add(bytes)));
  }
  const plan = {
    format: 'lockstep-preparation',
    tokenizer:
      given === null
        ? { vocabSize: options.vocabSize! }
        : { sha256: createHash('sha256').update(tokenizerToJson(given)).digest('hex') },
    minCharacters: options.minCharacters ?? null,
    keep: KEEPABLE.filter((part) => options.keep?.includes(part)),
    allowTruncated: options.allowTruncated ?? false,
    unitBytes,
    sampleRate: given === null ? sampleRateOf(inputs, options.sampleBytes ?? SAMPLE_BYTES) : 0,
    inputs,
  } as const;
  const work = new WorkFolder(options.outDir);
  const old = work.plan();
  const id = old !== null && canResume(old, plan) ? old.id : null;
  if (id === null) work.remove();
  work.create();
  removeUnfinished(work.directory);
  removeUnfinished(options.outDir);
  const now: Plan = { ...plan, id: id ?? randomBytes(8).toString('hex') };
  work.writePlan(now);
  return new JobSite(work, now);
}

async function clean(site: JobSite, runJobs: RunJobs, watch: PhaseWatch): Promise<void> {
  const { inputs } = site.plan;
  watch.start(
    'clean',
    inputs.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  await runJobs(site, jobs(), (job, documents) => watch.add(job.bytes, documents));

  async function* jobs(): AsyncGenerator<PrepareJob> {
    for (const [input, { layout }] of inputs.entries()) {
      if (layout.kind === 'batches') yield* batchJobs(site, input);
      else {
        for (const [unit, { bytes }] of layout.units.entries()) {
          const job = { phase: 'clean', input, unit, bytes } as const;
          if (!site.isDone(job)) yield job;
        }
      }
    }
  }
}

/** The tokenizer: given, trained on the sample, or found trained by an earlier attempt. */
function trainOnce(
  site: JobSite,
  given: BpeTokenizer | null,
  options: PrepareOptions,
  watch: PhaseWatch,
  warnings: string[],
): BpeTokenizer {
  const { work } = site;
  watch.start('train', 0);
  if (given !== null) {
    work.write(TOKENIZER_PART, tokenizerToJson(given));
    return given;
  }
  const { vocabSize } = options;
  assert(vocabSize !== undefined, 'a size or a tokenizer is given');
  const old = work.read(TOKENIZER_PART);
  const tokenizer = old === null ? train(vocabSize) : tokenizerFromJson(old, TOKENIZER_PART);
  if (tokenizer.vocabSize < vocabSize) {
    warnings.push(
      `vocabSize ${vocabSize}: the text yields ${tokenizer.vocabSize} tokens, and that is the size taken`,
    );
  }
  const { samplingFactor } = samplingSchema.parse(JSON.parse(work.read(SAMPLING_PART) ?? 'null'));
  if (samplingFactor > 1) {
    const factor = Math.round(samplingFactor * 10) / 10;
    warnings.push(`the tokenizer was trained on a sample of the articles, about 1 in ${factor}`);
  }
  return tokenizer;

  function train(size: number): BpeTokenizer {
    const units = site.plan.inputs.flatMap((_, index) => unitsOf(site, index));
    const words = sumWords(work, units);
    const { counts } = words;
    if (counts.size === 0) throw nothingKept(options);
    const tokenizer = trainBpe(counts, size, (done, total) => watch.set(done, total));
    const samplingFactor = words.samplingFactor / site.plan.sampleRate;
    work.write(SAMPLING_PART, JSON.stringify({ samplingFactor }));
    work.write(TOKENIZER_PART, tokenizerToJson(tokenizer));
    for (const ref of units) work.removePart('words', ref);
    return tokenizer;
  }
}

async function encode(site: JobSite, runJobs: RunJobs, watch: PhaseWatch): Promise<void> {
  const units = site.plan.inputs.flatMap((_, index) => unitsOf(site, index));
  watch.start('encode', units.length);
  const todo = units
    .map((ref) => ({ phase: 'encode', ...ref, bytes: 1 }) as const)
    .filter((job) => !site.isDone(job));
  watch.add(units.length - todo.length);
  const jobs = (async function* () {
    yield* todo;
  })();
  await runJobs(site, jobs, () => watch.add(1));
}

async function write(
  site: JobSite,
  tokenizer: BpeTokenizer,
  options: PrepareOptions,
  watch: PhaseWatch,
  warnings: readonly string[],
): Promise<FinishedDataset> {
  const assembly = new Assembly(site);
  watch.start('write', 0);
  const documents = assembly.documents((done) => watch.set(done, done));
  const folder = new StagedFolder(options.outDir, MANIFEST_FILE);
  try {
    const written = await writeShards(folder, tokenizer, documents, options);
    if (written.documents === 0) throw nothingKept(options);
    const report = assembly.report(warnings);
    for (const warning of report.warnings) options.onWarning?.(warning);
    return finishDataset(folder, tokenizer, written, {
      articleSamples: written.articleSamples,
      source: site.plan.inputs.map(sourceEntry),
      report,
    });
  } finally {
    folder.abort();
  }
}

/** Token shards of documents, in their order. */
async function writeShards(
  folder: StagedFolder,
  tokenizer: BpeTokenizer,
  documents: AsyncIterable<EncodedDocument>,
  options: PrepareOptions,
) {
  const writer = new TokenShardWriter(folder, tokenizer.vocabSize, options.tokenShardBytes);
  const samples = new ArticleSamples();
  for await (const { ids, hash, sample } of documents) {
    writer.append(ids, hash);
    if (sample !== null) samples.add(sample);
  }
  return { ...writer.finish(), articleSamples: folder.write(ARTICLE_SAMPLES_FILE, samples.toJson()) };
}

function sourceEntry({ path, format, bytes, sha256 }: Plan['inputs'][number]): Manifest['source'][number] {
  return { file: basename(path), format, bytes, sha256 };
}

function nothingKept(options: PrepareOptions): LockstepError {
  return new LockstepError(
    'DATA_CORRUPT',
    `${options.inputs.join(', ')}: no article is left after cleaning: check --format, or lower --min-characters`,
  );
}

/** Which phase it is, how far it has come, and how long each one took. */
class PhaseWatch {
  readonly #onProgress: (progress: PrepareProgress) => void;
  readonly #phaseMs = { scan: 0, clean: 0, train: 0, encode: 0, write: 0 };
  #phase: PreparePhase = 'scan';
  #startMs = performance.now();
  #done = 0;
  #total = 0;
  #articles = 0;

  constructor(onProgress: (progress: PrepareProgress) => void) {
    this.#onProgress = onProgress;
  }

  start(phase: PreparePhase, total: number): void {
    this.end();
    this.#phase = phase;
    this.set(0, total);
  }

  add(done: number, articles = 0): void {
    this.#articles += articles;
    this.set(this.#done + done, this.#total);
  }

  set(done: number, total: number): void {
    this.#done = done;
    this.#total = total;
    this.#onProgress({ phase: this.#phase, done, total, articles: this.#articles });
  }

  end(): Record<PreparePhase, number> {
    const nowMs = performance.now();
    this.#phaseMs[this.#phase] += nowMs - this.#startMs;
    this.#startMs = nowMs;
    return { ...this.#phaseMs };
  }
}
