/**
 * From parts to the data set's documents: in the order of inputs and units, whoever made the parts and when; of equal
 * texts the first stays. The counts of the report come from the same pass, so that they agree with what
 * was written.
 */
import { basename } from 'node:path';
import { DROP_REASONS, type DropReason, noDrops } from '../article.ts';
import type { PrepareReport } from '../manifest.ts';
import { knownBatchCount } from './batches.ts';
import { DigestSet } from './digest-set.ts';
import { type EncodedDocument, readEncoded } from './encoded-part.ts';
import type { JobSite } from './jobs.ts';
import type { UnitRef } from './work-folder.ts';

export class Assembly {
  readonly #site: JobSite;
  readonly #dropped: Record<DropReason, number> = noDrops();
  readonly #warnings: string[] = [];
  #articlesRead = 0;
  #articlesKept = 0;
  #characters = 0;
  #leftovers = 0;
  #tokens = 0;

  constructor(site: JobSite) {
    this.#site = site;
  }

  /** All documents that stay; to be iterated once, with every part in place. */
  async *documents(onUnit: (done: number) => void): AsyncGenerator<EncodedDocument> {
    const seen = new DigestSet();
    let done = 0;
    for (const [index, { layout, path }] of this.#site.plan.inputs.entries()) {
      const readBefore = this.#articlesRead;
      for (const ref of unitsOf(this.#site, index)) {
        yield* this.#documentsOf(ref, seen);
        done += 1;
        onUnit(done);
      }
      const read = this.#articlesRead - readBefore;
      if (layout.kind === 'blocks' && layout.pages !== null && layout.pages !== read) {
        this.#warnings.push(
          `${basename(path)}: its index lists ${layout.pages} pages, but ${read} were read: fetch both again`,
        );
      }
    }
  }

  /** The counts, once `documents` has ended; `warnings` follow the readers'. */
  report(warnings: readonly string[]): PrepareReport {
    return {
      articlesRead: this.#articlesRead,
      articlesKept: this.#articlesKept,
      dropped: { ...this.#dropped },
      characters: this.#characters,
      tokens: this.#tokens,
      leftovers: this.#leftovers,
      warnings: [...this.#warnings, ...warnings],
    };
  }

  *#documentsOf(ref: UnitRef, seen: DigestSet): Generator<EncodedDocument> {
    const documents = readEncoded(this.#site.work, ref);
    for (;;) {
      const next = documents.next();
      if (next.done === true) {
        const { articlesRead, dropped, warnings } = next.value;
        this.#articlesRead += articlesRead;
        for (const reason of DROP_REASONS) this.#dropped[reason] += dropped[reason];
        const { path } = this.#site.plan.inputs[ref.input]!;
        // Reports go into the manifest, which must not tell where on a machine the input lay.
        this.#warnings.push(...warnings.map((text) => text.replaceAll(path, () => basename(path))));
        return;
      }
      const document = next.value;
      if (!seen.add(document.digest)) this.#dropped.duplicate += 1;
      else {
        this.#articlesKept += 1;
        this.#characters += document.characters;
        this.#leftovers += document.leftovers;
        this.#tokens += document.ids.length;
        yield document;
      }
    }
  }
}

/** The units of input `index` in order, once all its batches are cut. */
export function unitsOf(site: JobSite, index: number): UnitRef[] {
  const { layout } = site.plan.inputs[index]!;
  const count = layout.kind === 'batches' ? knownBatchCount(site, index) : layout.units.length;
  return Array.from({ length: count }, (_, unit) => ({ input: index, unit }));
}
