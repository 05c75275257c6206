/** An input's format: named by the user, told from its name, or from how its content begins. */
import { closeSync, openSync, readSync } from 'node:fs';
import { LockstepError } from '../../base/index.ts';
import { ByteSource } from './byte-source.ts';
import { compressionOf } from './compression.ts';

export const INPUT_FORMATS = ['mediawiki', 'json-lines', 'text', 'parquet'] as const;
export type InputFormat = (typeof INPUT_FORMATS)[number];

const FORMAT_OF_EXTENSION: ReadonlyMap<string, InputFormat> = new Map([
  ['xml', 'mediawiki'],
  ['jsonl', 'json-lines'],
  ['ndjson', 'json-lines'],
  ['txt', 'text'],
  ['text', 'text'],
  ['parquet', 'parquet'],
]);
const HEAD_BYTES = 4096;

/** The format that `file`'s name tells, a compression's suffix left aside, or null. */
export function formatOfName(file: string): InputFormat | null {
  const bare = file.slice(0, file.length - compressionOf(file).length);
  const extension = /\.([^./\\]+)$/.exec(bare)?.[1]?.toLowerCase() ?? '';
  return FORMAT_OF_EXTENSION.get(extension) ?? null;
}

/**
 * The file's format by its name, else by its first bytes: WikiExtractor writes JSON lines into `wiki_00`. Throws
 * CONFIG_INVALID when neither tells, DATA_MISSING when it cannot be read.
 */
export async function formatOf(file: string): Promise<InputFormat> {
  const byName = formatOfName(file);
  if (byName !== null) return byName;
  const head = await headOf(file);
  if (head.subarray(0, 4).toString('latin1') === 'PAR1') return 'parquet';
  const text = head.toString('utf8').replace(/^\ufeff/, '');
  if (/<mediawiki|<page>/.test(text)) return 'mediawiki';
  if (/^\s*\{\s*"/.test(text)) return 'json-lines';
  throw new LockstepError(
    'CONFIG_INVALID',
    `${file}: neither its name nor its first bytes tell the format: pass --format (${INPUT_FORMATS.join(', ')})`,
    { context: { file } },
  );
}

async function headOf(file: string): Promise<Buffer> {
  const source = new ByteSource({ file, allowTruncated: true, warn: () => {} });
  if (compressionOf(file) === '') {
    const head = Buffer.alloc(Math.min(HEAD_BYTES, source.fileBytes));
    const descriptor = openSync(file, 'r');
    try {
      readSync(descriptor, head);
    } finally {
      closeSync(descriptor);
    }
    return head;
  }
  for await (const chunk of source.chunks()) return chunk.subarray(0, HEAD_BYTES);
  return Buffer.alloc(0);
}
