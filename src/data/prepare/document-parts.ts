/**
 * Parts of articles or documents as JSON lines, one a line; the last line is a summary with the number of those
 * before it, so that a part that lost its end is not taken for a whole one.
 */
import { LockstepError } from '../../base/index.ts';
import type { Article, CleanDocument, DropCounts } from '../article.ts';
import { readBytes } from '../input/byte-source.ts';
import { readLines } from '../input/index.ts';
import type { PartKind, UnitRef, WorkFolder } from './work-folder.ts';

/** What was met on the way to a part. */
export interface PartSummary {
  /** Pages, lines or blocks read: those in the part and those dropped. */
  readonly articlesRead: number;
  readonly dropped: DropCounts;
  readonly warnings: readonly string[];
  /** Articles or documents in the part. */
  readonly documents: number;
}

interface Content {
  readonly raw: Article;
  readonly clean: CleanDocument;
}

/** Writes items to a part as `fill` yields them; the summary is what `fill` returns, with their number. */
export async function writeDocuments<K extends keyof Content>(
  work: WorkFolder,
  kind: K,
  ref: UnitRef,
  fill: AsyncGenerator<Content[K], Omit<PartSummary, 'documents'>>,
  beforeCommit: () => void = () => {},
): Promise<PartSummary> {
  const part = work.createPart(kind, ref);
  let documents = 0;
  try {
    for (;;) {
      const next = await fill.next();
      if (next.done === true) {
        const summary = { ...next.value, documents };
        part.append(Buffer.from(`${JSON.stringify({ summary })}\n`));
        beforeCommit();
        part.commit();
        return summary;
      }
      part.append(Buffer.from(`${JSON.stringify(next.value)}\n`));
      documents += 1;
    }
  } finally {
    part.abort();
  }
}

/** The items of a part, in order, then its summary. Throws DATA_CORRUPT for a part that is not whole. */
export async function* readDocuments<K extends keyof Content>(
  work: WorkFolder,
  kind: K & PartKind,
  ref: UnitRef,
): AsyncGenerator<Content[K], PartSummary> {
  const path = work.partPath(kind, ref);
  let documents = 0;
  for await (const { text, ended } of readLines(readBytes(path), path)) {
    if (!ended) break;
    // This process or another of the same version wrote it, and the summary says that all of it is there.
    const value = JSON.parse(text) as Content[K] | { readonly summary: PartSummary };
    if (!('summary' in value)) {
      documents += 1;
      yield value;
    } else if (value.summary.documents === documents) return value.summary;
  }
  throw new LockstepError(
    'DATA_CORRUPT',
    `${path} is not whole: delete it and run \`lockstep prepare\` again`,
  );
}
