/**
 * The two kinds of jobs of a preparation: `clean` makes documents of a unit's articles, and counts the words of the
 * sampled ones; `encode` makes token ids of the documents. A job depends on the plan and the files it names
 * only, and leaves its part whole or nothing, so that it may run anywhere, twice, or again after a kill.
 */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import { LockstepError } from '../../base/index.ts';
import { type Article, type CleanDocument, DROP_REASONS, noDrops, type SourceRecord } from '../article.ts';
import { ArticleSamples, articleSample } from '../article-samples.ts';
import { cleanArticle, countLeftovers } from '../clean/index.ts';
import { recordsOfUnit } from '../input/index.ts';
import { documentHash } from '../split.ts';
import { type BpeTokenizer, tokenizerFromJson, WordCounter } from '../tokenizer/index.ts';
import { type PartSummary, readDocuments, writeDocuments } from './document-parts.ts';
import { type EncodedDocument, writeEncoded } from './encoded-part.ts';
import { minCharactersOf, type Plan } from './plan.ts';
import { writeWords } from './word-parts.ts';
import { type UnitRef, WorkFolder } from './work-folder.ts';

export const TOKENIZER_PART = 'tokenizer.json';

const jobSchema = z.strictObject({
  phase: z.enum(['clean', 'encode']),
  input: z.int().min(0),
  unit: z.int().min(0),
  /** Weight for progress. */
  bytes: z.number(),
});
export type PrepareJob = Readonly<z.infer<typeof jobSchema>>;

/** Timers, locks' renewals among them, get a turn after so much work. */
const TURN_MS = 50;

export class JobSite {
  readonly work: WorkFolder;
  readonly plan: Plan;
  #tokenizer: BpeTokenizer | null = null;

  constructor(work: WorkFolder, plan: Plan) {
    this.work = work;
    this.plan = plan;
  }

  /** Opens the preparation under way in `outDir`, or null when there is none. */
  static open(outDir: string): JobSite | null {
    const work = new WorkFolder(outDir);
    const plan = work.plan();
    return plan === null ? null : new JobSite(work, plan);
  }

  /** A job as a queue brings it. Throws CONFIG_MISMATCH for one that the plan does not know. */
  parseJob(data: unknown): PrepareJob {
    const parsed = jobSchema.safeParse(data);
    const layout = parsed.success ? this.plan.inputs[parsed.data.input]?.layout : undefined;
    const isKnown =
      parsed.success &&
      layout !== undefined &&
      (layout.kind === 'batches' || parsed.data.unit < layout.units.length);
    if (isKnown) return parsed.data;
    throw new LockstepError(
      'CONFIG_MISMATCH',
      `the job queue holds a job that the plan in ${this.work.directory} does not know: use one version of Lockstep for all workers`,
    );
  }

  isDone({ phase, ...ref }: UnitRef & { readonly phase: PrepareJob['phase'] }): boolean {
    const { work } = this;
    return work.hasPart('encoded', ref) || (phase === 'clean' && work.hasPart('clean', ref));
  }

  /**
   * Does a job, unless it is done; `isRetry` clears away what an attempt that was killed has left. Resolves with the
   * number of documents. Errors are those of the readers, and DISK_FULL.
   */
  async run(job: PrepareJob, isRetry = false): Promise<number> {
    if (this.isDone(job)) return 0;
    const ref = { input: job.input, unit: job.unit };
    if (isRetry) this.work.removeUnfinished(ref);
    return job.phase === 'clean' ? await this.#clean(ref) : await this.#encode(ref);
  }

