/**
 * Cuts input that must be read from its beginning into batches of articles, one after another, for others to clean.
 * The cuts depend on the articles only. A batch is written when a job for it can be taken soon, and deleted when its
 * documents are there, so that few lie on disk at any time.
 */
import { LockstepError } from '../../base/index.ts';
import { type Article, noDrops, type SourceRecord } from '../article.ts';
import { recordsOfWhole } from '../input/index.ts';
import { writeDocuments } from './document-parts.ts';
import type { JobSite, PrepareJob } from './jobs.ts';

const cutFile = (input: number): string => `cut-${String(input).padStart(4, '0')}.json`;

/** How many batches an input has; null until it has been read to its end. */
export function batchCount(site: JobSite, input: number): number | null {
  const text = site.work.read(cutFile(input));
  return text === null ? null : (JSON.parse(text) as { readonly batches: number }).batches;
}

/** The clean jobs of an input of batches that are not done; the batches are cut as the jobs are asked for. */
export async function* batchJobs(site: JobSite, input: number): AsyncGenerator<PrepareJob> {
  const known = batchCount(site, input);
  if (known !== null) {
    for (let unit = 0; unit < known; unit += 1) {
      const job = { phase: 'clean', input, unit, bytes: 0 } as const;
      if (!site.isDone(job)) yield job;
    }
    return;
  }
  const cutter = new Cutter(site, input);
  let bytes = 0;
  for (let unit = 0; ; unit += 1) {
    const job = { phase: 'clean', input, unit } as const;
    const isDone = site.isDone(job);
    const more = await cutter.cut(unit, isDone);
    const read = cutter.bytesRead;
    if (!isDone) yield { ...job, bytes: read - bytes };
    bytes = read;
    if (more) continue;
    site.work.write(cutFile(input), JSON.stringify({ batches: unit + 1 }));
    return;
  }
}

class Cutter {
  readonly #site: JobSite;
  readonly #input: number;
  readonly #source: ReturnType<typeof recordsOfWhole>;
  #warnings: string[] = [];
  #ended = false;

  constructor(site: JobSite, input: number) {
    this.#site = site;
    this.#input = input;
    const { path, format } = site.plan.inputs[input]!;
    const warn = (message: string) => {
      this.#warnings.push(message);
    };
    this.#source = recordsOfWhole({ file: path, allowTruncated: site.plan.allowTruncated, warn }, format);
  }

  get bytesRead(): number {
    return this.#source.bytes.bytesRead;
  }

  /** Reads a batch and, unless it is `isDone` with, writes it; false when it is the last. */
  async cut(unit: number, isDone: boolean): Promise<boolean> {
    const { work } = this.#site;
    const ref = { input: this.#input, unit };
    const batch = this.#batch();
    if (isDone || work.hasPart('raw', ref)) for await (const _ of batch);
    else await writeDocuments(work, 'raw', ref, batch);
    return !this.#ended;
  }

  async *#batch(): AsyncGenerator<
    Article,
    { articlesRead: number; dropped: ReturnType<typeof noDrops>; warnings: string[] }
  > {
    const dropped = noDrops();
    let articlesRead = 0;
    let characters = 0;
    while (characters < this.#site.plan.unitBytes) {
      const record = await this.#next();
      if (record === null) break;
      articlesRead += 1;
      if (record.kind === 'dropped') dropped[record.reason] += 1;
      else {
        characters += record.article.text.length;
        yield record.article;
      }
    }
    const warnings = this.#warnings;
    this.#warnings = [];
    return { articlesRead, dropped, warnings };
  }

  async #next(): Promise<SourceRecord | null> {
    const next = await this.#source.records.next();
    if (next.done !== true) return next.value;
    this.#ended = true;
    return null;
  }
}

/** Throws for an input whose batches are not all cut: a defect of the caller, as assembly comes after cleaning. */
export function knownBatchCount(site: JobSite, input: number): number {
  const count = batchCount(site, input);
  if (count !== null) return count;
  throw new LockstepError(
    'DATA_CORRUPT',
    `${site.work.directory}: ${cutFile(input)} is missing: delete the folder and run \`lockstep prepare\` again`,
  );
}
