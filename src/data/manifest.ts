/**
 * A data set's manifest: what files belong to it, their sizes and SHA-256, its tokenizer and where it
 * came from. It holds no dates, paths or machine names, so that the same input gives the same bytes;
 * the SHA-256 of the manifest file is the data set's identity and part of a run's fingerprint.
 */
import { z } from 'zod';
import { LockstepError } from '../base/index.ts';
import { DROP_REASONS } from './article.ts';
import { INPUT_FORMATS } from './input/index.ts';

export const MANIFEST_FILE = 'manifest.json';
export const TOKENIZER_FILE = 'tokenizer.json';
export const DOCUMENTS_FILE = 'documents.bin';
export const DOCUMENT_HASHES_FILE = 'document-hashes.bin';
export const ARTICLE_SAMPLES_FILE = 'articles.json';
export const MANIFEST_VERSION = 2;

export const tokenShardFile = (index: number): string => `tokens-${String(index).padStart(5, '0')}.bin`;

/** Whether `name` is that of a token shard, of whatever data set. */
export const isTokenShardFile = (name: string): boolean => /^tokens-\d{5,}\.bin$/.test(name);

const count = z.int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits');
/** Plain names only: a manifest must not lead a reader out of its folder. */
const fileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'must be a plain file name');
const fileSchema = z.strictObject({ file: fileName, bytes: count, sha256 });

const reportSchema = z.strictObject({
  /** Pages, lines or blocks met in the inputs: kept and dropped together. */
  articlesRead: count,
  articlesKept: count,
  dropped: z.strictObject(
    Object.fromEntries(DROP_REASONS.map((reason) => [reason, count])) as Record<
      (typeof DROP_REASONS)[number],
      typeof count
    >,
  ),
  /** UTF-16 units of cleaned text. */
  characters: count,
  tokens: count,
  /** Pieces of markup left in the text: `[[`, `{{`, `<ref`, `{|` and `'''`. */
  leftovers: count,
  warnings: z.array(z.string()),
});

/** `persona-chat` makes pairs only. */
const SOURCE_FORMATS = [...INPUT_FORMATS, 'persona-chat'] as const;

/** Tokens, without `<s>` and `</s>`; quantiles by nearest rank. */
const lengthsSchema = z.strictObject({ median: count, percentile99: count, longest: count });

export const manifestSchema = z.strictObject({
  format: z.literal('lockstep-dataset'),
  version: z.literal(MANIFEST_VERSION),
  tokenizer: fileSchema,
  vocabSize: z.int().min(1),
  specialIds: z.strictObject({ bos: count, pad: count, eos: count, unk: count, mask: count }),
  /** Bytes of one token id in the shards, little-endian. */
  idBytes: z.union([z.literal(2), z.literal(4)]),
  tokens: count,
  documents: count,
  /** The token count of each document in order, u32 little-endian, over all shards. */
  documentIndex: fileSchema,
  /** The hash of each document in order, u32 little-endian: what decides its split (see split.ts). */
  documentHashes: fileSchema,
  /** A few articles before and after cleaning (see article-samples.ts). */
  articleSamples: fileSchema,
  /** Documents lie end to end, without `<s>` and `</s>`, and none spans two shards. */
  shards: z.array(z.strictObject({ ...fileSchema.shape, tokens: count, documents: count })),
  source: z.array(z.strictObject({ file: z.string(), format: z.enum(SOURCE_FORMATS), bytes: count, sha256 })),
  report: reportSchema,
  /**
   * Of a data set of pairs only: documents are sources and targets in turn, the two of a pair with one hash, so that
   * no text is on both sides of the split.
   */
  pairs: z
    .strictObject({
      count: z.int().min(1),
      source: lengthsSchema,
      target: lengthsSchema,
      /** The members that held them, where they came as JSON lines. */
      fields: z.strictObject({ source: z.string(), target: z.string(), group: z.string() }).nullable(),
    })
    .optional(),
});

export type Manifest = z.infer<typeof manifestSchema>;
export type PrepareReport = z.infer<typeof reportSchema>;
export type PairLengths = z.infer<typeof lengthsSchema>;
export type TokenShard = Manifest['shards'][number];
export type FileEntry = z.infer<typeof fileSchema>;

export function manifestText(manifest: Manifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** Every file that the manifest names. */
export function filesOf(manifest: Manifest): FileEntry[] {
  const { tokenizer, documentIndex, documentHashes, articleSamples, shards } = manifest;
  return [tokenizer, documentIndex, documentHashes, articleSamples, ...shards];
}

/** Parses and cross-checks a manifest's text; throws DATA_CORRUPT naming the first bad field. */
export function parseManifest(text: string, file: string): Manifest {
  const corrupt = (what: string, cause?: unknown) =>
    new LockstepError('DATA_CORRUPT', `${file}: ${what}: prepare the data set again`, {
      context: { file },
      cause,
    });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw corrupt('is not JSON', cause);
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw corrupt(`field "${issue.path.join('.')}": ${issue.message}`);
  }
  const manifest = parsed.data;
  const sum = (key: 'tokens' | 'documents') =>
    manifest.shards.reduce((total, shard) => total + shard[key], 0);
  for (const key of ['tokens', 'documents'] as const) {
    if (sum(key) !== manifest[key]) {
      throw corrupt(`field "${key}" is ${manifest[key]}, but the shards hold ${sum(key)}`);
    }
  }
  const { pairs, documents } = manifest;
  if (pairs !== undefined && documents !== 2 * pairs.count) {
    throw corrupt(`field "documents" is ${documents}, but ${pairs.count} pairs have ${2 * pairs.count}`);
  }
  const bad = manifest.shards.find((shard) => shard.bytes !== shard.tokens * manifest.idBytes);
  if (bad !== undefined) throw corrupt(`shard "${bad.file}" has ${bad.bytes} bytes for ${bad.tokens} tokens`);
  return manifest;
}