  async #clean(ref: UnitRef): Promise<number> {
    const { work, plan } = this;
    const words = new WordCounter();
    const sampleBelow = plan.sampleRate * 2 ** 32;
    const documents = cleanUnit(work, plan, ref, (document) => {
      if (Number.parseInt(document.digest.slice(0, 8), 16) < sampleBelow) words.add(document.text);
    });
    const beforeCommit = () => {
      // Before the documents: where they are, the counts must not be missing.
      if (plan.sampleRate > 0) writeWords(work, ref, words);
    };
    const { documents: count } = await writeDocuments(work, 'clean', ref, documents, beforeCommit);
    work.removePart('raw', ref);
    return count;
  }

  async #encode(ref: UnitRef): Promise<number> {
    this.#tokenizer ??= readTokenizer(this.work);
    const { documents } = await writeEncoded(
      this.work,
      ref,
      encodeDocuments(readDocuments(this.work, 'clean', ref), this.#tokenizer),
    );
    this.work.removePart('clean', ref);
    return documents;
  }
}

function readTokenizer(work: WorkFolder): BpeTokenizer {
  const text = work.read(TOKENIZER_PART);
  if (text === null) {
    throw new LockstepError('DATA_MISSING', `${work.directory} holds no ${TOKENIZER_PART}: prepare again`);
  }
  return tokenizerFromJson(text, TOKENIZER_PART);
}

/** The documents of a unit's articles, in order; what was dropped goes into the summary. */
async function* cleanUnit(
  work: WorkFolder,
  plan: Plan,
  ref: UnitRef,
  onDocument: (document: CleanDocument) => void,
): AsyncGenerator<CleanDocument, Omit<PartSummary, 'documents'>> {
  const input = plan.inputs[ref.input]!;
  const minCharacters = minCharactersOf(plan, input);
  const warnings: string[] = [];
  const context = {
    file: input.path,
    allowTruncated: plan.allowTruncated,
    warn: (message: string) => warnings.push(message),
  };
  const keep = new Set(plan.keep);
  const dropped = noDrops();
  let articlesRead = 0;
  const records: AsyncGenerator<SourceRecord, PartSummary | null> =
    input.layout.kind === 'batches' ? rawRecords(work, ref) : recordsOfUnit(input, ref.unit, context);
  const samples = new ArticleSamples();
  const turn = new Turn();
  for (;;) {
    const next = await records.next();
    if (next.done === true) {
      const batch = next.value;
      for (const reason of DROP_REASONS) {
        const count = batch?.dropped[reason] ?? 0;
        dropped[reason] += count;
        articlesRead += count;
      }
      return { articlesRead, dropped, warnings: [...(batch?.warnings ?? []), ...warnings] };
    }
    articlesRead += 1;
    const record = next.value;
    const result = record.kind === 'article' ? cleanArticle(record.article, keep) : record;
    const text = result.kind === 'article' ? result.paragraphs.join('\n') : '';
    if (result.kind === 'dropped') dropped[result.reason] += 1;
    else if (text.length < minCharacters) dropped.tooShort += 1;
    else {
      const { article } = record as { readonly article: Article };
      const { id, title } = article;
      const digest = digestOf(text);
      const hash = documentHash({ title, digest });
      const sample = samples.wants(hash) ? articleSample(hash, title, article.text, text) : null;
      if (sample !== null) samples.add(sample);
      const document = { id, title, text, digest, hash, sample };
      onDocument(document);
      yield document;
    }
    await turn.give();
  }
}

async function* rawRecords(work: WorkFolder, ref: UnitRef): AsyncGenerator<SourceRecord, PartSummary> {
  const articles = readDocuments(work, 'raw', ref);
  for (;;) {
    const next = await articles.next();
    if (next.done === true) return next.value;
    yield { kind: 'article', article: next.value };
  }
}

async function* encodeDocuments(
  documents: AsyncGenerator<CleanDocument, PartSummary>,
  tokenizer: BpeTokenizer,
): AsyncGenerator<EncodedDocument, PartSummary> {
  const turn = new Turn();
  for (;;) {
    const next = await documents.next();
    if (next.done === true) return next.value;
    const { text, ...document } = next.value;
    const ids = Uint32Array.from(tokenizer.encode(text));
    yield { ...document, characters: text.length, leftovers: countLeftovers(text), ids };
    await turn.give();
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

class Turn {
  #lastMs = performance.now();

  async give(): Promise<void> {
    if (performance.now() - this.#lastMs < TURN_MS) return;
    await setImmediate();
    this.#lastMs = performance.now();
  }
}
