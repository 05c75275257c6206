/**
 * Finds official dumps and their checksums. Wikimedia lists a wiki's dumps by date; the status of each names the files
 * of every job with size and SHA-1. The newest whose multistream articles are complete is taken: with its
 * index, many readers can share it.
 * Layout: https://dumps.wikimedia.org/simplewiki/ and .../<date>/dumpstatus.json
 */
import { z } from 'zod';
import { LockstepError, messageOf } from '../../base/index.ts';
import { type Checksum, fileNameOf } from './download.ts';

export const DUMPS_URL = 'https://dumps.wikimedia.org';
const JOB = 'articlesmultistreamdump';
const ANSWER_MS = 30_000;

export interface RemoteFile {
  readonly url: string;
  /** Null when the server did not say. */
  readonly bytes: number | null;
  readonly checksum: Checksum | null;
  /** False for what belongs to an input without being one: an index. */
  readonly isInput: boolean;
}

const statusSchema = z.object({
  jobs: z.record(
    z.string(),
    z.object({
      status: z.string(),
      files: z
        .record(
          z.string(),
          z.object({
            size: z.number().optional(),
            url: z.string().optional(),
            sha1: z.string().optional(),
            md5: z.string().optional(),
          }),
        )
        .optional(),
    }),
  ),
});

export interface WikipediaDump {
  /** `enwiki`. */
  readonly wiki: string;
  /** `20240101`. */
  readonly date: string;
  readonly files: readonly RemoteFile[];
}

/**
 * The newest complete dump of the Wikipedia in `language` (`en`, `simple`, `zh-min-nan`). Throws CONFIG_INVALID
 * for what is no language code, DATA_MISSING when there is none or the server does not answer.
 */
export async function newestDump(language: string, base = DUMPS_URL): Promise<WikipediaDump> {
  if (!/^[a-z][a-z0-9-]{1,30}$/.test(language)) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `--wikipedia ${language}: expected the code of a language, as en or simple`,
    );
  }
  const wiki = `${language.replaceAll('-', '_')}wiki`;
  const root = `${base.replace(/\/+$/, '')}/${wiki}`;
  const listing = await fetchText(`${root}/`);
  const dates = [...new Set(listing?.match(/\b\d{8}(?=\/)/g))].sort().reverse();
  for (const date of dates) {
    const text = await fetchText(`${root}/${date}/dumpstatus.json`);
    const files = text === null ? null : filesOfStatus(text, base);
    if (files !== null) return { wiki, date, files };
  }
  const found = listing === null ? 'no such wiki' : `${dates.length} dumps, none of them complete`;
  throw new LockstepError(
    'DATA_MISSING',
    `--wikipedia ${language}: ${root}/ has ${found}: check the language, or name a dump's address`,
  );
}

/** The files of a complete job, in order of pages; null when it is not complete. */
function filesOfStatus(text: string, base: string): RemoteFile[] | null {
  let status: z.infer<typeof statusSchema>;
  try {
    status = statusSchema.parse(JSON.parse(text));
  } catch {
    // Of an older layout, or being written at this moment: the dump before it will do.
    return null;
  }
  const job = status.jobs[JOB];
  if (job?.status !== 'done' || job.files === undefined) return null;
  const names = Object.keys(job.files).sort((a, b) => firstPageOf(a) - firstPageOf(b) || (a < b ? -1 : 1));
  return names.map((name) => {
    const { url, size, sha1, md5 } = job.files![name]!;
    return {
      url: new URL(url ?? name, `${base.replace(/\/+$/, '')}/`).href,
      bytes: size ?? null,
      checksum: checksumOf(sha1, md5),
      isInput: !name.includes('-index'),
    };
  });
}

const firstPageOf = (name: string): number => Number(/-p(\d+)p\d+/.exec(name)?.[1] ?? 0);

function checksumOf(sha1: string | undefined, md5: string | undefined): Checksum | null {
  if (sha1 !== undefined) return { algorithm: 'sha1', hex: sha1.toLowerCase() };
  return md5 === undefined ? null : { algorithm: 'md5', hex: md5.toLowerCase() };
}

/**
 * What is published about the file at `url`: the list of checksums that lies beside it, as Wikimedia's
 * `<wiki>-<date>-sha1sums.txt` or plainly `sha1sums.txt`. Throws DATA_MISSING when the server does not answer.
 */
export async function describeRemote(url: string): Promise<RemoteFile> {
  const name = fileNameOf(url);
  const stem = /^(\w+-(?:\d{8}|latest)-)/.exec(name)?.[1] ?? '';
  for (const algorithm of ['sha1', 'md5'] as const) {
    for (const list of new Set([`${stem}${algorithm}sums.txt`, `${algorithm}sums.txt`])) {
      const text = await fetchText(new URL(list, url).href);
      const hex = text === null ? undefined : checksumIn(text, name);
      if (hex !== undefined)
        return { url, bytes: await sizeOf(url), checksum: { algorithm, hex }, isInput: true };
    }
  }
  return { url, bytes: await sizeOf(url), checksum: null, isInput: true };
}

/** The list of `latest` names files by their date. */
function checksumIn(list: string, name: string): string | undefined {
  const undated = (text: string) => text.replace(/^(\w+)-(?:\d{8}|latest)-/, '$1-');
  const line = list.split('\n').find((entry) => undated(entry.split(/\s+\*?/)[1] ?? '') === undated(name));
  const hex = line?.split(/\s/)[0]?.toLowerCase();
  return hex !== undefined && /^[0-9a-f]{32,40}$/.test(hex) ? hex : undefined;
}

async function sizeOf(url: string): Promise<number | null> {
  return await ask(url, 'HEAD', async (response) => {
    const length = response.headers.get('content-length');
    return response.ok && length !== null ? Number(length) : null;
  });
}

/** A small file's text; null when it is not there. */
async function fetchText(url: string): Promise<string | null> {
  return await ask(url, 'GET', async (response) => {
    if (response.ok) return await response.text();
    await response.body?.cancel();
    return null;
  });
}

async function ask<T>(
  url: string,
  method: 'GET' | 'HEAD',
  use: (response: Response) => Promise<T>,
): Promise<T> {
  try {
    return await use(await fetch(url, { method, signal: AbortSignal.timeout(ANSWER_MS) }));
  } catch (cause) {
    const reason = messageOf(cause instanceof TypeError && cause.cause !== undefined ? cause.cause : cause);
    throw new LockstepError(
      'DATA_MISSING',
      `${url} cannot be fetched (${reason}): check the network and the address`,
      { cause },
    );
  }
}
